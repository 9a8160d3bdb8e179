"""Which parameters probes move, and how far, as arrays for a compiled loop."""

import numpy as np


def moves_few(probe, group_starts):
    """Returns whether a probe moves single parameters of one group of variables.

    Args:
        probe: A `Probe`.
        group_starts: int64, shape (G + 1,). The first parameter of each group, then
            their number.
    """
    if probe.positions is None:
        return len(probe.weights) == 1
    first, last = np.searchsorted(group_starts, [probe.start, probe.stop - 1], side="right")
    return first == last


def list_moves(probes, pairs, least_width=1):
    """Returns which parameters move in each pair, int64, and how far, float64.

    Args:
        probes: The `Probe`s.
        pairs: K pairs (number of the probe, offset along it).
        least_width: The least M below.

    Returns:
        Two arrays of shape (K, M). Where a probe moves fewer than M, the others are -1,
        which is no parameter.
    """
    width = max(least_width, *(len(probe.weights) for probe in probes))
    indices = np.full((len(pairs), width), -1)
    offsets = np.zeros((len(pairs), width))
    for row, (number, offset) in enumerate(pairs):
        probe = probes[number]
        count = len(probe.weights)
        indices[row, :count] = probe.start if probe.positions is None else probe.positions
        offsets[row, :count] = offset * probe.weights
    return indices, offsets


def direction_of(probe, size):
    """Returns the weights of a probe for all parameters, shape (P,)."""
    if len(probe.weights) == size:
        return probe.weights
    direction = np.zeros(size)
    direction[probe.entries] = probe.weights
    return direction
