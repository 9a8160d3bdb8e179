"""Where a check begins: loss and gradient at the point, the noise of the loss, the threshold."""

import dataclasses
from collections.abc import Mapping

from gradhooks._types import Floats, Vector
from gradhooks.checking import baseline, digits, known_noise
from gradhooks.checking.context import CheckContext
from gradhooks.checking.evaluation_point import EvaluationPoint
from gradhooks.checking.oracle import Oracle
from gradhooks.checking.settings import THRESHOLDS, Settings
from gradhooks.numerics import sampling
from gradhooks.numerics.probe import Probe
from gradhooks.reports.circumstances import Precision
from gradhooks.reports.stages import Stage, StageObserver
from gradhooks.verdicts import declared

_Windows = Mapping[float, Floats]


@dataclasses.dataclass(frozen=True)
class Start:
    """What is known at the point before anything is compared.

    Args:
        context: The `CheckContext`.
        windows: The losses around the point by the spacing of their stencil, float64,
            shape (POINTS, T).
        precision: The `Precision` of the numbers, as the noise of the loss shows it.
    """

    context: CheckContext
    windows: _Windows
    precision: Precision


def begin(oracle: Oracle, settings: Settings, tell: StageObserver) -> Start:
    """Evaluates loss and gradient at the point, and estimates the noise of the loss there.

    Args:
        oracle: The `Oracle`; keeps the noise for later checks.
        settings: The `Settings`.
        tell: Called with each `Stage` when it begins.
    """
    layout, point, precision = oracle.layout, oracle.point(), oracle.precision
    under_patterns = frozenset(declared.variables_under(layout, settings.expect))
    left_out = under_patterns | declared.excused_variables(layout, settings.excuses)
    scales = sampling.variable_scales(layout, point)
    tell(Stage.GRADIENT)
    gradients = oracle.gradients(point).terms
    tell(Stage.NOISE)
    rng = sampling.generator(settings.seed, settings.step, sampling.Stream.SCREENING)
    probe = sampling.screening_probe(layout, scales, gradients["total"], rng, left_out)
    spacing = baseline.NATIVE if precision.level == "model" else baseline.PROMOTED
    at, windows, precision = _find_noise(oracle, point, gradients, probe, spacing, settings)
    context = CheckContext(
        oracle, settings, at, probe, scales, spacing, _choose_threshold(settings, precision),
        under_patterns, left_out,
    )  # fmt: skip
    return Start(context, windows, precision)


def _find_noise(
    oracle: Oracle,
    point: Vector,
    gradients: Mapping[str, Vector],
    probe: Probe,
    spacing: baseline.StencilSpacing,
    settings: Settings,
) -> tuple[EvaluationPoint, _Windows, Precision]:
    """Confirms the noise that an earlier check has found, or else measures it.

    Returns:
        The point with its noise, the losses around it, and the precision that these show.
    """
    precision, known = oracle.precision, oracle.known_noise
    may_be_narrow = bool(
        precision.narrow_operations or precision.native_layers or oracle.calls_python
    )
    has_steps = bool(precision.step_operations)
    if known is not None:
        threshold = _choose_threshold(settings, precision)
        confirmed = known_noise.confirm(known, oracle, point, gradients, probe, spacing, threshold)
        if confirmed is not None:
            oracle.known_noise = known.count_check()
            return *confirmed, digits.adjust_precision(precision, confirmed[0], oracle.calls_python)
    at, windows = baseline.estimate_baseline(
        oracle, point, gradients, probe, spacing, may_be_narrow, has_steps
    )
    seen = digits.adjust_precision(precision, at, oracle.calls_python)
    if seen.level == "float64" and not (may_be_narrow or has_steps):
        oracle.known_noise = known_noise.remember(at, known)
    return at, windows, seen


def _choose_threshold(settings: Settings, precision: Precision) -> float:
    """The threshold that was asked for, or else that of the precision in use."""
    return settings.threshold or THRESHOLDS[precision.level]
