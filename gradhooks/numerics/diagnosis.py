"""What is wrong, in words: from scale, cosine, zeros and the terms that fail."""

import math

import numpy as np

from gradhooks.numerics.records import Diagnosis, Reason, Verdict

# Factors that bugs come with, and what they usually mean.
_FACTORS = {
    2.0: "a factor 2 is there twice or should not be there (the derivative of a square?)",
    0.5: "a factor 2 is missing (the derivative of a square?)",
    -1.0: "the sign is reversed",
}


def diagnose(layout, comparisons, gradients):
    """Returns one `Diagnosis` per failed variable, the most likely culprit first.

    Args:
        layout: The `Layout`, in forward order.
        comparisons: All comparisons of the check.
        gradients: Per term name, the analytic gradient, float64, shape (P,).
    """
    failed = list(dict.fromkeys(c.path for c in comparisons if c.verdict is Verdict.FAIL and c.path in layout.paths))
    culprit = _culprit(layout, comparisons, failed)
    found = [_of_variable(path, comparisons, path == culprit, layout, gradients) for path in failed]
    return tuple(sorted(found, key=lambda d: not d.is_culprit))


def _culprit(layout, comparisons, failed):
    """The last failed variable in forward order: an error in a backward pass spoils all that lies below it."""
    order = {path: k for k, path in enumerate(layout.paths)}
    return max(failed, key=order.__getitem__, default=None)


def _of_variable(path, comparisons, is_culprit, layout, gradients):
    own = [c for c in comparisons if c.path == path and c.reason is not Reason.VACUOUS]
    failed = [c for c in own if c.verdict is Verdict.FAIL]
    terms = tuple(dict.fromkeys(c.term for c in failed))
    term = "data" if "data" in terms else terms[0]
    analytic = np.array([c.analytic for c in failed if c.term == term])
    numeric = np.array([c.numeric for c in failed if c.term == term])
    scale, cosine = scale_and_cosine(analytic, numeric)
    passed = sum(c.verdict is Verdict.PASS for c in own if c.term == term)
    sentence = _sentence(failed, analytic, numeric, scale, cosine, passed)
    only = _which_terms(terms, own)
    return Diagnosis(path, sentence + only, terms, scale, cosine, is_culprit)


def scale_and_cosine(analytic, numeric):
    """Returns (`<a,n>/<n,n>`, `<a,n>/(||a|| ||n||)`): the least-squares factor, and the angle; NaN where undefined."""
    if not np.isfinite(analytic).all() or not np.isfinite(numeric).all():
        return math.nan, math.nan
    product, square = float(analytic @ numeric), float(numeric @ numeric)
    norms = float(np.linalg.norm(analytic) * np.linalg.norm(numeric))
    return (product / square if square else math.nan), (product / norms if norms else math.nan)


def _sentence(failed, analytic, numeric, scale, cosine, passed):
    if any(c.reason is Reason.NON_FINITE_GRADIENT for c in failed):
        return "the gradient is NaN or infinite while the loss is finite (sqrt, log, division or a norm at zero?)"
    if not analytic.any():
        return "the gradient is zero although the loss moves: it is blocked (stop_gradient, rounding, argmax?)"
    if not numeric.any():
        return "the gradient is not zero but the loss does not move: a straight-through estimator, or a wrong gradient"
    partly = (
        f"; {passed} other sampled parameters of this variable agree, so one unit or row is wrong" if passed else ""
    )
    is_constant = len(analytic) == 1 or np.allclose(analytic, scale * numeric, rtol=1e-3, atol=0.0)
    if is_constant and math.isfinite(scale):
        return f"the gradient is {scale:.6g} times the true one{_cause(scale)}{partly}"
    return f"the gradient points elsewhere: cosine {cosine:.4f}, scale {scale:.4g}{partly}"


def _cause(scale):
    for factor, cause in _FACTORS.items():
        if math.isclose(scale, factor, rel_tol=1e-3):
            return f": {cause}"
    return ": the sign is reversed and the size is off" if scale < 0 else ""


def _which_terms(terms, own):
    present = {c.term for c in own}
    if terms and "data" not in terms and "penalty" in terms:
        return "; only the penalty is wrong: look at the regularizer"
    if "data" in terms and "penalty" in present and "penalty" not in terms:
        return "; the penalty is right: look at the layers and the loss"
    return ""
