"""The gradient that the optimizer received, held against the analytic one: every parameter of every variable.

Both are whole vectors, one in float64, one at training precision. What the
precision explains is no finding: rounding is told from error by its lack of
memory. At a slightly nudged point rounding is drawn anew, an error is not.
"""

import dataclasses
import functools
import math

import numpy as np

from gradhooks.numerics.layout import Layout
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import GradientComparison
from gradhooks.verdicts import repeated_error

# Unit roundoff of the formats that networks are trained in: half the distance from 1 to the next
# number.
ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
# A sum of a million terms in float32 loses the square root of that many roundoffs, forth and back;
# half precision adds up in float32 and rounds the result of each operation, of which a path through
# a network has some hundreds.
_SUM, _PATH = 2000.0, 16.0
# Below this many roundoffs of the typical gradient entry, an entry is noise whatever its own size.
_FLOOR = 64.0
# An error of up to so many times what a unit of roundoff does to the gradient is rounding; what is
# larger is looked at again at another point. `python -m tools.calibrate_rounding float32`: 44 times
# and more where a train step is wrong.
_CONDITION = 10.0
# Share of zeros, in half precision, from which a difference is called underflow.
_ZEROS = 0.02
# What is lost to underflow was smaller than this: the half of the smallest float16, in a sum of a
# thousand of them.
_LOST = 1024 * 2.0**-25


@dataclasses.dataclass(frozen=True)
class OptimizerGradient:
    """One recorded gradient beside the reference.

    Args:
        layout: The `Layout`.
        analytic: float64, shape (P,). Gradient of the total loss, float64.
        trained: float32 or float64, shape (P,). What the optimizer received,
            unscaled.
        reached: bool, shape (V,). Whether a gradient came for the variable.
        is_skipped: Whether loss scaling leaves out a step that is not finite.
    """

    layout: Layout
    analytic: np.ndarray
    trained: np.ndarray
    reached: np.ndarray
    is_skipped: bool = False

    # Asked for again and again for every variable, and as long as the model: worked out once.

    @functools.cached_property
    def sizes(self):
        """Norms of the analytic and of the trained gradient of each variable: float64, shape (2, V)."""
        return np.array([self.layout.norms(self.analytic), self.layout.norms(self.trained)])

    @functools.cached_property
    def distances(self):
        """Norm of the difference for each variable: float64, shape (V,)."""
        return self.layout.norms(self.trained - self.analytic)

    @functools.cached_property
    def finite(self):
        """Whether every entry of the trained gradient of a variable is finite: bool, shape (V,)."""
        return np.array(
            [
                np.isfinite(self.trained[self.layout.slice(v)]).all()
                for v in range(len(self.layout))
            ],
            bool,
        )

    @functools.cached_property
    def typical(self):
        """Root mean square of the analytic gradient."""
        return _root_mean_square(self.analytic)


def rounding(dtype):
    """Returns by how much, relatively, one operation may round: its sums in float32 at least, its result in the dtype.

    Example:

    >>> rounding("float32") == 2.0**-23, rounding("bfloat16") == 2.0**-8 + 2.0**-24
    (True, True)
    """
    result = ROUNDOFF.get(dtype, ROUNDOFF["float32"])
    return min(result, ROUNDOFF["float32"]) + result


def tolerance(dtype):
    """Returns the relative difference that training in a dtype explains.

    `2000 u(float32) + 16 rounding(dtype)` with `u` the unit roundoff: rounding errors
    of a sum grow with the square root of its length (N. J. Higham, "Accuracy
    and Stability of Numerical Algorithms", section 4.2).

    Example:

    >>> f"{tolerance('float32'):.1e}", f"{tolerance('bfloat16'):.1e}"
    ('1.2e-04', '6.3e-02')
    """
    return _SUM * ROUNDOFF["float32"] + _PATH * rounding(dtype)


def disagreeing(received, dtype):
    """Returns the numbers of the variables whose gradients differ by more than the precision explains."""
    return [v for v in range(len(received.layout)) if not _is_close(received, v, dtype)]


def floor(gradient, dtype):
    """Returns the root mean square of what rounding alone leaves in an entry of a gradient that a dtype trains."""
    return _FLOOR * rounding(dtype) * _root_mean_square(gradient)


def _floor(received, dtype):
    return _FLOOR * rounding(dtype) * received.typical


def _root_mean_square(entries):
    return math.sqrt(np.mean(np.square(entries))) if len(entries) else 0.0


def _is_close(received, variable, dtype):
    distance = received.distances[variable]
    if not received.finite[variable]:
        return False
    if distance <= tolerance(dtype) * received.sizes[:, variable].sum():
        return True
    is_noise = distance <= _floor(received, dtype) * math.sqrt(
        max(received.layout.sizes[variable], 1)
    )
    return is_noise and not _underflows(received, variable, dtype)


def _underflows(received, variable, dtype):
    """Whether entries became zero because float16 has no number as small, although float32 would have kept them.

    Underflow is no noise, however small the variable's gradient beside the
    others': what is lost is lost at every point, and it is what an optimizer
    such as Adam scales up.
    """
    if dtype != "float16" or not received.reached[variable]:
        return False
    part = received.layout.slice(variable)
    analytic, trained = received.analytic[part], received.trained[part]
    kept_by_float32 = np.abs(analytic) > _floor(received, "float32")
    lost = kept_by_float32 & (trained == 0)
    if np.sum(lost) <= _ZEROS * len(analytic):
        return False
    rest = analytic[kept_by_float32 & ~lost]
    return _root_mean_square(analytic[lost]) <= min(
        _LOST, _root_mean_square(rest) if len(rest) else _LOST
    )


