"""Which sentence follows from measured derivatives, on gradients that are known."""

import numpy as np
import pytest

from gradhooks.verdicts import characterizing, findings
from gradhooks.verdicts.characterizing import Field, Slope

SHAPE = (6, 4, 4)
ERROR = 1e-9


def random(number, shape=SHAPE):
    return np.random.default_rng(number).normal(size=shape)


DIRECTIONS = [random(k) for k in range(3)]


def slopes(wrong, right, directions=DIRECTIONS, error=ERROR):
    """The derivatives of a gradient and of the right one, measured with a little noise."""
    found = []
    for k, direction in enumerate(directions):
        numeric = np.sum(right * direction) + 0.3 * error * (-1) ** k
        size = np.linalg.norm(wrong * direction)
        found.append(Slope(np.sum(wrong * direction), numeric, error, size))
    return found


def relation(wrong, right, value=None, error=ERROR, **field):
    value = random(7) if value is None else value
    found = slopes(wrong, right, error=error)
    return characterizing.find_relation(Field(value, wrong, **field), DIRECTIONS, found)


@pytest.mark.parametrize("factor", [2.0, 0.5, -3.0, 1.00001])
def test_a_factor_is_found(factor):
    right = random(9)
    assert characterizing.find_factor(slopes(factor * right, right)) == pytest.approx(factor)


def test_a_factor_in_most_entries_is_none():
    right = random(9)
    wrong = 2 * right
    wrong[0, 0, 0] += 1e-3
    assert characterizing.find_factor(slopes(wrong, right)) is None


@pytest.mark.parametrize("error", [1e-2, 1.0])
def test_a_factor_that_noise_could_hide_is_none(error):
    right = random(9)
    assert characterizing.find_factor(slopes(1.01 * right, right, error=error)) is None


def test_two_directions_tell_no_factor():
    right = random(9)
    assert characterizing.find_factor(slopes(2 * right, right)[:2]) is None


def test_a_right_gradient_has_no_factor():
    right = random(9)
    assert characterizing.find_factor(slopes(right, right)) is None
    assert relation(right, right) == ""


def test_without_signal_nothing_is_told():
    wrong = 1e3 * ERROR * random(9)
    assert characterizing.find_factor(slopes(wrong, 0 * wrong)) is None
    assert relation(wrong, 0 * wrong) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: -g, "it is the right one with the opposite sign, along every direction"),
        (lambda g: 3 * g, "it is 3 times the right one, along every direction"),
        (lambda g: np.swapaxes(g, 1, 2), "axes 1 and 2 exchanged (transposed)"),
        (lambda g: np.flip(g, 2), "in reverse order along axis 2"),
        (lambda g: np.roll(g, 1, 1), "shifted by 1 along axis 1"),
        (lambda g: np.roll(g, -1, 2), "shifted by -1 along axis 2"),
    ],
)
def test_a_relation_is_said(change, words):
    right = random(9)
    assert words in relation(change(right), right)
    assert relation(change(right) + 1e-3 * random(5), right) == ""


def standardize(value, gradient, axes, constant=1e-3, has_mean=True):
    """The gradient at the input of a normalization, and that without its terms."""
    mean = np.mean(value, axis=axes, keepdims=True) if has_mean else 0.0
    offsets = value - mean
    variance = np.mean(offsets**2, axis=axes, keepdims=True) + constant
    fixed = gradient / np.sqrt(variance)
    along = np.mean(fixed * offsets, axis=axes, keepdims=True)
    right = fixed - offsets * along / variance
    if has_mean:
        right = right - np.mean(fixed, axis=axes, keepdims=True)
    return fixed, right


