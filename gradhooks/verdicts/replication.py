"""What a second look at a nudged point says of a gradient that failed at the first.

A corner that parameters sit on is gone there, and rounding is drawn anew; a
wrong gradient stays wrong. Everything here takes `measurement.Measurement`s of
one probe.
"""

import math

import numpy as np

from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.verdicts import judge

# Shares within this factor of each other are one error.
_ALIKE = 1.5
# An error bar wider than this share of the estimate is blurred. It does not matter much: only how
# the gradient changes on the way softens a failure.
_BLURRED = 0.1
# Where on the way to the end of a step the gradient is asked again, and by how much of a gap it may
# change there.
WAY, _STEADY = (0.5, -0.5, 0.9, -0.9, 0.2, -0.3), 0.5


def is_beside_kink(measured):
    """Whether a term that failed did so where the one-sided slopes do not meet."""
    pairs = zip(measured.judgements, measured.estimates, strict=True)
    return any(v is Verdict.FAIL and estimate.is_kink for (v, _), estimate in pairs)


def is_imprecise(measured):
    """Whether a term failed by an estimate whose error bar is wide beside the estimate itself."""
    terms = zip(measured.judgements, measured.estimates, strict=True)
    return any(v is Verdict.FAIL and e.error > _BLURRED * abs(e.slope) for (v, _), e in terms)


def varies_along_step(measured, along):
    """Whether backpropagation contradicts itself on the way that a blurred estimate looked at.

    A quotient is the mean of the derivative over its step. Where that changes
    from place to place by as much as the gap, as in a network that multiplies the
    smallest difference, no step in reach shows the derivative of one place. A
    wrong gradient is wrong by about as much half a step on.

    Args:
        measured: `Measurement` that failed.
        along: Per point on the way, the slope of each term there.

    Returns:
        True if every term that failed wavers.
    """
    changes = np.max(np.abs(np.asarray(along) - measured.analytic), axis=0)
    terms = zip(measured.judgements, measured.analytic, measured.estimates, changes, strict=True)
    # NaN on the way is no testimony either.
    return not any(
        v is Verdict.FAIL and change < _STEADY * abs(a - e.slope) for (v, _), a, e, change in terms
    )


def is_withdrawn_by(second, first, tolerance):
    """Whether a second look agrees, and would have seen the gaps of the first one: the blind acquit nobody.

    It need not see so sharply that it proves anything by itself.
    """
    is_agreeing = all(
        v is Verdict.PASS or r in (Reason.VACUOUS, Reason.NOISE) for v, r in second.judgements
    )
    terms = zip(
        second.analytic,
        second.estimates,
        second.magnitude,
        first.analytic,
        first.estimates,
        strict=True,
    )
    return (
        is_agreeing
        and not second.is_vacuous
        and all(
            _is_sharp(analytic, estimate, magnitude)
            and judge.allowed_gap(analytic, estimate, tolerance, magnitude)
            < abs(before - measured.slope)
            for (analytic, estimate, magnitude, before, measured), (judged, _) in zip(
                terms, first.judgements, strict=True
            )
            if judged is Verdict.FAIL
        )
    )


def _is_sharp(analytic, estimate, magnitude):
    return estimate.error <= judge.of_size(_BLURRED, analytic, estimate, magnitude)


def is_replicated(first, others, tolerance):
    """Whether several other looks find, in the median, the error of a first one that failed.

    At native precision no look is sharp: steps are so large that they cross
    corners, and the analytic gradient is rounded, which no error bar knows. Both
    are drawn anew each time. A wrong gradient is wrong by the same share of its
    size wherever one looks, and the median does not mind a few looks gone wrong.

    Args:
        first: `Measurement` that failed.
        others: `Measurement`s of the same probe at nudged points.
        tolerance: Relative difference that the verdict allows.

    Returns:
        True if, for a term that failed, most looks see a gap beyond their error
        bars, and the median share is beyond the tolerance and about the first
        one's, sign included.
    """
    shares, seen = (np.array([of(other) for other in others]) for of in (_shares, _seen))
    terms = zip(
        first.judgements,
        _shares(first),
        np.median(shares, axis=0),
        np.mean(seen, axis=0),
        strict=True,
    )
    return any(
        judged is Verdict.FAIL
        and most > 0.5
        and abs(middle) > tolerance
        and 1 / _ALIKE <= middle / share <= _ALIKE
        for (judged, _), share, middle, most in terms
        if share
    )


def may_be_replicated(first, others, count):
    """Whether `is_repeated` may still hold when there are `count` looks: where a term failed, few have seen nothing."""
    blind = [sum(not _seen(other)[t] for other in others) for t in range(len(first.judgements))]
    return any(
        v is Verdict.FAIL and 2 * n < count
        for (v, _), n in zip(first.judgements, blind, strict=True)
    )


def _shares(measured):
    """Per term, the gap in units of what the verdict holds it against; a wrong factor gives the same anywhere."""
    terms = zip(measured.analytic, measured.estimates, measured.magnitude, strict=True)
    return [_share(*term) for term in terms]


def _share(analytic, estimate, magnitude):
    size = judge.of_size(1.0, analytic, estimate, magnitude)
    if not size or not math.isfinite(size):
        return 0.0  # there is no telling
    return (analytic - estimate.slope) / math.copysign(size, max(analytic, estimate.slope, key=abs))


def _seen(measured):
    """Per term, whether the gap is beyond the error bar."""
    return [
        abs(a - e.slope) > e.error
        for a, e in zip(measured.analytic, measured.estimates, strict=True)
    ]
