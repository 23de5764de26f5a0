"""The example shop and the sandbox in a real browser: ``python -m nox -s browser``."""
