"""A compiled Keras model and a fixed batch as a loss along a line."""
