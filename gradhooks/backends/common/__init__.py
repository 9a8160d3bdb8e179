"""What every backend needs and no framework is needed for: NumPy and the standard library alone."""
