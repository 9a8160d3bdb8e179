"""Runs `tools.peers.comparison`: see there."""

from tools.peers import comparison

if __name__ == "__main__":
    comparison.main()
