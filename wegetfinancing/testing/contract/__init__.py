"""Contracts as checks, for authors of a transport, a delivery store or a ledger of their own."""
