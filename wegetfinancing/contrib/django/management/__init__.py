"""The app's part of ``manage.py``."""
