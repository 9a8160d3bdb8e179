"""Models with a fault at a known place, and a check of what is said about the place."""
