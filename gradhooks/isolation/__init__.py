"""A check changes the process for its own thread alone, and restores what user code changes."""
