"""Calls out: the client, and what carries its requests."""
