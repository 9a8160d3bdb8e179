"""Finding the culprit when a direction disagrees but no single sampled parameter does.

The gap of a direction is the sum of the gaps of its parts. Halving the part
with the larger gap finds the parameter in as many rounds as the number of
parameters has binary digits, two evaluations each.
"""

import numpy as np

from gradhooks.numerics.records import Probe


def search(layout, oracle, place, measured, tolerance):
    """Halves a direction until a single parameter carries its gap.

    Args:
        layout: The `Layout`.
        oracle: The oracle.
        place: The `Place` at which the direction was measured.
        measured: The `Measurement` that failed.
        tolerance: Allowed relative difference.

    Returns:
        (probes, trail): the smallest probes that still disagree, as coordinates
        where it got that far, and one line for each halving.
    """
    term = next(t for t, (v, _) in enumerate(measured.judgements) if v.name == "FAIL")
    gradient = list(place.gradients.values())[term]
    step = measured.estimates[term].step
    probe, gap = measured.probe, measured.analytic[term] - measured.estimates[term].slope
    trail = [f"{_where(layout, probe)}: gap {gap:+.3e}"]
    while len(probe.weights) > 1:
        first, second = _halves(layout, probe)
        plus, minus = oracle.losses(place.point, [first], [(0, step), (0, -step)])[:, term]
        first_gap = first.slope_of(gradient) - (plus - minus) / (2 * step)
        second_gap = gap - first_gap
        probe, gap = (first, first_gap) if abs(first_gap) >= abs(second_gap) else (second, second_gap)
        trail.append(f"{_where(layout, probe)}: gap {gap:+.3e}")
    return [Probe(probe.start, np.ones(1))], trail


def _halves(layout, probe):
    """Splits between variables while there are several, then between rows, then anywhere."""
    middle = _split(layout, probe.start, probe.stop) - probe.start
    return (
        Probe(probe.start, probe.weights[:middle], probe.scale),
        Probe(probe.start + middle, probe.weights[middle:], probe.scale),
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
