"""Contracts as checks, for authors of a transport of their own."""
