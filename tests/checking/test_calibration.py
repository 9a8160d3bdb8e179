"""Over many functions: how often the true error lies within the reported one.

The bars are four standard deviations of rounding plus a bound on the
truncation, so they should hold nearly always. The test asks for 95 %, the usual
meaning of an error bar; below it a verdict that rests on the bar alone would be
wrong more than one time in twenty.
"""

import collections
import dataclasses
import math

import numpy as np
import pytest

from gradhooks.checking import baseline
from gradhooks.numerics import differences, step_sizes
from gradhooks.numerics.probe import Probe
from tests.fakes import FunctionOracle

SHARE = 0.95
FUNCTIONS_PER_FAMILY = 40
POINTS_PER_FUNCTION = 3


def logistic(t):
    return 1 / (1 + np.exp(-t))


ELEMENTS = (
    np.exp,
    np.sin,
    np.cos,
    np.tanh,
    logistic,
    lambda t: t * t,
    lambda t: np.log(1 + np.exp(t)),
    lambda t: np.sqrt(1 + t * t),
)


def polynomial(rng):
    coefficients = rng.normal(size=rng.integers(2, 7))
    return lambda t: sum(c * t**k for k, c in enumerate(coefficients))


def composition(rng):
    outer, inner = (ELEMENTS[k] for k in rng.integers(len(ELEMENTS), size=2))
    a, b, c, d = rng.normal(size=4)
    return lambda t: outer(a * inner(b * t + c) + d)


def unit(rng):
    """A loss as a function of one parameter of a network's unit."""
    outer, inner = (ELEMENTS[k] for k in rng.integers(len(ELEMENTS), size=2))
    a, b, c, d = rng.normal(size=4)
    return lambda t: outer(a * np.tanh(inner(b * t + c)) + d)


def rational(rng):
    a, b, c, d, e = rng.normal(size=5)
    return lambda t: (a + b * t + c * t * t) / (1 + (d * t + e) ** 2)


def waves(rng):
    parts = list(
        zip(
            rng.normal(size=3),
            rng.uniform(0.3, 5, size=3),
            rng.uniform(0, 2 * math.pi, 3),
            strict=True,
        )
    )
    return lambda t: sum(a * np.sin(w * t + p) for a, w, p in parts)


def bell(rng):
    centre, width = rng.normal(), rng.uniform(0.3, 3)
    return lambda t: np.exp(-(((t - centre) / width) ** 2))


FAMILIES = (polynomial, composition, unit, rational, waves, bell)


def true_slope(function, point):
    """The derivative by a complex step, exact to rounding (Squire, Trapp, SIAM Review 40, 1998)."""
    return float(np.imag(function(complex(point, 1e-200))) / 1e-200)


@dataclasses.dataclass(frozen=True)
class Condition:
    """How the losses are computed and how their noise level is estimated.

    Args:
        name: Name of the condition.
        terms: Number of samples whose losses are averaged, in float64.
        of_sample: Precision of each sample's loss.
        of_loss: Precision of the average.
        threshold: Relative difference that the verdict would allow.
        spacing: Spacing of the stencils.
        may_lose_digits: Whether a core of low precision is known.
    """

    name: str
    terms: int
    of_sample: type
    of_loss: type
    threshold: float
    spacing: baseline.StencilSpacing
    may_lose_digits: bool = False


