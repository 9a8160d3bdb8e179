"""Failing checks on disk: what it takes to make one again, elsewhere, with the same numbers."""