@pytest.mark.parametrize("constant", [0.0, 1e-5, 1e-2])
@pytest.mark.parametrize(
    ("axes", "name"), [((2,), "the last axis"), ((0, 1), "axes (0, 1)"), ((1, 2), "axes (1, 2)")]
)
def test_the_terms_of_a_normalization_are_missed(axes, name, constant):
    value, gradient = random(1), random(2)
    fixed, right = standardize(value, gradient, axes, constant)
    mean = np.mean(fixed, axis=axes, keepdims=True)
    assert f"mean and variance over {name} are" in relation(fixed, right, value)
    assert f"the term of the variance over {name} is" in relation(fixed - mean, right, value)
    for share in (1.0, 0.5, -1.0):
        said = relation(right + share * mean, right, value)
        assert said == f"the term of the mean over {name} is missing or wrong"
    assert relation(right + mean * value**2, right, value) == ""


def test_the_term_of_a_norm_is_missed():
    value, gradient = random(1), random(2)
    fixed, right = standardize(value, gradient, (2,), 0.0, has_mean=False)
    assert "the term of the norm over the last axis is" in relation(fixed, right, value)


def test_the_sum_of_a_softmax_is_missed():
    exponentials = np.exp(random(1))
    output = exponentials / exponentials.sum(-1, keepdims=True)
    gradient = random(2)
    right = output * (gradient - np.sum(output * gradient, -1, keepdims=True))
    said = relation(output * gradient, right, output=output, output_gradient=gradient)
    assert "softmax" in said


def test_a_shortcut_and_a_gradient_handed_on_are_told_apart():
    right, slope = random(1), random(2)
    ends = {"output": random(3), "output_gradient": slope}
    assert "shortcut" in relation(right - slope, right, **ends)
    assert "straight through" in relation(slope, right, **ends)
    assert relation(0.9 * slope, right, **ends) == ""


def test_a_matrix_and_its_transpose_are_confused():
    matrix, slope = random(1, (4, 4)), random(2)
    ends = {"output": random(3), "output_gradient": slope, "matrices": {"kernel": matrix}}
    right = slope @ matrix.T
    assert "`kernel` and its transpose" in relation(slope @ matrix, right, **ends)
    assert relation(1.1 * slope @ matrix, right, **ends) == ""


def spread(axis, size=4):
    shape = [1] * len(SHAPE)
    shape[axis] = size
    return characterizing.weights(size).reshape(shape)


@pytest.mark.parametrize("index", range(4))
def test_one_index_of_an_axis_is_found(index):
    right = random(9)
    wrong = right.copy()
    wrong[:, index] *= 2
    whole, *_ = slopes(wrong, right)
    weighted, *_ = slopes(wrong, right, [DIRECTIONS[0] * spread(1)])
    assert characterizing.find_index(4, whole, weighted) == index
    beside, *_ = slopes(wrong, right, [DIRECTIONS[0] * spread(2)])
    assert characterizing.find_index(4, whole, beside) is None


def test_two_indices_are_not_one():
    right = random(9)
    wrong = right.copy()
    wrong[:, 1] *= 2
    wrong[:, 2] *= 3
    whole, *_ = slopes(wrong, right)
    weighted, *_ = slopes(wrong, right, [DIRECTIONS[0] * spread(1)])
    assert characterizing.find_index(4, whole, weighted) is None


@pytest.mark.parametrize(
    ("is_wrong", "words"),
    [
        ([True], ""),
        ([False, True], "from the second call on"),
        ([False, True, True], "from the second call on"),
        ([True, True], "at each of its 2 calls"),
        ([True, False], "only at call 1 of 2"),
        ([False, False, True], "only at call 3 of 3"),
    ],
)
def test_calls_are_told(is_wrong, words):
    assert words in findings.describe_calls(is_wrong)
    assert bool(findings.describe_calls(is_wrong)) == bool(words)


@pytest.mark.parametrize(
    ("factor", "words"), [(2.0, " 2 times"), (1.000012, "1.000012 times"), (-1 + 1e-9, "opposite")]
)
def test_a_factor_has_the_digits_that_it_needs(factor, words):
    assert words in findings.describe_factor(factor)
