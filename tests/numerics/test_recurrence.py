"""A mistake comes again at other points, and rounding does not, even where it has a single direction."""

import math

import numpy as np
import pytest

from gradhooks.examination import received
from gradhooks.numerics import recurrence

POINTS = len(received._NUDGE_ROUNDOFFS) + received._MORE
ONES = np.ones(3)
NAN = np.full(3, math.nan)

# (what, error here, error there, gradient here, gradient there, size of the error there)
TABLE = [
    ("the same", [1, 0, 0], [1, 0, 0], ONES, ONES, 1.0),
    ("larger", [1, 0, 0], [3, 0, 0], ONES, ONES, 3.0),
    ("too large", [1, 0, 0], [5, 0, 0], ONES, ONES, None),
    ("too small", [1, 0, 0], [0.2, 0, 0], ONES, ONES, None),
    ("turned a little", [1, 0, 0], [1, 1, 0], ONES, ONES, 1.0),
    ("turned far", [1, 0, 0], [1, 2, 0], ONES, ONES, None),
    ("of the other sign", [1, 0, 0], [-1, 0, 0], ONES, ONES, None),
    ("gone", [1, 0, 0], [0, 0, 0], ONES, ONES, None),
    ("a factor, where the gradient has turned", [1, 0, 0], [0, 0, 1], [2, 0, 0], [0, 0, 2], 1.0),
    ("a factor, where the gradient is ten times smaller", [1, 0, 0], [0.1, 0, 0], [2, 0, 0], [0.2, 0, 0], 1.0),
    ("a factor of the other kind", [1, 0, 0], [0, 0, -1], [2, 0, 0], [0, 0, 2], None),
    ("another factor", [1, 0, 0], [0, 0, 9], [2, 0, 0], [0, 0, 2], None),
    ("across the gradient", [1, 0, 0], [0, 0, 1], [2, 0, 0], [2, 0, 0], None),
    ("no gradient there", [1, 0, 0], [0, 0, 1], [2, 0, 0], [0, 0, 0], None),
    ("not finite", [1, 0, 0], NAN, ONES, NAN, None),
]


@pytest.mark.parametrize(
    ("what", "here", "there", "gradient", "nearby", "size"), TABLE, ids=[row[0].replace(" ", "_") for row in TABLE]
)
def test_an_error_is_known_again(what, here, there, gradient, nearby, size):
    errors, gradients = ([np.asarray(v, float) for v in pair] for pair in ((here, there), (gradient, nearby)))
    assert recurrence.share(errors, gradients) == (size if size is None else pytest.approx(size))


def is_accused(errors):
    """Whether an error of a single direction is held against the gradient, by its sizes here and at further points."""
    shares = []
    for error in errors[1:]:
        if recurrence.is_certain(shares):
            return True
        found = recurrence.share([errors[:1], np.array([error])], [np.ones(1), np.ones(1)])
        if found is None:
            return False
        shares.append(found)
    return True


@pytest.mark.parametrize("tail", [None, 5, 2])
def test_rounding_of_a_single_direction_is_hardly_ever_taken_for_an_error(tail):
    """Normal, and with Student's tails: rounding that a network multiplies is large by chance."""
    rng = np.random.default_rng(0)
    shape = 200_000, POINTS + 1
    drawn = rng.normal(size=shape) if tail is None else rng.standard_t(tail, size=shape)
    # Only those can be accused that keep their sign at three points.
    alike = drawn[np.all(drawn[:, 1:4] * drawn[:, :1] > 0, axis=1)]
    assert len(alike) == pytest.approx(shape[0] / 8, rel=0.1)
    assert sum(map(is_accused, alike)) <= 5e-5 * shape[0]


@pytest.mark.parametrize("scatter", [0.0, 0.01, 0.1, 0.3])
def test_an_error_above_the_rounding_is_accused(scatter):
    drawn = 1 + scatter * np.random.default_rng(1).normal(size=(1000, POINTS + 1))
    assert sum(map(is_accused, drawn)) >= 900


def test_three_further_points_are_certain_of_an_error_that_stays_the_same():
    assert recurrence.is_certain([1.03, 0.99, 1.0])
    assert not recurrence.is_certain([1.0, 1.0])
    assert not recurrence.is_certain([1.3, 0.7, 1.0])


@pytest.mark.parametrize(("freedom", "limit"), list(enumerate(recurrence._CERTAIN, start=3)))
def test_the_table_is_that_of_student(freedom, limit):
    """By the density, integrated over the tail after `t = 1 / u`."""
    u = (np.arange(200_000) + 0.5) / 200_000 / limit
    density = (1 + 1 / (u * u * freedom)) ** (-(freedom + 1) / 2) / (u * u)
    constant = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    assert constant * density.mean() / limit == pytest.approx(1e-6, rel=0.03)
