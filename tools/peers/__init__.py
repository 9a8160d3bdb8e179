"""What a check costs beside the gradient checkers of other libraries.

Run `python -m tools.peers`.
"""
