"""The functions of `tools.checkers`: what is right about them, and what check_function says."""

import pathlib

import numpy as np
import pytest

from gradhooks import Verdict
from tools.checkers import __main__ as command
from tools.checkers import answers, table
from tools.checkers.cases import CASES

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "comparison.md"
# How many of each kind check_function is right about, at the least.
RIGHT = {"smooth": 5, "kinked": 5, "steep": 5, "noisy": 6, "blocked": 4, "scaled": 4}
# The smallest defect is 1e-5 of an entry; longdouble differences below are good to 1e-6.
TOLERANCE = 3e-6


def one_sided_slopes(case, step):
    """Returns (left, right) slopes of every entry of the loss without noise."""
    loss = case.plain_loss or case.loss
    point = case.point.astype(np.longdouble)
    # Lengths of micrometres need steps of that size.
    step = np.longdouble(step) * min(1, np.max(np.abs(point)))
    left, right = [], []
    for offset in step * np.eye(len(point)):
        middle = loss(point)
        left.append((middle - loss(point - offset)) / step)
        right.append((loss(point + offset) - middle) / step)
    return np.array(left), np.array(right)


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="longdouble is float64 here")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_gradient_is_right_or_wrong_as_constructed(case):
    left, right = one_sided_slopes(case, 1e-7 if case.is_kinked else 3e-4)
    if not case.is_kinked:
        left = right = (left + right) / 2
    allowed = TOLERANCE * np.maximum(np.abs(left), np.abs(right))
    gradient = case.gradient(case.point)
    is_above = gradient >= np.minimum(left, right) - allowed
    is_below = gradient <= np.maximum(left, right) + allowed
    assert np.all(is_above & is_below) == case.is_right


def test_there_are_as_many_right_gradients_as_wrong_ones():
    assert len(CASES) == len({case.name for case in CASES}) == 30
    assert sum(case.is_right for case in CASES) == 15


@pytest.mark.parametrize("kind", RIGHT)
def test_check_function_is_right_about_each_kind(kind):
    wrong = {}
    cases = [case for case in CASES if case.kind == kind]
    for case in cases:
        cell = table.judge(case, answers.ask_gradhooks(case))
        if cell != table.RIGHT:
            wrong[case.name] = cell
    assert len(cases) - len(wrong) >= RIGHT[kind], wrong


def test_inconclusive_is_right_only_where_there_is_no_derivative():
    by_name = {case.name: case for case in CASES}

    def judge(name):
        return table.judge(by_name[name], Verdict.INCONCLUSIVE)

    assert judge("maximum at a tie") == table.RIGHT
    assert judge("tanh network") == table.UNDECIDED
    assert judge("absolute values at zero, slope 1.5 there") == table.MISSED


def test_a_checker_that_raises_is_an_error():
    def ask(case):
        raise ArithmeticError

    assert table.judge(CASES[0], answers.answer(ask, CASES[0])) == table.ERROR


def test_the_page_has_every_function():
    text = PAGE.read_text(encoding="utf-8")
    for case in CASES:
        assert f"| {case.name} | {'right' if case.is_right else 'wrong'} |" in text


def test_only_what_lies_between_the_marks_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{command.BEGIN}\nold\n{command.END}\nafter\n", encoding="utf-8")
    for text in ("new", "newer"):
        command.write(page, text)
        assert page.read_text(encoding="utf-8") == (
            f"before\n{command.BEGIN}\n\n{text}\n\n{command.END}\nafter\n"
        )
