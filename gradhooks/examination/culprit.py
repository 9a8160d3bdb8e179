"""Where the bug is: the last variable in forward order that is wrong, and a pattern in it."""

from gradhooks.numerics import bisection, sampling, surveying
from gradhooks.numerics.records import Probe

# How often a search for the culprit goes on above what it has found.
_SEARCHES = 4


def search(settling, coordinates, directions):
    """Looks for the last variable in forward order that is wrong: that is where the bug is.

    What lies above the last variable known to be wrong is measured as one
    direction; while that disagrees, bisection names a parameter in it.

    Args:
        settling: A `Settling`.
        coordinates: Measurements of single parameters.
        directions: Measurements of directions, the screening probe among them.

    Returns:
        (measurements, trail): further measurements of single parameters, and
        one line per step of the search.
    """
    layout, found, trail = settling.layout, [], []
    failed = [m for m in coordinates if m.has_failed and not settling.is_declared(m)]
    suspect = next((m for m in directions if m.has_failed and m.probe.start == 0), None)
    for _ in range(_SEARCHES):
        if failed:
            suspect = _above(settling, max(layout.variable_of(m.probe.start) for m in failed))
        if suspect is None or not suspect.has_failed:
            break
        position, steps = bisection.search(layout, settling.oracle, settling.place, suspect, settling.tolerance)
        trail += steps
        if any(m.probe.start == position for m in [*coordinates, *found]):
            break
        named = settling.settled([settling.coordinate(position)])
        found += named
        if not named[0].has_failed:
            break
        failed = [*failed, *named]
    return found, trail


def corroboration(settling, coordinates):
    """Measures neighbours of a wrong parameter in the last wrong variable, so that a pattern can be named."""
    failed = [m.probe.start for m in coordinates if m.has_failed and not settling.is_declared(m)]
    if not failed:
        return []
    rng = sampling.generator(settling.settings.seed, settling.settings.step, 6)
    taken = {m.probe.start for m in coordinates}
    neighbours = sampling.neighbours(settling.layout, max(failed), taken, rng)
    return settling.settled([settling.coordinate(p) for p in neighbours])


def _above(settling, variable):
    """Measures the screening probe cut down to the variables above; None at the top."""
    start = int(settling.layout.offsets[variable + 1])
    weights = settling.screening.weights[start:]
    if not weights.any():
        return None
    probe = Probe(start, weights, settling.screening.scale)
    return settling.settled([probe], [surveying.natural_sizes(probe, settling.place.gradients)])[0]
