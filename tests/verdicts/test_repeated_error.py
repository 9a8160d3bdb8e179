"""A mistake comes again at other points, and rounding does not."""

import math

import numpy as np
import pytest

from gradhooks.verdicts import repeated_error

ONES = np.ones(3)
NAN = np.full(3, math.nan)

# (what, error here, error there, gradient here, gradient there, whether it is one error)
TABLE = [
    ("the same", [1, 0, 0], [1, 0, 0], ONES, ONES, True),
    ("larger", [1, 0, 0], [3, 0, 0], ONES, ONES, True),
    ("too large", [1, 0, 0], [5, 0, 0], ONES, ONES, False),
    ("too small", [1, 0, 0], [0.2, 0, 0], ONES, ONES, False),
    ("turned a little", [1, 0, 0], [1, 1, 0], ONES, ONES, True),
    ("turned far", [1, 0, 0], [1, 2, 0], ONES, ONES, False),
    ("of the other sign", [1, 0, 0], [-1, 0, 0], ONES, ONES, False),
    ("gone", [1, 0, 0], [0, 0, 0], ONES, ONES, False),
    ("a factor, where the gradient has turned", [1, 0, 0], [0, 0, 1], [2, 0, 0], [0, 0, 2], True),
    (
        "a factor, where the gradient is ten times smaller",
        [1, 0, 0],
        [0.1, 0, 0],
        [2, 0, 0],
        [0.2, 0, 0],
        True,
    ),
    ("a factor of the other kind", [1, 0, 0], [0, 0, -1], [2, 0, 0], [0, 0, 2], False),
    ("another factor", [1, 0, 0], [0, 0, 9], [2, 0, 0], [0, 0, 2], False),
    ("across the gradient", [1, 0, 0], [0, 0, 1], [2, 0, 0], [2, 0, 0], False),
    ("no gradient there", [1, 0, 0], [0, 0, 1], [2, 0, 0], [0, 0, 0], False),
    ("not finite", [1, 0, 0], NAN, ONES, NAN, False),
]


@pytest.mark.parametrize(
    ("what", "here", "there", "gradient", "nearby", "expected"),
    TABLE,
    ids=[row[0].replace(" ", "_") for row in TABLE],
)
def test_an_error_is_known_again(what, here, there, gradient, nearby, expected):
    errors, gradients = (
        [np.asarray(v, float) for v in pair] for pair in ((here, there), (gradient, nearby))
    )
    assert repeated_error.is_same_error(errors, gradients) is expected
