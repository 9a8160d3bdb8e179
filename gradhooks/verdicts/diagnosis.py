"""What is wrong, in words: from scale, cosine, zeros, the pattern of failures and the terms that fail."""

import dataclasses
import math

import numpy as np

from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import Diagnosis
from gradhooks.reports.text import SURROGATE

# Relative accuracy to which a factor is recognized.
_CLOSE = 1e-3
# Failures and passes needed before a pattern is called a unit or a row.
_PATTERN = 2


def diagnose(layout, comparisons, gradients, batch_size=None):
    """Returns one `Diagnosis` per failed variable, the most likely culprit first.

    The culprit is the last failed variable in forward order: an error in a
    backward pass spoils all that lies below it, and nothing above.

    Args:
        layout: The `Layout`, in forward order.
        comparisons: All comparisons of the check.
        gradients: Per term name, the analytic gradient, float64, shape (P,).
        batch_size: Number of examples, to recognize a mean in place of a sum.
    """
    order = {path: k for k, path in enumerate(layout.paths)}
    failed = list(
        dict.fromkeys(c.path for c in comparisons if c.verdict is Verdict.FAIL and c.path in order)
    )
    culprit = max(failed, key=order.__getitem__, default=None)
    # NaN comes down on the variables below; what to look for is told where it begins.
    spoiled = {
        c.path for c in comparisons if c.reason is Reason.NON_FINITE_GRADIENT and c.path in order
    }
    leaders = {culprit, max(spoiled, key=order.__getitem__, default=None)}
    found = [
        _of_variable(path, comparisons, leaders, layout, gradients, batch_size) for path in failed
    ]
    found = [dataclasses.replace(d, is_culprit=d.path == culprit) for d in found]
    return tuple(sorted(found, key=lambda d: (not d.is_culprit, -order[d.path])))


def scale_and_cosine(analytic, numeric):
    """Returns (`<a,n>/<n,n>`, `<a,n>/(||a|| ||n||)`): the least-squares factor, and the angle; NaN where undefined."""
    if not np.isfinite(analytic).all() or not np.isfinite(numeric).all():
        return math.nan, math.nan
    product, square = float(analytic @ numeric), float(numeric @ numeric)
    norms = float(np.linalg.norm(analytic) * np.linalg.norm(numeric))
    return (product / square if square else math.nan), (product / norms if norms else math.nan)


def where_not_finite(layout, gradient):
    """Returns words for where the NaN of a gradient comes from; empty if all of it is finite.

    It spreads from the loss towards the inputs, so it begins behind the last
    variable, in forward order, that has any.

    Args:
        layout: The `Layout`, in forward order.
        gradient: float, shape (P,).
    """
    spoiled = [v for v in range(len(layout)) if not np.isfinite(gradient[layout.slice(v)]).all()]
    if not spoiled:
        return ""
    path = layout.paths[spoiled[-1]]
    if len(spoiled) == np.count_nonzero(layout.sizes):
        return f"in the loss or behind {path}, the last variable"
    return f"behind {path}, the last variable with any"


def in_numbers(cosine, scale):
    """Returns how two gradients lie to each other, `: cosine ..., scale ...`; of that what is known."""
    told = ((cosine, f"cosine {cosine:.4f}"), (scale, f"scale {scale:.4g}"))
    known = [text for number, text in told if math.isfinite(number)]
    return f": {', '.join(known)}" if known else ""


def _of_variable(path, comparisons, leaders, layout, gradients, batch_size):
    own = [c for c in comparisons if c.path == path and c.reason is not Reason.VACUOUS]
    failed = [c for c in own if c.verdict is Verdict.FAIL]
    terms = tuple(dict.fromkeys(c.term for c in failed))
    term = next((t for t in ("data", "penalty") if t in terms), terms[0])
    own, failed = [c for c in own if c.term == term], [c for c in failed if c.term == term]
    analytic, numeric = (
        np.array([c.analytic for c in failed]),
        np.array([c.numeric for c in failed]),
    )
    scale, cosine = scale_and_cosine(analytic, numeric)
    sentence = _sentence(failed, analytic, numeric, scale, cosine, batch_size)
    if any(c.reason is Reason.NON_FINITE_GRADIENT for c in failed):
        sentence = _not_finite(layout, gradients[term], path in leaders)
    if np.isfinite(analytic).all() and _is_transposed(failed, layout, gradients[term]):
        sentence = "the gradient is transposed: entry [i, j] holds the derivative of entry [j, i]"
    sentence += _where(own, failed) + _which_terms(
        terms, {c.term for c in comparisons if c.path == path}
    )
    return Diagnosis(path, sentence, terms, scale, cosine)


