"""What a check has proved: which variables a numeric measurement has confirmed, and which nobody could tell of.

Agreement of two gradients that were both computed by backpropagation proves
neither of them, so the term `"trained"` has no part in any of this.
"""

import dataclasses

import numpy as np

from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import EVERYTHING, DerivativeComparison
from gradhooks.verdicts import optimizer_gradient

# Gradients are sums over a batch, its time steps and units; rounding in a sum of a million terms is
# of this many units of roundoff (N. J. Higham, "Accuracy and Stability of Numerical Algorithms",
# section 4.2).
_SUM = 1000.0


def zero_levels(gradients, precision):
    """Returns, per term, up to which size an entry of the analytic gradient may be the rounding of a zero.

    Args:
        gradients: Per term name, float64, shape (P,).
        precision: Name of the float dtype in which the gradient was computed.

    Returns:
        Dict of floats, in units of the gradient.
    """
    share = _SUM * optimizer_gradient.rounding(precision)
    return {term: share * _largest(gradient) for term, gradient in gradients.items()}


def _largest(gradient):
    finite = (
        np.abs(gradient[np.isfinite(gradient)])
        if not np.isfinite(gradient).all()
        else np.abs(gradient)
    )
    return float(np.max(finite, initial=0.0))


def without_false_zeros(comparisons, levels):
    """Returns the comparisons, vacuous only where the analytic derivative is zero as well.

    An error bar wider than both derivatives hides a wrong one as well as a right one.

    Args:
        comparisons: `Comparison`s.
        levels: What `zero_levels` returned; a direction is held against it as it is.
    """
    return [
        dataclasses.replace(c, reason=Reason.NOISE)
        if c.reason is Reason.VACUOUS and c.term in levels and abs(c.analytic) > levels[c.term]
        else c
        for c in comparisons
    ]


def is_numeric(comparison):
    """Whether a derivative was measured, and not two gradients compared."""
    return isinstance(comparison, DerivativeComparison)


def paths_with_proof(comparisons):
    """Returns the paths of the variables that a passing measurement of the total loss confirms."""
    return {c.path for c in comparisons if _is_proof(c)}


def positions(comparisons):
    """Returns the flat indices of what passed: of parameters, and of the first one of a variable's direction."""
    return {c.position for c in comparisons if _is_proof(c) and c.path != EVERYTHING}


def _is_proof(comparison):
    return comparison.verdict is Verdict.PASS and comparison.term == "total"


def paths_without_proof(comparisons):
    """Returns the paths of the variables that have a derivative to compare, and of which no measurement could tell."""
    is_open = {c.path for c in _of_total(comparisons) if _is_undecided(c)}
    failed = {c.path for c in comparisons if c.verdict is Verdict.FAIL}
    return sorted(is_open - paths_with_proof(comparisons) - failed - {EVERYTHING})


def paths_hidden_by_noise(comparisons):
    """Returns those paths among `unproved` where it is noise that hides a derivative of some size.

    What float32 could not tell beside the largest derivative has no size: it would be rounded away in any sum with it.
    """
    told, by_path = set(paths_without_proof(comparisons)), {}
    for c in _of_total(comparisons):
        if c.path != EVERYTHING and np.isfinite(c.analytic):
            by_path.setdefault(c.path, []).append(abs(c.analytic))
    largest = max((max(sizes) for sizes in by_path.values()), default=0.0)
    noisy = {c.path for c in _of_total(comparisons) if c.reason is Reason.NOISE} & told
    return sorted(
        path
        for path in noisy
        if max(by_path.get(path, [0.0])) > optimizer_gradient.rounding("float32") * largest
    )


def _of_total(comparisons):
    return [c for c in comparisons if is_numeric(c) and c.term == "total"]


def _is_undecided(comparison):
    return comparison.verdict is Verdict.INCONCLUSIVE and comparison.reason not in (
        Reason.VACUOUS,
        Reason.DECLARED,
    )


def open_comparisons(comparisons):
    """Returns what is undecided and counts: not what drowns in noise of a variable that all together have confirmed."""
    confirmed = paths_with_proof(comparisons)
    return [
        c
        for c in comparisons
        if _is_undecided(c)
        and not (
            is_numeric(c)
            and c.path in confirmed
            and max(abs(c.analytic), abs(c.numeric)) <= c.error
        )
    ]
