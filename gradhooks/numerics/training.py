"""The gradient that the optimizer received, held against the analytic one: every parameter of every variable.

Both are whole vectors, one in float64, one at training precision. What the
precision explains is no finding: rounding is told from error by its lack of
memory. At a slightly nudged point rounding is drawn anew, an error is not.
"""

import dataclasses
import math

import numpy as np

from gradhooks.numerics.records import Comparison, Reason, Verdict
from gradhooks.numerics.verdict import relative_difference

TERM = "trained"
# Unit roundoff of the formats that networks are trained in.
ROUNDOFF = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-8, "float16": 2.0**-11}
# A sum of a million terms in float32 loses the square root of that many roundoffs; half precision adds up in float32
# and rounds the result of each operation, of which a path through a network has some hundreds.
_SUM, _PATH = 1000.0, 16.0
# Below this many roundoffs of the typical gradient entry, an entry is noise whatever its own size.
_FLOOR = 64.0
# An error at the nudged point that points the same way and has the same size is no rounding.
_REPEATS, _SIZE = 0.5, 4.0
# Share of zeros, in half precision, from which a difference is called underflow.
_ZEROS = 0.02
# What is lost to underflow was smaller than this: the half of the smallest float16, in a sum of a thousand of them.
_LOST = 1024 * 2.0**-25


@dataclasses.dataclass(frozen=True)
class Received:
    """One recorded gradient beside the reference.

    Args:
        analytic: float64, shape (P,). Gradient of the total loss, float64.
        trained: float64, shape (P,). What the optimizer received, unscaled.
        reached: bool, shape (V,). Whether a gradient came for the variable.
    """

    analytic: np.ndarray
    trained: np.ndarray
    reached: np.ndarray


def tolerance(dtype):
    """Returns the relative difference that training in a dtype explains.

    `1000 u(float32) + 16 u(dtype)` with `u` the unit roundoff: rounding errors
    of a sum grow with the square root of its length (N. J. Higham, "Accuracy
    and Stability of Numerical Algorithms", section 4.2).

    Example:

    >>> f"{tolerance('float32'):.1e}", f"{tolerance('bfloat16'):.1e}"
    ('1.2e-04', '6.3e-02')
    """
    return _SUM * ROUNDOFF["float32"] + _PATH * ROUNDOFF.get(dtype, ROUNDOFF["float32"])


def suspects(layout, received, dtype):
    """Returns the numbers of the variables whose gradients differ by more than the precision explains."""
    return [v for v in range(len(layout)) if not _is_close(layout, received, v, dtype)]


def _floor(analytic, dtype):
    """Root mean square of what rounding alone leaves in an entry."""
    return _FLOOR * ROUNDOFF.get(dtype, ROUNDOFF["float32"]) * _size(analytic)


def _size(entries):
    """Root mean square."""
    return math.sqrt(np.mean(np.square(entries))) if len(entries) else 0.0


def _is_close(layout, received, variable, dtype):
    allowed, floor = tolerance(dtype), _floor(received.analytic, dtype)
    part = layout.slice(variable)
    analytic, trained = received.analytic[part], received.trained[part]
    if not np.isfinite(trained).all():
        return False
    distance = np.linalg.norm(trained - analytic)
    if distance <= allowed * (np.linalg.norm(trained) + np.linalg.norm(analytic)):
        return True
    is_noise = distance <= floor * math.sqrt(max(len(analytic), 1))
    return is_noise and not _underflows(received, variable, part, dtype)


def _underflows(received, variable, part, dtype):
    """Whether entries became zero because float16 has no number as small, although float32 would have kept them.

    Underflow is no noise, however small the variable's gradient beside the
    others': what is lost is lost at every point, and it is what an optimizer
    such as Adam scales up.
    """
    if dtype != "float16" or not received.reached[variable]:
        return False
    analytic, trained = received.analytic[part], received.trained[part]
    kept_by_float32 = np.abs(analytic) > _floor(received.analytic, "float32")
    lost = kept_by_float32 & (trained == 0)
    if np.sum(lost) <= _ZEROS * len(analytic):
        return False
    rest = analytic[kept_by_float32 & ~lost]
    return _size(analytic[lost]) <= min(_LOST, _size(rest) if len(rest) else _LOST)