def _sentence(failed, analytic, numeric, scale, cosine, batch_size):
    if any(c.reason is Reason.UNDECLARED_MATCH for c in failed):
        return "declared as a mismatch, but the gradient agrees: remove the declaration, or find out what stopped working"
    if not analytic.any():
        return "the gradient is zero although the loss moves: it is blocked (stop_gradient, rounding, argmax?)"
    still = [abs(c.numeric) <= c.error and abs(c.analytic) > c.error for c in failed]
    if all(still) or not numeric.any():
        return f"the gradient is not zero but the loss does not move: {SURROGATE}"
    if np.allclose(analytic, scale * numeric, rtol=_CLOSE, atol=0.0):
        return f"the gradient is {scale:.6g} times the true one{_cause(scale, batch_size)}"
    words = f"the gradient points elsewhere{in_numbers(cosine, scale)}"
    if any(still):
        words += (
            f"; it is not zero but the loss does not move at {sum(still)} of {len(still)} wrong places, as where it "
            f"moves in steps: {SURROGATE}"
        )
    return words


def _not_finite(layout, gradient, is_leader):
    """The sentence about a gradient that is not finite; where it begins and what to look for is told once."""
    if not is_leader:
        return "the gradient is NaN or infinite as well"
    place = where_not_finite(layout, gradient)
    causes = "sqrt, log, division, a norm or a power below 1 at zero, acos or asin at +-1?"
    return f"the gradient is NaN or infinite while the loss is finite{place and f': it begins {place}'} ({causes})"


def _cause(scale, batch_size):
    """What usually lies behind a constant factor."""
    size = abs(scale)
    causes = {
        2.0: "a factor 2 too many (the derivative of a square?)",
        0.5: "a factor 2 is missing (a square?)",
    }
    if batch_size and batch_size > 2:
        causes[1.0 / batch_size] = f"1/{batch_size}, one over the batch: a mean where a sum belongs"
        causes[float(batch_size)] = (
            f"{batch_size}, the size of the batch: a sum where a mean belongs"
        )
    words = [text for factor, text in causes.items() if math.isclose(size, factor, rel_tol=_CLOSE)]
    power = math.log2(size) if size else 0.0
    if not words and abs(power) > 1.5 and math.isclose(size, 2.0 ** round(power), rel_tol=_CLOSE):
        words = [f"2**{round(power)}, a power of two: a loss scale that was not removed?"]
    if scale < 0:
        words.insert(0, "the sign is reversed")
    return ": " + ", ".join(words) if words else ""


def _is_transposed(failed, layout, gradient):
    """Whether every failed entry of a square kernel holds what belongs across its diagonal."""
    entries = [
        c for c in failed if c.index is not None and len(c.index) == 2 and c.index[0] != c.index[1]
    ]
    variable = layout.paths.index(failed[0].path)
    shape = layout.shapes[variable]
    if not entries or len(shape) != 2 or shape[0] != shape[1]:
        return False
    kernel = gradient[layout.slice(variable)].reshape(shape)
    return all(math.isclose(kernel[c.index[::-1]], c.numeric, rel_tol=_CLOSE) for c in entries)


def _where(own, failed):
    """Names the unit or the row when everything wrong lies in one and something beside it is right."""
    wrong = [c.index for c in failed if c.index]
    right = [c.index for c in own if c.index and c.verdict is Verdict.PASS]
    if not wrong or not right:
        return ""
    for axis, name in ((-1, "unit"), (0, "row")):
        places = {index[axis] for index in wrong}
        elsewhere = [index for index in right if index[axis] not in places]
        within = [index for index in right if index[axis] in places]
        is_pattern = len(wrong) >= _PATTERN or len(wrong[0]) == 1
        if len(places) == 1 and is_pattern and len(elsewhere) >= _PATTERN and not within:
            return f"; only {name} {places.pop()} is wrong"
    return f"; {len(right)} other sampled parameters of this variable agree, so only part of it is wrong"


def _which_terms(terms, present):
    if "data" not in terms and "penalty" in terms:
        return "; only the penalty is wrong: look at the regularizer"
    if "data" in terms and "penalty" in present and "penalty" not in terms:
        return "; the penalty is right: look at the layers and the loss"
    return ""
