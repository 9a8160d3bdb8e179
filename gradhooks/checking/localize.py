"""Where the bug is: the last variable in forward order that is wrong, and a pattern in it."""

import numpy as np

from gradhooks.checking import baseline, bisection
from gradhooks.numerics import sampling
from gradhooks.numerics.probe import Probe

# How often a search for the culprit goes on above what it has found.
_SEARCHES = 4
# How many single parameters it measures where directions tell nothing: enough to halve a thousand
# variables.
_ONE_BY_ONE = 10


def find_last_wrong_variable(settling, coordinates, directions):
    """Looks for the last variable in forward order that is wrong: that is where the bug is.

    What lies above the last variable known to be wrong is measured as one
    direction; while that disagrees, bisection names a parameter in it. Where a
    direction is too blurred to tell, single parameters are asked instead.

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
        position, steps = bisection.bisect(
            layout, settling.oracle, settling.baseline, suspect, settling.threshold
        )
        trail += steps
        if any(m.probe.start == position for m in [*coordinates, *found]):
            break
        named = settling.measure([settling.coordinate(position)])
        found += named
        if not named[0].has_failed:
            break
        failed = [*failed, *named]
    if failed and suspect is not None and not (suspect.has_failed or suspect.is_accepted):
        asked, steps = _one_by_one(settling, [*coordinates, *found])
        found, trail = [*found, *asked], [*trail, *steps]
    return found, trail


def _one_by_one(settling, coordinates):
    """Halves what lies between the last wrong variable and the next right one, a single parameter at a time."""
    layout, gradient, found, trail = settling.layout, settling.baseline.gradients["total"], [], []
    between = _between(settling, coordinates)
    while between and len(found) < _ONE_BY_ONE:
        middle = len(between) // 2
        part = layout.slice(between[middle])
        position = part.start + int(np.argmax(np.abs(gradient[part])))
        (measured,) = settling.measure([settling.coordinate(position)])
        found.append(measured)
        outcome, left = "tells nothing", between[:middle] + between[middle + 1 :]
        if measured.has_failed:
            outcome, left = "is wrong", between[middle + 1 :]
        elif measured.has_passed:
            outcome, left = "is right", between[:middle]
        trail.append(f"{layout.label(position)} by itself {outcome}")
        between = left
    return found, trail


def _between(settling, coordinates):
    """Numbers of the variables behind the last wrong one and before the next right one, as far as they may be asked."""
    layout = settling.layout
    asked = [
        (layout.variable_of(m.probe.start), m) for m in coordinates if not settling.is_declared(m)
    ]
    last = max(v for v, m in asked if m.has_failed)
    end = min((v for v, m in asked if v > last and m.has_passed), default=len(layout))
    sizes = layout.norms(settling.baseline.gradients["total"])
    return [v for v in range(last + 1, end) if sizes[v] > 0 and v not in settling.declared]


def measure_neighbours(settling, coordinates):
    """Measures neighbours of a wrong parameter in the last wrong variable, so that a pattern can be named."""
    failed = [m.probe.start for m in coordinates if m.has_failed and not settling.is_declared(m)]
    if not failed:
        return []
    rng = sampling.generator(
        settling.settings.seed, settling.settings.step, sampling.Stream.NEIGHBOURS
    )
    taken = {m.probe.start for m in coordinates}
    neighbours = sampling.draw_neighbours(settling.layout, max(failed), taken, rng)
    return settling.measure([settling.coordinate(p) for p in neighbours])


def _above(settling, variable):
    """Measures the screening probe cut down to the variables above; None at the top."""
    start = int(settling.layout.offsets[variable + 1])
    weights = settling.screening.weights[start:]
    if not weights.any():
        return None
    probe = Probe(start, weights, settling.screening.length_scale)
    return settling.measure(
        [probe], [baseline.uncancelled_magnitudes(probe, settling.baseline.gradients)]
    )[0]
