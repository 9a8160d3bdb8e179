"""Finds a wrong parameter where a direction disagrees but no sampled parameter does.

The gap of a direction is the sum of the gaps of its parts. Halving it finds the
parameter in as many rounds as the number of parameters has binary digits, at two
evaluations each. While several variables are left, the later half is taken if it
disagrees at all: an error in a backward pass reaches all variables before it, so
the last wrong variable in forward order is where the error is made.
"""

import dataclasses

import numpy as np

from gradhooks._types import Vector
from gradhooks.checking.baseline import EvaluationPoint
from gradhooks.checking.measurement import Measurement
from gradhooks.checking.oracle import Oracle
from gradhooks.numerics import differences
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import Probe
from gradhooks.reports.reasons import Verdict

# The later half is wrong if its gap exceeds this many times what a correct half may show. A free
# choice: the larger it is, the sooner the search turns to the earlier half.
_BEYOND_ALLOWED = 10
# It must also exceed this fraction of the earlier half's gap, from which it is subtracted with
# rounding: far above 1e-16 times the parts of a sum, and far below any gap of interest.
_BEYOND_ROUNDING = 1e-6


def bisect(
    layout: Layout,
    oracle: Oracle,
    at: EvaluationPoint,
    measurement: Measurement,
    threshold: float,
) -> tuple[int, list[str]]:
    """Halves a direction until a single parameter is left.

    Args:
        layout: The `Layout`.
        oracle: The `Oracle`.
        at: The `EvaluationPoint` at which the direction was measured.
        measurement: The `Measurement` of the direction, which failed.
        threshold: Relative difference that the verdict allows.

    Returns:
        (position, trail): flat index of the parameter, and one line for each
        halving.
    """
    failed = [verdict is Verdict.FAIL for verdict, _ in measurement.judgements]
    term = failed.index(True)
    gradients = list(at.gradients.values())
    gradient = gradients[term]
    estimate = measurement.estimates[term]
    step = estimate.step_size
    rounding = differences.rounding_error(at.noise[term], step)

    pairs = [(0, step), (0, -step)]
    probe = measurement.probe
    gap = measurement.analytic[term] - estimate.slope
    trail = [_describe(layout, probe, gap)]
    while len(probe.weights) > 1:
        first, second = _halve(layout, probe)
        losses = oracle.losses(at.point, [second], pairs)
        plus, minus = losses[:, term]
        slope = (plus - minus) / (2 * step)
        second_gap = second.slope_of(gradient) - slope
        first_gap = gap - second_gap
        first_variable = layout.variable_of(first.start)
        last_variable = layout.variable_of(second.stop - 1)
        if first_variable == last_variable:
            takes_second = abs(second_gap) > abs(first_gap)
        else:
            allowed = threshold * _norm_along(second, gradient) + rounding
            least = _BEYOND_ROUNDING * abs(first_gap)
            takes_second = abs(second_gap) > max(_BEYOND_ALLOWED * allowed, least)
        if takes_second:
            probe, gap = second, second_gap
        else:
            probe, gap = first, first_gap
        trail.append(_describe(layout, probe, gap))
    return probe.start, trail


def _norm_along(probe: Probe, gradient: Vector) -> float:
    part = gradient[probe.start : probe.stop]
    return float(np.linalg.norm(probe.weights * part))


def _halve(layout: Layout, probe: Probe) -> tuple[Probe, Probe]:
    """Splits a probe between variables if there are several, else between rows, else anywhere."""
    middle = _find_middle(layout, probe.start, probe.stop)
    count = middle - probe.start
    first = dataclasses.replace(probe, weights=probe.weights[:count])
    second = dataclasses.replace(probe, start=middle, weights=probe.weights[count:])
    return first, second


def _find_middle(layout: Layout, start: int, stop: int) -> int:
    """Returns the flat index at which a range is split."""
    offsets = layout.offsets
    borders = offsets[(offsets > start) & (offsets < stop)]
    if len(borders):
        return int(borders[len(borders) // 2])
    variable = layout.variable_of(start)
    shape = layout.shapes[variable]
    origin = layout.offsets[variable]
    middle = (start + stop) // 2
    for axis in range(1, len(shape)):
        row = int(np.prod(shape[axis:]))
        rows = round((middle - origin) / row)
        border = origin + rows * row
        if start < border < stop:
            return int(border)
    return middle


def _describe(layout: Layout, probe: Probe, gap: float) -> str:
    """Returns a line of the trail: which parameters are left, and their gap."""
    first = layout.variable_of(probe.start)
    last = layout.variable_of(probe.stop - 1)
    count = len(probe.weights)
    if first != last:
        variables = f"{last - first + 1} variables"
        label = f"{variables} from {layout.paths[first]} to {layout.paths[last]}"
    elif count == layout.sizes[first]:
        label = layout.paths[first]
    elif count == 1:
        label = layout.label(probe.start)
    else:
        label = f"{count} parameters from {layout.label(probe.start)}"
    return f"{label}: gap {gap:+.3e}"