def compare(layout, received, nudged, dtype):
    """Returns one `Comparison` per variable.

    Args:
        layout: The `Layout`.
        received: `Received` at the point.
        nudged: `Received` at nudged points, empty if nothing was suspect.
        dtype: Name of the dtype that training computes in.
    """
    return [_comparison(layout, received, nudged, v, dtype) for v in range(len(layout))]


def _comparison(layout, received, nudged, variable, dtype):
    part = layout.slice(variable)
    analytic, trained = received.analytic[part], received.trained[part]
    verdict, reason = _verdict(layout, received, nudged, variable, dtype)
    noise = _floor(received.analytic, dtype) * math.sqrt(max(len(analytic), 1))
    with np.errstate(invalid="ignore", over="ignore"):  # a gradient that is not finite is judged above
        sizes = float(np.linalg.norm(analytic)), float(np.linalg.norm(trained))
        product, square = float(analytic @ trained), sizes[0] ** 2
        distance = float(np.linalg.norm(trained - analytic))
        difference = relative_difference(analytic, trained)
    is_alike = min(sizes) > 0 and distance <= tolerance(dtype) * sum(sizes)
    if verdict is Verdict.PASS and max(sizes) <= noise and not is_alike:
        verdict, reason = Verdict.INCONCLUSIVE, Reason.VACUOUS  # nothing but the noise of others' gradients
    nonzero = analytic != 0
    return Comparison(
        layout.paths[variable], None, TERM, sizes[0], sizes[1], noise, 0.0, difference, verdict, reason,
        allowed=max(tolerance(dtype) * sum(sizes), noise), position=part.start, distance=distance,
        cosine=product / (sizes[0] * sizes[1]) if all(sizes) else math.nan,
        scale=product / square if square else math.nan,
        zeros=float(np.mean(trained[nonzero] == 0)) if nonzero.any() else 0.0,
    )  # fmt: skip


def _verdict(layout, received, nudged, variable, dtype):
    part = layout.slice(variable)
    if not np.isfinite(received.trained[part]).all():
        if np.isfinite(received.analytic[part]).all() and dtype == "float16":
            return Verdict.INCONCLUSIVE, Reason.NOT_RECORDED  # overflow; loss scaling skips the step and tries again
        return Verdict.FAIL, Reason.NON_FINITE_GRADIENT
    if _is_close(layout, received, variable, dtype):
        return Verdict.PASS, Reason.AGREES
    with np.errstate(invalid="ignore", over="ignore"):  # the nudged point may be one where the gradient is not finite
        if not all(_repeats(received, other, part) for other in nudged):
            return Verdict.INCONCLUSIVE, Reason.NOISE
    return Verdict.FAIL, Reason.UNDERFLOW if _underflows(received, variable, part, dtype) else Reason.UNTRAINED


def _repeats(received, other, part):
    """Whether the error at another point is the same error: rounding is not."""
    error, again = (received.trained - received.analytic)[part], (other.trained - other.analytic)[part]
    norms = float(np.linalg.norm(error)), float(np.linalg.norm(again))
    if not all(map(math.isfinite, norms)) or not min(norms):
        return False
    return error @ again >= _REPEATS * norms[0] * norms[1] and max(norms) <= _SIZE * min(norms)


def headline(layout, received, comparisons):
    """Returns the relative difference over all variables that could be decided."""
    decided = {c.path for c in comparisons if c.verdict is not Verdict.INCONCLUSIVE}
    parts = [layout.slice(v) for v, path in enumerate(layout.paths) if path in decided]
    if not parts:
        return 0.0
    analytic = np.concatenate([received.analytic[p] for p in parts])
    return relative_difference(analytic, np.concatenate([received.trained[p] for p in parts]))
