"""What a check leaves alone: everything that is not its own."""
