"""Where the error is made: the last wrong variable in forward order, and a pattern in it."""

import dataclasses

import numpy as np

from gradhooks.checking import bisection, resolve
from gradhooks.checking.context import CheckContext
from gradhooks.checking.measurement import Measurement
from gradhooks.numerics import sampling
from gradhooks.numerics.coordinates import draw_neighbours
from gradhooks.numerics.probe import uncancelled_magnitudes

# How many times the search is repeated downstream of what it found: a bound on the cost, since each
# repetition needs another error further down.
_SEARCHES = 4
# How many single parameters are measured where directions are inconclusive: halving a thousand
# (2^10) variables takes ten.
_SINGLES = 10


def find_last_wrong_variable(
    context: CheckContext,
    coordinates: list[Measurement],
    directions: list[Measurement],
) -> tuple[list[Measurement], list[str]]:
    """Searches for the last wrong variable in forward order, where the error is made.

    The variables behind the last one known to be wrong are measured as one
    direction; if that fails, bisection finds a parameter in it, and so on. Where
    a direction is inconclusive, single parameters are measured instead.

    Args:
        context: The `CheckContext`.
        coordinates: Measurements of single parameters.
        directions: Measurements of directions, the screening probe among them.

    Returns:
        (measurements, trail): further measurements of single parameters, and
        one line per step of the search.
    """
    layout = context.layout
    found: list[Measurement] = []
    trail: list[str] = []
    failed = _select_failed(context, coordinates)
    direction: Measurement | None = None
    for measurement in directions:
        is_screening = measurement.probe.start == 0
        if is_screening and measurement.has_failed:
            direction = measurement
            break
    for _ in range(_SEARCHES):
        if failed:
            last = max(layout.variable_of(m.probe.start) for m in failed)
            direction = _measure_downstream(context, last)
        if direction is None or not direction.has_failed:
            break
        position, lines = bisection.bisect(
            layout,
            context.oracle,
            context.baseline,
            direction,
            context.threshold,
        )
        trail += lines
        measured = {m.probe.start for m in [*coordinates, *found]}
        if position in measured:
            break
        (single,) = resolve.measure_probes(context, [context.coordinate(position)])
        found.append(single)
        if not single.has_failed:
            break
        failed.append(single)

    if failed and direction is not None:
        is_inconclusive = not (direction.has_failed or direction.is_accepted)
        if is_inconclusive:
            singles, lines = _bisect_by_singles(context, [*coordinates, *found])
            found += singles
            trail += lines
    return found, trail


def _select_failed(context: CheckContext, coordinates: list[Measurement]) -> list[Measurement]:
    return [m for m in coordinates if m.has_failed and not context.is_excused(m)]


def _bisect_by_singles(
    context: CheckContext,
    coordinates: list[Measurement],
) -> tuple[list[Measurement], list[str]]:
    """Bisects the variables behind the last wrong one, measuring one parameter of each.

    Of a variable the parameter with the largest gradient is measured.
    """
    layout = context.layout
    gradient = context.baseline.gradients["total"]
    found: list[Measurement] = []
    trail: list[str] = []
    candidates = _list_candidates(context, coordinates)
    while candidates and len(found) < _SINGLES:
        middle = len(candidates) // 2
        before, after = candidates[:middle], candidates[middle + 1 :]
        part = layout.slice(candidates[middle])
        largest = int(np.argmax(np.abs(gradient[part])))
        position = part.start + largest
        (single,) = resolve.measure_probes(context, [context.coordinate(position)])
        found.append(single)
        if single.has_failed:
            outcome, candidates = "is wrong", after
        elif single.has_passed:
            outcome, candidates = "is right", before
        else:
            outcome, candidates = "is inconclusive", before + after
        trail.append(f"{layout.label(position)} by itself {outcome}")
    return found, trail


def _list_candidates(context: CheckContext, coordinates: list[Measurement]) -> list[int]:
    """Returns the variables behind the last wrong one and before the next right one.

    Those without a gradient, and those whose mismatch is excused, are left out.
    """
    layout = context.layout
    wrong: list[int] = []
    right: list[int] = []
    for measurement in coordinates:
        if context.is_excused(measurement):
            continue
        variable = layout.variable_of(measurement.probe.start)
        if measurement.has_failed:
            wrong.append(variable)
        elif measurement.has_passed:
            right.append(variable)
    last = max(wrong)
    end = len(layout)
    for variable in right:
        if variable > last:
            end = min(end, variable)
    norms = layout.norms(context.baseline.gradients["total"])
    candidates: list[int] = []
    for variable in range(last + 1, end):
        if norms[variable] > 0 and variable not in context.excused:
            candidates.append(variable)
    return candidates


def measure_neighbours(
    context: CheckContext,
    coordinates: list[Measurement],
) -> list[Measurement]:
    """Measures neighbours of a wrong parameter in the last wrong variable, to show a pattern.

    Args:
        context: The `CheckContext`.
        coordinates: Measurements of single parameters.
    """
    failed = _select_failed(context, coordinates)
    if not failed:
        return []
    seed, step = context.settings.seed, context.settings.step
    rng = sampling.generator(seed, step, sampling.Stream.NEIGHBOURS)
    last = max(m.probe.start for m in failed)
    taken = {m.probe.start for m in coordinates}
    neighbours = draw_neighbours(context.layout, last, taken, rng)
    probes = [context.coordinate(position) for position in neighbours]
    return resolve.measure_probes(context, probes)


def _measure_downstream(context: CheckContext, variable: int) -> Measurement | None:
    """Measures the screening probe, restricted to the variables behind one; None at the last."""
    assert context.screening is not None
    start = int(context.layout.offsets[variable + 1])
    weights = context.screening.weights[start:]
    if not weights.any():
        return None
    probe = dataclasses.replace(context.screening, start=start, weights=weights)
    magnitude = uncancelled_magnitudes(probe, context.baseline.gradients)
    (measurement,) = resolve.measure_probes(context, [probe], [magnitude])
    return measurement
