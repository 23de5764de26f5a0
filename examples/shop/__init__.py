"""A small shop that offers financing: copy what you need. ``python -m nox -s shop`` runs it."""
