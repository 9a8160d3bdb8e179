"""Who is right about the same thirty functions: `check_function` and other gradient checkers.

Run `python -m tools.checkers`.
"""
