"""A finished report in, nothing back: a table, a message, TensorBoard."""
