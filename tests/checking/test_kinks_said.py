"""A kink is said where there is one, and nowhere else.

Two hundred smooth functions and a hundred with kinks at known parameters.
`python -m tools.kinks_said` prints what is said of each family.
"""

import numpy as np
import pytest

from gradhooks import Verdict
from tests.known import kinked, smooth
from tests.known.function import SIZE, check, is_kink_recognized, says_kink

SMOOTH, KINKED = smooth.build(), kinked.build()
# Share of the functions that may be judged wrongly, either way.
WRONG = 0.01
# Share of the gradients wrong by a millionth or more that need not fail.
MISSED = 0.02


def describe(reports):
    """Returns reports as text; of many the first three."""
    return f"{len(reports)} reports\n" + "\n".join(map(str, reports[:3]))


def one_sided_slopes(function, step):
    """Returns the slopes from the left and from the right, each of shape (P,)."""

    def loss(point):
        parts = [function.loss, *([function.penalty[0]] if function.penalty else [])]
        return sum(part(point) for part in parts)

    here = loss(function.point)
    left, right = np.zeros(SIZE), np.zeros(SIZE)
    for number, unit in enumerate(np.eye(SIZE)):
        right[number] = (loss(function.point + step * unit) - here) / step
        left[number] = (here - loss(function.point - step * unit)) / step
    return left, right


def test_there_are_enough():
    assert (len(SMOOTH), len(KINKED)) == (200, 100)
    assert len({str(function) for function in [*SMOOTH, *KINKED]}) == 300


def test_gradients_of_smooth_functions_are_right():
    for function in SMOOTH:
        central = np.mean(one_sided_slopes(function, 1e-6), axis=0)
        gradient = function.gradient(function.point)
        tolerance = 1e-3 * np.abs(gradient).max()
        np.testing.assert_allclose(central, gradient, atol=tolerance, err_msg=str(function))


def test_gradients_at_kinks_are_subgradients_and_only_there_the_slopes_differ():
    for function in KINKED:
        # Beyond all kinks that are too near for a check, before those that are not.
        slopes = np.sort(one_sided_slopes(function, 1e-8), axis=0)
        jump = slopes[1] - slopes[0]
        assert set(np.flatnonzero(jump > 1e-3)) == set(function.kinked), function
        gradient = function.gradient(function.point)
        if function.penalty:
            gradient = gradient + function.penalty[1](function.point)
        margin = 0.15 * jump + 1e-4
        assert np.all(gradient >= slopes[0] - margin), function
        assert np.all(gradient <= slopes[1] + margin), function


def test_no_kink_is_said_of_a_smooth_function_and_it_does_not_fail():
    reports = [check(function) for function in SMOOTH]
    wrong = [r for r in reports if r.verdict is Verdict.FAIL or says_kink(r)]
    assert len(wrong) <= WRONG * len(SMOOTH), describe(wrong)


@pytest.fixture(scope="module")
def spoiled():
    """The reports on gradients of smooth functions that are wrong by a millionth to a thousandth.

    In one of the two hundred no difference quotient could show the error.
    """
    reports = []
    for number, function in enumerate(SMOOTH):
        reports.append(check(function, smooth.spoil(function, number)))
    return reports


def test_a_small_error_in_a_smooth_function_is_no_kink(spoiled):
    wrong = [report for report in spoiled if says_kink(report)]
    assert len(wrong) <= WRONG * len(spoiled), describe(wrong)


def test_a_small_error_in_a_smooth_function_fails(spoiled):
    missed = [report for report in spoiled if report.verdict is not Verdict.FAIL]
    assert len(missed) <= MISSED * len(spoiled), describe(missed)


def test_a_kink_neither_fails_nor_passes():
    wrong = []
    for function in KINKED:
        report = check(function)
        if not is_kink_recognized(function, report):
            wrong.append(report)
    assert len(wrong) <= WRONG * len(KINKED), describe(wrong)


@pytest.mark.parametrize("function", kinked.build(share=0.5), ids=str)
def test_the_middle_of_both_slopes_does_not_fail(function):
    """It is what a central difference gives: it may pass at the first step."""
    report = check(function)
    assert report.verdict is not Verdict.FAIL, report
