"""What a check changes in the process is changed for its own thread alone, and what user code changes is put back."""
