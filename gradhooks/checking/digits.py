"""How many digits a loss really has, and remarks on one with fewer than its precision promises."""

import dataclasses
from collections.abc import Iterator

from gradhooks.checking.baseline import EvaluationPoint
from gradhooks.numerics import noise
from gradhooks.reports.circumstances import Precision
from gradhooks.reports.reasons import Verdict

# Noise above this many roundoffs of float64 takes more digits than the threshold of float64 needs.
# A free choice between the noise of a deep network in float64 (1e3) and in float32 (5e8).
_FEW_DIGITS = 1e5
# Noise up to this many times the jitter is jitter, and says nothing of how many digits are computed
# with. Derived: jitter is sqrt(2) standard deviations, and two estimates of one standard deviation
# seldom differ by more than a factor of three.
_JITTER = 3.0


def adjust_precision(
    precision: Precision,
    evaluation_point: EvaluationPoint,
    is_opaque: bool,
) -> Precision:
    """Returns the precision in use, with fewer digits than float64 where the noise shows it.

    Args:
        precision: The `Precision` of the trace.
        evaluation_point: The `EvaluationPoint`.
        is_opaque: Whether evaluations run Python code, whose precision is
            unknown.
    """
    names = ", ".join(precision.narrow_operations[:3])
    is_jitter = evaluation_point.noise[0] < _JITTER * evaluation_point.jitter
    if not names and is_opaque and not is_jitter:
        names = "Python code in the graph"
    rounding = noise.rounding_floor(evaluation_point.base[0])
    has_few_digits = evaluation_point.noise[0] > _FEW_DIGITS * rounding
    if precision.level != "float64" or not names or not has_few_digits:
        return precision
    note = precision.note or (
        f"{names} computes with fewer digits than float64, and the loss shows it; the threshold is "
        "that of float32"
    )
    return dataclasses.replace(precision, level="partial", note=note)


def describe_digits(
    precision: Precision,
    evaluation_point: EvaluationPoint,
    verdict: Verdict,
) -> Iterator[str]:
    """Yields remarks on a loss that has few digits, or moves in steps.

    Args:
        precision: The `Precision` in use.
        evaluation_point: The `EvaluationPoint`.
        verdict: The `Verdict` of the check.
    """
    level, loss = evaluation_point.noise[0], evaluation_point.base[0]
    is_wide = precision.level == "float64" and not precision.narrow_operations
    if verdict is Verdict.INCONCLUSIVE and precision.step_operations:
        yield (
            f"the loss moves in steps ({', '.join(precision.step_operations[:3])}): between two of "
            "them it has no slope, and a gradient through them is a straight-through estimator, or "
            "blocked"
        )
    elif is_wide and level > noise.float32_roughness(loss):
        floor = noise.rounding_floor(loss)
        beyond = f", {level / floor:.0e} times what rounding in float64 leaves" if floor else ""
        yield (
            f"the loss jumps by {level:.2g} at this point{beyond}: a threshold, a sign, the second "
            "derivative of a ReLU, or huge numbers that cancel?"
        )
