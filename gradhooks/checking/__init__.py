"""One check: everything that asks an oracle."""
