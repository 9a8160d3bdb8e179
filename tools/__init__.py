"""Commands for those who work on gradhooks: `python -m tools.NAME`."""
