"""The commands of ``manage.py`` that the app adds."""
