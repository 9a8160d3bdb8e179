"""How many digits a loss really has, and what to say of one that has fewer than its precision promises."""

import dataclasses

from gradhooks.numerics import noise
from gradhooks.reports.reasons import Verdict

# Noise above so many units of rounding in float64 takes away more than the threshold of float64
# needs. Between that of a deep network in float64 (a thousand) and of float32 (5e8) it does not
# matter where.
_FEW_DIGITS = 1e5


def as_measured(precision, place, is_opaque):
    """Returns the precision in use: with operations of low precision inside, the noise tells what is left of float64.

    Args:
        precision: The `Precision` of the trace.
        place: The `surveying.Place`.
        is_opaque: Whether evaluations run Python code, of which nobody knows how it computes.
    """
    names = ", ".join(precision.narrow_operations[:3]) or (
        "Python code in the graph" if is_opaque else ""
    )
    has_few_digits = place.noise[0] > _FEW_DIGITS * noise.rounding_floor(place.base[0])
    if precision.level != "float64" or not names or not has_few_digits:
        return precision
    note = f"{names} computes with fewer digits than float64, and the loss shows it; the threshold is that of float32"
    return dataclasses.replace(precision, level="partial", note=precision.note or note)


def remarks(precision, place, judged):
    """Yields remarks on a loss that has few digits, or moves in steps.

    Args:
        precision: The `Precision` in use.
        place: The `surveying.Place`.
        judged: The `Verdict` of the check.
    """
    level, base = place.noise[0], place.base[0]
    if judged is Verdict.INCONCLUSIVE and precision.step_operations:
        yield (
            f"the loss moves in steps ({', '.join(precision.step_operations[:3])}): between two of them it has no "
            "slope, and a gradient through them is a straight-through estimator, or blocked"
        )
    elif (
        precision.level == "float64"
        and not precision.narrow_operations
        and level > noise.float32_roughness(base)
    ):
        yield (
            f"the loss jumps by {level:.2g} at this point, {level / noise.rounding_floor(base):.0e} times what rounding in "
            "float64 leaves: a threshold, a sign, the second derivative of a ReLU, or huge numbers that cancel?"
        )
