"""What a check measures first: sampled parameters, the screening direction and whole variables."""

from collections.abc import Sequence

import numpy as np

from gradhooks._types import PerTerm
from gradhooks.checking import measure, pooling, resolve
from gradhooks.checking.context import CheckContext
from gradhooks.checking.measurement import Measurement
from gradhooks.checking.pools import split_sample
from gradhooks.numerics import sampling
from gradhooks.numerics.coordinates import draw_coordinates, draw_replacement
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import Probe, uncancelled_magnitudes

# A parameter on a kink is replaced by another of the same variable this often at most. A free
# choice that limits the cost: of four parameters, seldom all sit on a kink.
_REPLACEMENTS = 3


def measure_coordinates(context: CheckContext) -> tuple[list[Measurement], int]:
    """Measures the sampled parameters, most of them in pools.

    What a pool does not decide is measured by itself. Where pools are clearly wrong,
    one parameter of each variable tells which variables are: of these no further one
    is measured, and those of the others are pooled again.

    Args:
        context: The `CheckContext`.

    Returns:
        The measurements, and how many parameters were replaced.
    """
    settings, layout = context.settings, context.layout
    gradient = context.baseline.gradients["total"]
    positions: list[int] = draw_coordinates(
        layout, settings.samples, settings.seed, settings.step, settings.check_index, gradient
    ).tolist()
    rng = sampling.generator(settings.seed, settings.step, sampling.Stream.REPLACEMENT)
    taken = set(positions)
    alone, pools = split_sample(context, positions)
    found = pooling.measure_pools(context, pools)
    first = _first_of_each(layout, [*alone, *found.wrong]) - {*alone}
    kept, count = _measure_singly(context, sorted([*alone, *found.open, *first]), taken, rng)
    kept += found.measured

    wrong = {layout.variable_of(m.probe.start) for m in kept if m.has_failed}
    others: list[int] = []
    for position in found.wrong:
        if position not in first and layout.variable_of(position) not in wrong:
            others.append(position)
    alone, pools = split_sample(context, others, alone=0)
    found = pooling.measure_pools(context, pools)
    rest, more = _measure_singly(context, sorted([*alone, *found.open, *found.wrong]), taken, rng)
    return [*kept, *found.measured, *rest], count + more


def _first_of_each(layout: Layout, positions: Sequence[int]) -> set[int]:
    """Returns one of the parameters of each variable."""
    first: dict[int, int] = {}
    for position in positions:
        first.setdefault(layout.variable_of(position), position)
    return set(first.values())


def _measure_singly(
    context: CheckContext,
    positions: list[int],
    taken: set[int],
    rng: np.random.Generator,
) -> tuple[list[Measurement], int]:
    """Measures parameters by themselves; one on a kink is replaced by another of its variable.

    Args:
        context: The `CheckContext`.
        positions: Flat indices of the parameters.
        taken: Flat indices that replace none; those that do are added.
        rng: The random number generator.

    Returns:
        The measurements, and how many parameters were replaced.
    """
    layout, gradient = context.layout, context.baseline.gradients["total"]
    kept: list[Measurement] = []
    count = 0
    for attempt in range(_REPLACEMENTS + 1):
        measured = resolve.measure_probes(context, [context.coordinate(p) for p in positions])
        positions = []
        for m in measured:
            position = None
            if m.is_on_kink and attempt < _REPLACEMENTS:
                variable = layout.variable_of(m.probe.start)
                position = draw_replacement(layout, variable, taken, rng, gradient)
            if position is None:
                kept.append(m)
            else:
                taken.add(position)
                positions.append(position)
        count += len(positions)
        if not positions:
            break
    return kept, count


def measure_directions(context: CheckContext, window: PerTerm) -> list[Measurement]:
    """Measures directions over many parameters.

    These are the screening direction and, at native precision, where digits are
    few, two directions along each variable.

    Args:
        context: The `CheckContext`, with its screening direction.
        window: The losses along the screening direction at the working spacing.
    """
    screening = context.screening
    assert screening is not None
    spacing = context.spacing.working
    magnitude = uncancelled_magnitudes(screening, context.baseline.gradients)
    screened = measure.from_stencil(
        context.baseline, context.layout, screening, window, spacing, magnitude, context.threshold
    )
    directions = resolve.resolve(context, [screened])
    if not context.spacing.is_native:
        return directions
    settings = context.settings
    rng = sampling.generator(settings.seed, settings.step, sampling.Stream.VARIABLE_DIRECTION)
    probes: list[Probe] = []
    for variable, size in enumerate(context.layout.sizes):
        if size > 1:
            probes.append(_variable_probe(context, variable, rng, is_aligned=True))
            probes.append(_variable_probe(context, variable, rng, is_aligned=False))
    return directions + resolve.measure_probes(context, probes)


def measure_undecided(
    context: CheckContext,
    measurements: Sequence[Measurement],
    zero_levels: Sequence[float],
) -> list[Measurement]:
    """Measures along their gradient the variables that no single parameter decides.

    A direction along the whole variable may have a signal where each parameter
    has none. At native precision it has been measured already.

    Args:
        context: The `CheckContext`.
        measurements: The measurements so far.
        zero_levels: Per term, the size up to which an analytic derivative may be
            a rounded zero.
    """
    if context.spacing.is_native:
        return []
    layout, settings = context.layout, context.settings
    is_decided: dict[int, bool] = {}
    for m in measurements:
        variable = layout.variable_of(m.probe.start)
        if m.probe.stop > layout.slice(variable).stop:
            continue
        decides = m.has_passed or m.has_failed or _has_no_gradient(m, zero_levels)
        is_decided[variable] = is_decided.get(variable, False) or decides
    rng = sampling.generator(settings.seed, settings.step, sampling.Stream.UNDECIDED_VARIABLE)
    probes: list[Probe] = []
    for variable in sorted(is_decided):
        if not is_decided[variable] and layout.sizes[variable] > 1:
            probes.append(_variable_probe(context, variable, rng, is_aligned=True))
    return resolve.measure_probes(context, probes)


def _variable_probe(
    context: CheckContext,
    variable: int,
    rng: np.random.Generator,
    is_aligned: bool,
) -> Probe:
    gradient = context.baseline.gradients["total"]
    scale = context.scales[variable]
    return sampling.variable_probe(context.layout, variable, scale, gradient, rng, is_aligned)


def _has_no_gradient(measured: Measurement, zero_levels: Sequence[float]) -> bool:
    """Whether the measured derivatives and the analytic ones vanish in their rounding."""
    if not measured.is_vacuous:
        return False
    pairs = zip(measured.analytic, zero_levels, strict=True)
    return all(abs(analytic) <= level for analytic, level in pairs)
