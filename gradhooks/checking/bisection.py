"""Finding the culprit when a direction disagrees but no single sampled parameter does.

The gap of a direction is the sum of the gaps of its parts. Halving it finds the
parameter in as many rounds as the number of parameters has binary digits, two
evaluations each. While there are several variables the later half is taken
whenever it disagrees: an error in a backward pass spoils all that lies below
it, so the last variable in forward order is where the bug is.
"""

import numpy as np

from gradhooks.numerics import differences
from gradhooks.numerics.probe import Probe
from gradhooks.reports.reasons import Verdict


def bisect(layout, oracle, place, measured, tolerance):
    """Halves a direction until a single parameter is left.

    Args:
        layout: The `Layout`.
        oracle: The oracle.
        place: The `Place` at which the direction was measured.
        measured: The `Measurement` that failed.
        tolerance: Allowed relative difference.

    Returns:
        (position, trail): flat index of the parameter, and one line for each
        halving.
    """
    term = next(t for t, (v, _) in enumerate(measured.judgements) if v is Verdict.FAIL)
    gradient = list(place.gradients.values())[term]
    step = measured.estimates[term].step_size
    rounding = differences.rounding_error(place.noise[term], step)
    probe, gap = measured.probe, measured.analytic[term] - measured.estimates[term].slope
    trail = [f"{_where(layout, probe)}: gap {gap:+.3e}"]
    while len(probe.weights) > 1:
        first, second = _halves(layout, probe)
        plus, minus = oracle.losses(place.point, [second], [(0, step), (0, -step)])[:, term]
        second_gap = second.slope_of(gradient) - (plus - minus) / (2 * step)
        first_gap = gap - second_gap
        if _is_later(layout, second_gap, first_gap, first, second, gradient, tolerance, rounding):
            probe, gap = second, second_gap
        else:
            probe, gap = first, first_gap
        trail.append(f"{_where(layout, probe)}: gap {gap:+.3e}")
    return probe.start, trail


def _is_later(layout, second_gap, first_gap, first, second, gradient, tolerance, rounding):
    """Whether to go on with the later half."""
    if layout.variable_of(first.start) == layout.variable_of(second.stop - 1):
        return abs(second_gap) > abs(first_gap)
    size = np.linalg.norm(second.weights * gradient[second.start : second.stop])
    # Ten times what a healthy half may show, and not a crumb of what the other half shows.
    return abs(second_gap) > max(10 * (tolerance * size + rounding), 1e-6 * abs(first_gap))


def _halves(layout, probe):
    """Splits between variables while there are several, then between rows, then anywhere."""
    middle = _split(layout, probe.start, probe.stop) - probe.start
    return (
        Probe(probe.start, probe.weights[:middle], probe.length_scale),
        Probe(probe.start + middle, probe.weights[middle:], probe.length_scale),
    )


def _split(layout, start, stop):
    borders = layout.offsets[(layout.offsets > start) & (layout.offsets < stop)]
    if len(borders):
        return int(borders[len(borders) // 2])
    variable = layout.variable_of(start)
    shape, origin = layout.shapes[variable], layout.offsets[variable]
    middle = (start + stop) // 2
    for axis in range(1, len(shape)):
        row = int(np.prod(shape[axis:]))
        border = origin + round((middle - origin) / row) * row
        if start < border < stop:
            return int(border)
    return middle


def _where(layout, probe):
    first, last = layout.variable_of(probe.start), layout.variable_of(probe.stop - 1)
    if first != last:
        return f"{last - first + 1} variables from {layout.paths[first]} to {layout.paths[last]}"
    if len(probe.weights) == layout.sizes[first]:
        return layout.paths[first]
    if len(probe.weights) == 1:
        return layout.label(probe.start)
    return f"{len(probe.weights)} parameters from {layout.label(probe.start)}"
