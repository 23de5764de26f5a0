"""The example shop and the emulator in a real browser: ``python -m nox -s browser``."""
