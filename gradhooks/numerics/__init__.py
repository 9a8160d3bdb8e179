"""Numerical differentiation and verdicts; NumPy only."""
