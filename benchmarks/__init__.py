"""What the package costs beside doing the same by hand: ``python -m nox -s bench``."""
