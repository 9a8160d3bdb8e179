"""What is wrong with backpropagation, in words.

The words follow from the ratio and the cosine of analytic and numeric
derivatives, from zeros among them, from the pattern of failing parameters and
from the terms that fail.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from gradhooks._types import Vector
from gradhooks.numerics.layout import Layout
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison, Diagnosis
from gradhooks.reports.text import SURROGATE
from gradhooks.verdicts import causes

# Relative accuracy to which a factor is recognized. A free choice: the numeric derivatives are far
# more accurate, and no two factors with a known cause lie this close together.
_ACCURACY = 1e-3
# Failures and passes needed before a pattern is called a unit or a row. A free choice: one of each
# would call any two parameters a pattern.
_PATTERN = 2
# What is said of the terms where the place of the error is not known.
PENALTY_ALONE = "; only the penalty is wrong: look at the regularizer"
PENALTY_RIGHT = "; the penalty is right: look at the layers and the loss"
_CAUSES = {
    2.0: "a factor 2 too many (the derivative of a square?)",
    0.5: "a factor 2 is missing (a square?)",
}


def diagnose(
    layout: Layout,
    comparisons: Sequence[DerivativeComparison],
    gradients: Mapping[str, Vector],
    batch_size: int | None = None,
) -> tuple[Diagnosis, ...]:
    """Returns one `Diagnosis` per failed variable, the leading one first.

    That is the last failed variable in forward order: an error in a backward
    pass reaches all variables below it, and none above.

    Args:
        layout: The `Layout`, in forward order.
        comparisons: All measured comparisons of the check.
        gradients: Per term name, the analytic gradient, float64, shape (P,).
        batch_size: Number of examples, to recognize a mean in place of a sum.
    """
    order = {path: number for number, path in enumerate(layout.paths)}
    failed: dict[str, None] = {}
    non_finite: set[str] = set()
    for c in comparisons:
        if c.path not in order:
            continue
        if c.verdict is Verdict.FAIL:
            failed[c.path] = None
        if c.reason is Reason.NON_FINITE_GRADIENT:
            non_finite.add(c.path)
    last = max(failed, key=order.__getitem__, default=None)
    # NaN spreads to the variables below, so only the last variable with any says where it begins.
    leaders = {last, max(non_finite, key=order.__getitem__, default=None)}
    diagnoses: list[Diagnosis] = []
    for path in failed:
        is_leader = path in leaders
        found = _diagnose_variable(path, comparisons, is_leader, layout, gradients, batch_size)
        diagnoses.append(dataclasses.replace(found, is_leading=path == last))
    return tuple(sorted(diagnoses, key=lambda d: (not d.is_leading, -order[d.path])))


def ratio_and_cosine(analytic: Vector, numeric: Vector) -> tuple[float, float]:
    """Returns (`<a,n>/<n,n>`, `<a,n>/(||a|| ||n||)`), NaN where undefined.

    The first is the least-squares factor `s` in `a = s * n`, the second the
    cosine of the angle between the two.

    Args:
        analytic: float64, shape (K,).
        numeric: float64, shape (K,).
    """
    if not np.isfinite(analytic).all() or not np.isfinite(numeric).all():
        return math.nan, math.nan
    product = float(analytic @ numeric)
    square = float(numeric @ numeric)
    norms = float(np.linalg.norm(analytic) * np.linalg.norm(numeric))
    ratio = product / square if square else math.nan
    cosine = product / norms if norms else math.nan
    return ratio, cosine


def locate_non_finite(layout: Layout, gradient: Vector) -> str:
    """Returns words for where the NaN of a gradient comes from; empty if all of it is finite.

    NaN spreads from the loss towards the inputs, so it begins behind the last
    variable, in forward order, that has any.

    Args:
        layout: The `Layout`, in forward order.
        gradient: float, shape (P,).
    """
    affected: list[int] = []
    for variable in range(len(layout)):
        part = gradient[layout.slice(variable)]
        if not np.isfinite(part).all():
            affected.append(variable)
    if not affected:
        return ""
    path = layout.paths[affected[-1]]
    if len(affected) == np.count_nonzero(layout.sizes):
        return f"in the loss or behind {path}, the last variable"
    return f"behind {path}, the last variable with any"


def format_cosine_and_ratio(cosine: float, ratio: float) -> str:
    """Returns `: cosine ..., ratio ...` with those of the two that are finite; empty if none is."""
    known: list[str] = []
    if math.isfinite(cosine):
        known.append(f"cosine {cosine:.4f}")
    if math.isfinite(ratio):
        known.append(f"ratio {ratio:.4g}")
    return f": {', '.join(known)}" if known else ""


def _diagnose_variable(
    path: str,
    comparisons: Sequence[DerivativeComparison],
    is_leader: bool,
    layout: Layout,
    gradients: Mapping[str, Vector],
    batch_size: int | None,
) -> Diagnosis:
    of_variable = [c for c in comparisons if c.path == path]
    terms: list[str] = []
    for c in of_variable:
        if c.verdict is Verdict.FAIL and c.term not in terms:
            terms.append(c.term)
    term = terms[0]
    # In the total, the other term may hide the factor.
    if "data" in terms:
        term = "data"
    elif "penalty" in terms:
        term = "penalty"
    own = [c for c in of_variable if c.term == term and c.reason is not Reason.VACUOUS]
    failed = [c for c in own if c.verdict is Verdict.FAIL]

    analytic = np.array([c.analytic for c in failed])
    numeric = np.array([c.numeric for c in failed])
    ratio, cosine = ratio_and_cosine(analytic, numeric)
    if np.isfinite(analytic).all() and _is_transposed(failed, layout, gradients[term]):
        sentence = "the gradient is transposed: entry [i, j] holds the derivative of entry [j, i]"
    elif any(c.reason is Reason.NON_FINITE_GRADIENT for c in failed):
        sentence = _describe_non_finite(layout, gradients[term], is_leader)
    else:
        sentence = _describe(failed, analytic, numeric, ratio, cosine, batch_size)
    sentence += _locate(own, failed)
    sentence += _describe_terms(terms, {c.term for c in of_variable})
    return Diagnosis(path, sentence, tuple(terms), ratio, cosine)


def _describe(
    failed: Sequence[DerivativeComparison],
    analytic: Vector,
    numeric: Vector,
    ratio: float,
    cosine: float,
    batch_size: int | None,
) -> str:
    """The sentence about a finite gradient."""
    if any(c.reason is Reason.UNDECLARED_MATCH for c in failed):
        return (
            "declared as a mismatch, but the gradient agrees: remove the declaration, or find out "
            "what stopped working"
        )
    if not analytic.any():
        return (
            "the gradient is zero although the loss moves: it is blocked (stop_gradient, rounding, "
            "argmax?)"
        )
    still = 0
    for c in failed:
        if abs(c.numeric) <= c.error and abs(c.analytic) > c.error:
            still += 1
    if still == len(failed) or not numeric.any():
        return f"the gradient is not zero but the loss does not move: {SURROGATE}"
    errors = np.array([c.error for c in failed])
    allowed = abs(ratio) * (_ACCURACY * np.abs(numeric) + errors)
    if (np.abs(analytic - ratio * numeric) <= allowed).all():
        cause = causes.explain_factor(ratio, _CAUSES, batch_size, _ACCURACY)
        return f"the gradient is {ratio:.6g} times the true one{cause}"
    words = f"the gradient points elsewhere{format_cosine_and_ratio(cosine, ratio)}"
    if still:
        words += (
            f"; it is not zero but the loss does not move at {still} of {len(failed)} wrong "
            f"places, as where it moves in steps: {SURROGATE}"
        )
    return words


def _describe_non_finite(
    layout: Layout,
    gradient: Vector,
    is_leader: bool,
) -> str:
    """The sentence about a gradient that is not finite.

    Only the leader says where it begins and what to look for.
    """
    if not is_leader:
        return "the gradient is NaN or infinite as well"
    words = "the gradient is NaN or infinite while the loss is finite"
    location = locate_non_finite(layout, gradient)
    if location:
        words += f": it begins {location}"
    return f"{words} (sqrt, log, division, a norm or a power below 1 at zero, acos or asin at +-1?)"


def _is_transposed(
    failed: Sequence[DerivativeComparison],
    layout: Layout,
    gradient: Vector,
) -> bool:
    """Whether every failed entry of a square kernel holds the entry across its diagonal."""
    variable = layout.paths.index(failed[0].path)
    shape = layout.shapes[variable]
    if len(shape) != 2 or shape[0] != shape[1]:
        return False
    kernel = gradient[layout.slice(variable)].reshape(shape)
    is_off_diagonal = False
    for c in failed:
        if c.index is None or c.index[0] == c.index[1]:
            continue
        is_off_diagonal = True
        if not math.isclose(kernel[c.index[::-1]], c.numeric, rel_tol=_ACCURACY):
            return False
    return is_off_diagonal


def _locate(own: Sequence[DerivativeComparison], failed: Sequence[DerivativeComparison]) -> str:
    """Names the unit or the row if all failures lie in one and passes lie beside it."""
    wrong = [c.index for c in failed if c.index]
    right = [c.index for c in own if c.index and c.verdict is Verdict.PASS]
    if not wrong or not right:
        return ""
    is_pattern = len(wrong) >= _PATTERN or len(wrong[0]) == 1
    for axis, name in ((-1, "unit"), (0, "row")):
        lines = {index[axis] for index in wrong}
        elsewhere = [index for index in right if index[axis] not in lines]
        is_alone = len(lines) == 1 and len(elsewhere) == len(right)
        if is_pattern and is_alone and len(elsewhere) >= _PATTERN:
            return f"; only {name} {lines.pop()} is wrong"
    return (
        f"; {len(right)} other sampled parameters of this variable agree, so only part of it is "
        "wrong"
    )


def _describe_terms(failed: Sequence[str], present: set[str]) -> str:
    if "penalty" in failed and "data" not in failed:
        return PENALTY_ALONE
    if "data" in failed and "penalty" in present and "penalty" not in failed:
        return PENALTY_RIGHT
    return ""
