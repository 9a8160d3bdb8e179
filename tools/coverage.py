"""Which lines and branches the default tests reach.

Run `python -m tools.coverage [arguments of pytest]`.

Runs pytest with pytest-cov, which adds up what xdist's workers reach, and prints
the lines of `gradhooks` that no test reached. The figure is a report, not a gate:
tests state what must hold, and a line that was reached is not thereby tested.
Lines that only child processes run are counted as missed. It needs workers: with `-n 0`
beside the `--dist` of pyproject.toml, pytest-cov waits for workers and records nothing.
"""

import sys

import pytest


def main():
    return pytest.main(["--cov", "--cov-report=term-missing", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
