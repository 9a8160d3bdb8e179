"""What a check costs beside the gradient checkers of other libraries: run `python -m tools.peers`."""
