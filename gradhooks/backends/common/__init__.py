"""What every backend needs and no framework provides: NumPy and the standard library alone."""
