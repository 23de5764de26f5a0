"""A small shop in Django that offers financing, to copy from. ``python -m nox -s django_shop`` runs it."""