CONDITIONS = (
    Condition("float64", 1, np.float64, np.float64, 1e-6, baseline.PROMOTED),
    Condition("float32 model", 8, np.float32, np.float64, 1e-2, baseline.NATIVE),
    Condition(
        "float32 core in a promoted model", 1, np.float64, np.float32, 1e-6, baseline.PROMOTED, True
    ),
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A loss of one parameter at one point, with its true slope."""

    family: str
    loss: collections.abc.Callable
    point: float
    slope: float


def cases(condition):
    """Yields every case; sizes from 1e-3 to 1e3, offsets of 0, 1 and 100 times the size."""
    for number, family in enumerate(FAMILIES):
        for k in range(FUNCTIONS_PER_FAMILY):
            rng = np.random.default_rng([number, k])
            members = [family(rng) for _ in range(condition.terms)]
            size, offset = 10 ** rng.uniform(-3, 3), rng.choice([0.0, 1.0, 100.0])
            loss, exact = rounded(members, size, offset, condition)
            for point in rng.normal(size=POINTS_PER_FUNCTION):
                yield Case(family.__name__, loss, point, true_slope(exact, point))


def rounded(members, size, offset, condition):
    """The loss as computed, and as it would be without rounding."""

    def exact(t):
        return size * (sum(f(t) for f in members) / len(members) + offset)

    def loss(t):
        samples = [condition.of_sample(size * (f(t) + offset)) for f in members]
        return float(condition.of_loss(np.mean(np.asarray(samples, dtype=np.float64))))

    return loss, exact


def estimate_noise(case, scale, condition):
    """The noise level that a check would estimate here."""
    oracle = FunctionOracle(
        lambda p: case.loss(p[0]), lambda p: np.array([case.slope]), [case.point]
    )
    probe = Probe(0, np.array([scale]))
    gradients = oracle.gradients(oracle.point()).terms
    at, _ = baseline.estimate_baseline(
        oracle, oracle.point(), gradients, probe, condition.spacing, condition.may_lose_digits
    )
    return float(at.noise[0])


def estimates(case, condition):
    """The two estimates of a check: from the first step, and from the sequence of steps."""
    point, scale = case.point, max(abs(case.point), 0.1)
    noise = estimate_noise(case, scale, condition)
    base = case.loss(point)
    step = step_sizes.first_step(case.slope, base, noise, scale, condition.threshold)
    steps = [
        ((point + s) - (point - s)) / 2 for s in (step, *step_sizes.step_sequence(step, scale))
    ]
    plus, minus = ([case.loss(point + sign * s) for s in steps] for sign in (1, -1))
    return (
        differences.central(base, plus[0], minus[0], steps[0], noise, scale),
        differences.select_estimate(base, steps[1:], plus[1:], minus[1:], noise),
    )


@pytest.fixture(scope="module", params=CONDITIONS, ids=lambda c: c.name)
def outcomes(request):
    """Per estimate and family, whether each true error lies within its bar."""
    found = {"central": collections.defaultdict(list), "from_ladder": collections.defaultdict(list)}
    for case in cases(request.param):
        for by_family, estimate in zip(found.values(), estimates(case, request.param), strict=True):
            by_family[case.family].append(abs(estimate.slope - case.slope) <= estimate.error)
    return request.param.name, found


def test_there_are_enough_functions():
    assert FUNCTIONS_PER_FAMILY * len(FAMILIES) >= 200


@pytest.mark.parametrize("measure", ["central", "from_ladder"])
def test_the_true_error_is_within_the_error_bar(outcomes, measure):
    condition, found = outcomes
    by_family = found[measure]
    share = np.mean([inside for family in by_family.values() for inside in family])
    listed = ", ".join(f"{name} {np.mean(inside):.3f}" for name, inside in by_family.items())
    print(f"{condition}, {measure}: {share:.4f} within the error bar ({listed})")
    assert share >= SHARE, listed


@pytest.mark.parametrize(
    ("function", "point", "slope"),
    [
        (lambda t: t**3, 2.0, 12.0),
        (np.tanh, 0.5, 1 - math.tanh(0.5) ** 2),
        (lambda t: np.log(1 + np.exp(t)), 0.3, 1 / (1 + math.exp(-0.3))),
        (lambda t: np.sqrt(1 + t * t), 1.0, math.sqrt(0.5)),
    ],
)
def test_the_complex_step_is_the_truth(function, point, slope):
    assert true_slope(function, point) == pytest.approx(slope, rel=1e-14)
