"""The rules of a ledger over a small storage protocol, without I/O of their own."""
