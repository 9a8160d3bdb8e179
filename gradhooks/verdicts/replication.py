"""Whether a failure is confirmed at other points: replicates of a measurement, and their votes.

A kink on which parameters sit is gone at a perturbed point, and rounding is another
there; a wrong gradient stays wrong, by the same error. One function, `confirm`,
decides for single parameters, for directions and for the whole gradients of
variables.
"""

import dataclasses
import enum
import math
from collections.abc import Callable, Sequence

import numpy as np

from gradhooks._types import Vector
from gradhooks.numerics.probe import DerivativeEstimate
from gradhooks.verdicts import judge

# Errors are of one size up to this factor. A free choice: the gradient itself may change by as
# much between the two points, and errors of rounding differ in sign as well.
_SAME_SIZE = 4.0
# Smallest cosine of two errors that are one. A free choice: errors of rounding are independent, so
# that their cosine is near 0 in variables of many entries.
_SAME_DIRECTION = 0.5
# Smallest cosine of error and gradient where the error is a factor of the gradient. A free choice:
# an angle of 26 degrees.
_ALONG_GRADIENT = 0.9
# An error bar wider than this fraction of the estimate is imprecise: a replicate that agrees under
# it contradicts nothing. A free choice; for imprecise estimates the gradient along the step is
# examined too, which only ever softens a failure.
_IMPRECISE = 0.1
# An error bar wider than this fraction leaves an estimate of few digits, as a wave does whose
# quotients fall with the step. A free choice: the gradient along the step is examined, as above.
_FEW_DIGITS = 0.01
# A change of the analytic gradient by this fraction of the gap explains the gap. A free choice:
# half a step away a gradient that varies evenly has changed by half of what it does over the step.
_LARGE_CHANGE = 0.5
_TINY = float(np.finfo(np.float64).tiny)


class Vote(enum.Enum):
    """What a replicate says of a failure."""

    REPEATED = "the same error occurs here too"
    CONTRADICTED = "the gradient is right here, and the measurement would have shown the error"
    SILENT = "the measurement shows neither"


# Returns the votes of one replicate, given by its number, on some of the failures.
Replicate = Callable[[Sequence[int], int], Sequence[Vote]]


def confirm(
    is_doubtful: Sequence[bool],
    count: int,
    replicate: Replicate,
) -> list[bool]:
    """Returns which failures stand after up to `count` replicates.

    A failure whose error bars are beyond doubt stands unless most replicates
    contradict it. A doubtful one needs most of them to repeat it: beside a kink,
    which no error bar covers, and at the precision of training, where the
    analytic gradient itself is rounded.

    Args:
        is_doubtful: Per failure, whether most replicates must repeat it.
        count: Number of replicates.
        replicate: Called with the numbers of failures and the number of the
            replicate, only as long as its votes matter; returns a `Vote` each.

    Example:

    >>> confirm([True, False], 1, lambda numbers, _: [Vote.SILENT] * len(numbers))
    [False, True]
    """
    votes: list[list[Vote]] = [[] for _ in is_doubtful]
    for number in range(count):
        still_open: list[int] = []
        for k, doubtful in enumerate(is_doubtful):
            if _is_open(votes[k], doubtful, count):
                still_open.append(k)
        if not still_open:
            break
        for k, vote in zip(still_open, replicate(still_open, number), strict=True):
            votes[k].append(vote)
    return [_stands(votes[k], doubtful, count) for k, doubtful in enumerate(is_doubtful)]


def _stands(votes: Sequence[Vote], is_doubtful: bool, count: int) -> bool:
    if is_doubtful:
        return 2 * votes.count(Vote.REPEATED) > count
    return 2 * votes.count(Vote.CONTRADICTED) <= count


def _is_open(votes: Sequence[Vote], is_doubtful: bool, count: int) -> bool:
    """Whether further votes may change whether a failure stands."""
    remaining = count - len(votes)
    outcomes = set[bool]()
    for vote in Vote:
        outcomes.add(_stands([*votes, *[vote] * remaining], is_doubtful, count))
    return len(outcomes) > 1


@dataclasses.dataclass(frozen=True)
class Error:
    """The error of a gradient at one point.

    Args:
        gap: float64, shape (K,). The gradient minus the reference.
        reference: float64, shape (K,). What it is compared with; for a derivative
            along a direction, the size that it is compared with.
    """

    gap: Vector
    reference: Vector


