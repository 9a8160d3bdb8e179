"""`python -m gradhooks`."""

import sys

from gradhooks.cli import main

if __name__ == "__main__":
    sys.exit(main())
