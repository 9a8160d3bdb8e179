"""Jitter: evaluations at one point that differ, as sums do that threads add up in any order.

Small jitter is noise, which error bars take into account. Jitter above the
threshold at which gradients are compared leaves nothing to compare.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from gradhooks._types import Floats, PerTerm, Vector
from gradhooks.numerics.differences import DEVIATIONS
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import Probe

# A variable whose gradient is smaller than this fraction of the whole is compared with that
# fraction instead: the rounding of a sum over all variables is not proportional to one of them.
# The value is a free choice between a summand that matters and one that does not.
_SMALL = 1e-3


def relative_loss_jitter(jitter: float, loss: float, moved: float) -> float:
    """Returns the jitter of a loss as a fraction of its size.

    A loss near zero may be a difference of large parts, so that its own size says
    nothing of what a derivative is made of. What it changes by, when every
    parameter changes by its own size, is what differences show; the larger of the
    two counts.

    Args:
        jitter: Difference between two evaluations at one point.
        loss: The loss there.
        moved: By how much the loss changes, to first order, if every parameter
            changes by its own size and nothing cancels.

    Returns:
        float; infinite for a loss that jitters and has no size.

    Example:

    >>> relative_loss_jitter(1e-17, 0.0, 0.1), relative_loss_jitter(1e-6, 2.0, 0.1)
    (1e-16, 5e-07)
    """
    size = max(abs(loss), moved)
    if not jitter:
        return 0.0
    return jitter / size if size else math.inf


def gradient_noise(
    layout: Layout,
    first: Mapping[str, Vector],
    others: Iterable[Mapping[str, Vector]],
) -> Floats:
    """Returns the standard deviation of a gradient entry between evaluations, per variable.

    Entries that are not finite are left out.

    Args:
        layout: The `Layout`.
        first: Per term name, float64, shape (P,).
        others: The same, evaluated once more each; one at a time is held.

    Returns:
        float64, shape (T, V).
    """
    shape = len(first), len(layout)
    sums = {name: np.zeros(layout.size) for name in first}
    squares = np.zeros(shape)
    count = 1
    for other in others:
        count += 1
        for t, name in enumerate(first):
            with np.errstate(invalid="ignore", over="ignore"):
                differences = other[name] - first[name]
            differences[~np.isfinite(differences)] = 0.0
            sums[name] += differences
            squares[t] += layout.norms(differences) ** 2
    means = np.array([layout.norms(total) for total in sums.values()]) ** 2 / count
    # Rounding may make the difference of the two negative.
    variances = np.maximum(squares - means, 0.0) / (count - 1)
    return np.sqrt(variances / np.maximum(layout.sizes, 1))


def slope_errors(noise: Floats, probe: Probe, layout: Layout) -> PerTerm:
    """Returns the error bar of an analytic slope along a probe, due to jitter.

    Entries jitter independently, so that their variances add up.

    Args:
        noise: float64, shape (T, V), as `gradient_noise` returns it.
        probe: The `Probe`.
        layout: The `Layout`.

    Returns:
        float64, shape (T,), in loss per unit of offset.
    """
    variances = np.zeros(len(noise))
    variable = layout.variable_of(probe.start)
    while variable < len(layout) and layout.offsets[variable] < probe.stop:
        part = layout.slice(variable)
        start, stop = max(part.start, probe.start), min(part.stop, probe.stop)
        weights = probe.weights[start - probe.start : stop - probe.start]
        variances += (noise[:, variable] * np.linalg.norm(weights)) ** 2
        variable += 1
    return DEVIATIONS * np.sqrt(variances)


def gradient_jitter(
    layout: Layout,
    first: Mapping[str, Vector],
    second: Mapping[str, Vector],
    threshold: float,
) -> dict[int, float]:
    """Returns by how much two evaluations of a gradient differ, where that exceeds the threshold.

    Args:
        layout: The `Layout`.
        first: Per term name, float64, shape (P,).
        second: The same, evaluated once more.
        threshold: Relative difference that the verdict allows.

    Returns:
        `{number of the variable: relative difference}`, empty if there are none.
    """
    jitter: dict[int, float] = {}
    for one, other in zip(first.values(), second.values(), strict=True):
        differences = layout.norms(one - other)
        sizes = np.maximum(layout.norms(one), layout.norms(other))
        sizes = np.maximum(sizes, _SMALL * np.linalg.norm(sizes))
        for v in np.flatnonzero(differences > threshold * sizes):
            variable = int(v)
            share = float(differences[v] / sizes[v])
            jitter[variable] = max(share, jitter.get(variable, 0.0))
    return jitter