def beyond_rounding(received, nearby, variables, dtype):
    """Returns those of some variables whose error is larger than rounding makes it.

    Rounding acts like a change of the parameters by a unit of roundoff. Where
    the gradient itself changes by as much as that, nothing better can be
    expected of training (the condition number of the problem, as in N. J.
    Higham, "Accuracy and Stability of Numerical Algorithms", section 1.6).

    Args:
        received: `Received` at the point.
        nearby: float64, shape (P,). The analytic gradient a unit of roundoff away.
        variables: Numbers of variables.
        dtype: Name of the dtype that training computes in.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # the gradient nearby may not be finite
        expected = _CONDITION * received.layout.norms(nearby - received.analytic)
        is_rounding = received.reached & np.isfinite(expected) & (received.distances <= expected)
    return [v for v in variables if not is_rounding[v] or _underflows(received, v, dtype)]


def replicate_failures(received, nudged, variables, dtype):
    """Returns those of some variables whose error at a nudged point is the same error: rounding is not.

    Args:
        received: `Received` at the point.
        nudged: `Received` at a nudged point.
        variables: Numbers of variables.
        dtype: Name of the dtype that training computes in.
    """
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # the nudged point may be one where the gradient is not finite
        return [
            v
            for v in variables
            if _repeats(received, nudged, v) or _underflows_twice(received, nudged, v, dtype)
        ]


def _repeats(received, nudged, variable):
    part = received.layout.slice(variable)
    errors = [r.trained[part] - r.analytic[part] for r in (received, nudged)]
    return repeated_error.is_same_error(errors, [r.analytic[part] for r in (received, nudged)])


def _underflows_twice(received, nudged, variable, dtype):
    """Whether entries are lost to underflow at both points; which ones depends on the gradient there."""
    return _underflows(received, variable, dtype) and _underflows(nudged, variable, dtype)


def compare(received, noisy, dtype):
    """Returns one `GradientComparison` per variable.

    Args:
        received: `Received` at the point.
        noisy: Numbers of the suspect variables whose error is not repeated at
            nudged points.
        dtype: Name of the dtype that training computes in.
    """
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # a gradient that is not finite is judged, and no surprise
        return [_comparison(received, v in noisy, v, dtype) for v in range(len(received.layout))]


def _comparison(received, is_noisy, variable, dtype):
    layout, part = received.layout, received.layout.slice(variable)
    analytic, trained = received.analytic[part], received.trained[part]
    verdict, reason = _verdict(received, is_noisy, variable, dtype)
    noise = _floor(received, dtype) * math.sqrt(max(len(analytic), 1))
    sizes, distance = (
        tuple(map(float, received.sizes[:, variable])),
        float(received.distances[variable]),
    )
    product, square = float(analytic @ trained), sizes[0] ** 2
    is_alike = min(sizes) > 0 and distance <= tolerance(dtype) * sum(sizes)
    if verdict is Verdict.PASS and max(sizes) <= noise and not is_alike:
        verdict, reason = (
            Verdict.INCONCLUSIVE,
            Reason.VACUOUS,
        )  # nothing but the noise of others' gradients
    nonzero = analytic != 0
    return GradientComparison(
        layout.paths[variable],
        analytic_norm=sizes[0],
        received_norm=sizes[1],
        distance=distance,
        relative_difference=_relative(sizes, distance),
        verdict=verdict,
        reason=reason,
        allowed=float(max(tolerance(dtype) * sum(sizes), noise)),
        rounding=noise,
        position=part.start,
        dtype=dtype,
        cosine=product / (sizes[0] * sizes[1]) if all(sizes) else math.nan,
        ratio=product / square if square else math.nan,
        zeros=float(np.mean(trained[nonzero] == 0)) if nonzero.any() else 0.0,
    )


def _relative(sizes, distance):
    """The relative difference of two vectors whose norms are known; NaN where they are not finite."""
    if not math.isfinite(sum(sizes)):
        return math.nan
    return distance / sum(sizes) if any(sizes) else 0.0


def _verdict(received, is_noisy, variable, dtype):
    if not received.finite[variable]:
        if (
            np.isfinite(received.analytic[received.layout.slice(variable)]).all()
            and received.is_skipped
        ):
            return (
                Verdict.INCONCLUSIVE,
                Reason.NOT_RECORDED,
            )  # overflow, and another try with a smaller scale
        return Verdict.FAIL, Reason.NON_FINITE_GRADIENT
    if _is_close(received, variable, dtype):
        return Verdict.PASS, Reason.AGREES
    if is_noisy:
        # What is not finite in float64 has no digits to round.
        is_finite = np.isfinite(received.analytic[received.layout.slice(variable)]).all()
        return Verdict.INCONCLUSIVE, Reason.ROUNDING if is_finite else Reason.NON_FINITE_GRADIENT
    return Verdict.FAIL, Reason.UNDERFLOW if _underflows(
        received, variable, dtype
    ) else Reason.UNTRAINED


def headline(received, comparisons):
    """Returns the relative difference over all variables that could be decided."""
    decided = [k for k, c in enumerate(comparisons) if c.verdict is not Verdict.INCONCLUSIVE]
    sizes = np.linalg.norm(received.sizes[:, decided], axis=1)
    return _relative(tuple(map(float, sizes)), float(np.linalg.norm(received.distances[decided])))