def is_same_error(first: Error, second: Error) -> bool:
    """Whether the errors at two points are one error.

    They are if both point in the same direction and have about the same size, or
    if both are about the same factor of the gradient, which may have turned.

    Example:

    >>> ones = np.ones(2)
    >>> first = Error(np.array([1.0, 0.0]), ones)
    >>> is_same_error(first, Error(np.array([1.5, 0.5]), ones))
    True
    >>> is_same_error(first, Error(np.array([-1.5, 0.5]), ones))
    False
    """
    size_here = _norm(first.gap)
    size_there = _norm(second.gap)
    has_same_direction = _cosine(first.gap, second.gap) >= _SAME_DIRECTION
    if has_same_direction and _is_of_one_size(size_here, size_there):
        return True

    along_here = _cosine(first.gap, first.reference)
    along_there = _cosine(second.gap, second.reference)
    smallest = min(abs(along_here), abs(along_there))
    if smallest < _ALONG_GRADIENT:
        return False
    if along_here * along_there < 0:
        return False
    factor_here = size_here / _norm(first.reference)
    factor_there = size_there / _norm(second.reference)
    return _is_of_one_size(factor_here, factor_there)


@dataclasses.dataclass(frozen=True)
class Comparand:
    """The analytic derivative of one term along a probe beside its estimate.

    Args:
        analytic: Derivative by backpropagation.
        estimate: The `DerivativeEstimate`.
        magnitude: Size of the derivative if nothing cancelled; 0 for a coordinate.
    """

    analytic: float
    estimate: DerivativeEstimate
    magnitude: float = 0.0

    @property
    def gap(self) -> float:
        """Analytic minus numeric derivative."""
        return self.analytic - self.estimate.slope

    @property
    def size(self) -> float:
        """The size that the gap is compared with."""
        return judge.fraction_of_size(1.0, self.analytic, self.estimate, self.magnitude)

    @property
    def is_imprecise(self) -> bool:
        """Whether the error bar is wide."""
        return not self.estimate.error <= _IMPRECISE * self.size

    @property
    def may_be_wave(self) -> bool:
        """Whether the loss may go up and down within the step.

        Its quotients are then far smaller than its derivative, or of few digits.
        """
        is_far_smaller = _SAME_SIZE * abs(self.estimate.slope) < abs(self.analytic)
        return is_far_smaller or not self.estimate.error <= _FEW_DIGITS * self.size

    @property
    def is_vacuous(self) -> bool:
        """Whether there is nothing to see: both derivatives are below the error bar."""
        return max(abs(self.analytic), abs(self.estimate.slope)) <= self.estimate.error

    def is_as_steep_as(self, other: "Comparand") -> bool:
        """Whether numeric derivatives are of one size, or one part of the gradient, up to bars."""
        one, two = abs(self.estimate.slope), abs(other.estimate.slope)
        scale = 1.0
        if other.analytic and two > other.estimate.error:
            scale = abs(self.analytic / other.analytic)
        for factor in (1.0, scale):
            smaller, larger = min(one, factor * two), max(one, factor * two)
            error = self.estimate.error + factor * other.estimate.error
            if larger <= _SAME_SIZE * smaller + error:
                return True
        return False

    def stands_beside(self, change: float) -> bool:
        """Whether the analytic derivative nearby leaves the gap what it is.

        An even change over the step opens the one-sided slopes by as much.
        """
        return abs(change) < _LARGE_CHANGE * abs(self.gap) + self.estimate.opening

    def is_explained_by(self, change: float) -> bool:
        """Whether a change of the analytic derivative nearby is as large as the gap.

        A quotient is the mean of the derivative over its step. Where the
        derivative changes that much within the step, as in a network that
        multiplies the smallest difference, no step in reach shows the derivative
        at one point. A wrong gradient is wrong by about as much half a step away.
        A NaN gradient nearby gives no evidence.
        """
        return not abs(change) < _LARGE_CHANGE * abs(self.gap)


def vote(first: Comparand, second: Comparand, threshold: float) -> Vote:
    """Returns what the same derivative at a perturbed point says of a failure.

    Args:
        first: The derivative that failed.
        second: The same at a perturbed point.
        threshold: Relative difference that the verdict allows.
    """
    if not math.isfinite(second.gap) or not math.isfinite(second.size) or second.is_vacuous:
        return Vote.SILENT
    allowed = threshold * second.size
    is_beyond_bar = second.estimate.distance_to(second.analytic) > 0
    if is_beyond_bar and abs(second.gap) > allowed:
        return Vote.REPEATED if is_same_error(_error(first), _error(second)) else Vote.SILENT
    width = second.estimate.half_width
    if allowed + width < abs(first.gap) and width <= _IMPRECISE * second.size:
        return Vote.CONTRADICTED
    return Vote.SILENT


def _error(comparand: Comparand) -> Error:
    larger = max(comparand.analytic, comparand.estimate.slope, key=abs)
    size = math.copysign(comparand.size, larger)
    return Error(np.array([comparand.gap]), np.array([size]))


def _norm(vector: Vector) -> float:
    return float(np.linalg.norm(vector))


def _is_of_one_size(one: float, other: float) -> bool:
    smaller = min(one, other)
    larger = max(one, other)
    return larger <= _SAME_SIZE * smaller


def _cosine(one: Vector, other: Vector) -> float:
    """The cosine between two vectors; 0 where there is none."""
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    cosine = float(one @ other) / max(norms, _TINY)
    if not math.isfinite(cosine):
        return 0.0
    return cosine
