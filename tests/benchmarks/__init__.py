"""What a check costs: run `python -m tests.benchmarks.peers`, or `python -m pytest -m benchmark -n 0`."""
