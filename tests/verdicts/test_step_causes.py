"""What a hypothesis about a train step predicts, and when it is named."""

import dataclasses

import numpy as np
import pytest

from gradhooks.numerics.layout import Layout
from gradhooks.verdicts import (
    optimizer_diagnosis,
    optimizer_gradient,
    step_causes,
    step_changes,
    step_sums,
)
from gradhooks.verdicts.optimizer_gradient import OptimizerGradient
from gradhooks.verdicts.step_causes import Explanation

LAYOUT = Layout(("a/w", "a/b", "b/w"), ((6, 4), (4,), (4, 3)))
RNG = np.random.default_rng(4)
TOTAL, POINT = RNG.normal(size=(2, LAYOUT.size))
DATA = TOTAL - np.concatenate([0.3 * POINT[:24], np.zeros(16)])
EVERY = range(len(LAYOUT))


def recorded(received, analytic=TOTAL):
    return OptimizerGradient(LAYOUT, analytic, received, np.ones(len(LAYOUT), bool))


def of_each(function, gradient):
    parts = [function(gradient[LAYOUT.slice(v)], shape) for v, shape in enumerate(LAYOUT.shapes)]
    return np.concatenate([part.ravel() for part in parts])


def shrink(limit):
    return lambda part, _: part * min(1, limit / np.linalg.norm(part))


def adaptive(gradient):
    result = gradient.copy()
    for v, shape in enumerate(LAYOUT.shapes):
        width = shape[-1] if len(shape) > 1 else 1
        weights = POINT[LAYOUT.slice(v)].reshape(-1, width)
        part = result[LAYOUT.slice(v)].reshape(-1, width)
        most = 0.2 * np.linalg.norm(weights, axis=0)
        part *= np.minimum(1, most / np.linalg.norm(part, axis=0))
    return result


def center(part, shape):
    part = part.reshape(shape)
    return part - part.mean(0) if len(shape) > 1 else part


# (function that predicts, what a step makes of a gradient)
CHANGES = {
    "scale": (step_changes.scale, lambda g: -0.7 * g),
    "centralize": (step_changes.centralize, lambda g: of_each(center, g)),
    "clip_by_value": (step_changes.clip_by_value, lambda g: np.clip(g, -0.31415, 0.31415)),
    "clip_each_norm": (step_changes.clip_each_norm, lambda g: of_each(shrink(2.92653), g)),
    "normalize_each": (
        step_changes.normalize_each,
        lambda g: of_each(lambda part, _: 40 * part / np.linalg.norm(part), g),
    ),
    "clip_units": (step_changes.clip_units(POINT), adaptive),
}


def holds(change, received, base=TOTAL, dtype="float32"):
    beside = recorded(received)
    prediction = change(base, beside)
    failed = optimizer_gradient.find_disagreeing(beside, dtype)
    return step_causes.explains(prediction, beside, failed, dtype)


@pytest.mark.parametrize("base", [TOTAL, DATA], ids=["total", "data"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_explains_what_it_makes_and_nothing_else(name, base):
    received = CHANGES[name][1](base)
    explained = [other for other in CHANGES if holds(CHANGES[other][0], received, base)]
    assert explained == [name]


@pytest.mark.parametrize("name", CHANGES)
def test_a_prediction_holds_to_within_the_precision_of_training(name):
    change, make = CHANGES[name]
    received = make(TOTAL)
    noise = RNG.normal(size=LAYOUT.size) * np.linalg.norm(received) / LAYOUT.size
    assert holds(change, received + 1e-6 * noise)
    assert not holds(change, received + 3e-2 * noise)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", CHANGES)
def test_another_gradient_is_explained_by_nothing(name, dtype):
    for seed in range(20):
        other = np.random.default_rng(100 + seed).normal(size=LAYOUT.size)
        assert not holds(CHANGES[name][0], TOTAL + 0.5 * other, dtype=dtype)


def test_a_prediction_must_leave_little_of_the_difference():
    """In bfloat16 all that is within 0.06 counts as the same; a small mistake does not vanish."""
    beside = recorded(1.15 * TOTAL)
    near, right = step_causes.Prediction(1.1 * TOTAL), step_causes.Prediction(1.15 * TOTAL)
    assert not step_causes.explains(near, beside, EVERY, "bfloat16")
    assert step_causes.explains(right, beside, EVERY, "bfloat16")


def test_few_entries_show_no_factor():
    layout = Layout(("scale",), ((3,),))
    beside = OptimizerGradient(layout, TOTAL[:3], 2 * TOTAL[:3], np.ones(1, bool))
    prediction = step_changes.scale(TOTAL[:3], beside)
    assert not step_causes.explains(prediction, beside, [0], "float32")


# Multiples of the data term and of the penalty, and the words for them.
TERMS = {
    (1, 0): "drops the regularization",
    (1, 2): "adds the regularization twice",
    (8, 1): "8 times the gradient of the data term, and that of the regularization once: 8, the",
    (1, 0.4): "passes on 0.4 times the gradient of the regularization",
}


@pytest.mark.parametrize("multiples", TERMS)
def test_multiples_of_the_terms_are_told_apart(multiples):
    beside = recorded(multiples[0] * DATA + multiples[1] * (TOTAL - DATA))
    predictions = step_sums.mix_terms(TOTAL, DATA, beside, 8)
    failed = [v for v in EVERY if beside.distances[v] > 0]
    held = [p for p in predictions if step_causes.explains(p, beside, failed, "float32")]
    assert [TERMS[multiples] in p.sentence for p in held] == [True]
    assert held[0].multiples == pytest.approx(multiples)


def test_two_replicas_that_add_the_regularization_are_not_told_from_a_step_that_adds_it_twice():
    beside = recorded(DATA + 2 * (TOTAL - DATA))
    predictions = step_sums.mix_terms(TOTAL, DATA, beside, 8, replicas=2)
    held = [p for p in predictions if step_causes.explains(p, beside, [0], "float32")]
    assert len(held) == 2
    assert "each of the 2 replicas adds all of it?" in held[1].sentence


def test_a_weight_decay_is_added_to_the_variables_that_fail():
    received = TOTAL.copy()
    received[:24] += 0.02 * POINT[:24]
    beside = recorded(received)
    prediction = step_sums.add_decay(TOTAL, beside, POINT, [0])
    assert step_causes.explains(prediction, beside, [0], "float32")
    assert "0.02 times the weights" in prediction.sentence


def test_what_the_step_keeps_is_found_by_its_values():
    kept = [RNG.normal(size=shape).astype("float32") for shape in LAYOUT.shapes]
    beside = recorded(TOTAL + np.concatenate([part.ravel() for part in kept]))
    states = [("other", kept[0] + 1), *zip("xyz", kept, strict=True), ("count", np.int64(3))]
    (prediction,) = step_sums.add_states(TOTAL, beside, states)
    assert step_causes.explains(prediction, beside, EVERY, "float32")
    assert "keeps in x and 2 more" in prediction.sentence
    other = dataclasses.replace(beside, values=beside.values + kept[0][0, 0])
    assert not step_causes.explains(prediction, other, EVERY, "float32")


@pytest.mark.parametrize(
    ("own", "earlier", "words"),
    [
        (1, 0.9, "adds 0.9 times what it keeps in x and 2 more variables to the gradient: mom"),
        (0.25, 0.25, "passes on 0.25 times the sum of the gradient and of what it keeps in x"),
        (0.1, 0.9, "passes on 0.1 times the gradient and 0.9 times what it keeps in x"),
    ],
)
def test_multiples_of_what_the_step_keeps_are_told(own, earlier, words):
    kept = [RNG.normal(size=shape).astype("float32") for shape in LAYOUT.shapes]
    flat = np.concatenate([part.ravel() for part in kept]).astype("float64")
    beside = recorded(own * TOTAL + earlier * flat)
    _, prediction = step_sums.add_states(TOTAL, beside, [*zip("xyz", kept, strict=True)])
    assert step_causes.explains(prediction, beside, EVERY, "float32")
    assert words in prediction.sentence


def test_one_factor_for_some_variables_is_told_with_their_names():
    received = TOTAL.copy()
    received[24:] *= 3
    prediction = step_changes.scale_some([1, 2])(TOTAL, recorded(received))
    assert step_causes.explains(prediction, recorded(received), [1, 2], "float32")
    assert "passes on 3 times the gradient of a/b, b/w, and that of the others" in (
        prediction.sentence
    )
    assert step_changes.scale_some([2])(TOTAL, recorded(received)) is None


# (limit, what is done, the alternative that must be told)
LIMITS = {
    "every entry": (1e-4, step_changes.clip_by_value, "only its sign is taken"),
    "every norm": (1e-2, step_changes.clip_each_norm, "scaled to it"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_what_is_always_clipped_may_be_scaled(name):
    limit, change, words = LIMITS[name]
    received = np.clip(TOTAL, -limit, limit)
    if change is step_changes.clip_each_norm:
        received = of_each(shrink(limit), TOTAL)
    prediction = change(TOTAL, recorded(received))
    assert step_causes.explains(prediction, recorded(received), EVERY, "float32")
    assert words in prediction.sentence
    assert step_changes.normalize_each(TOTAL, recorded(received)) is None


def test_an_optimizer_that_shares_variables_is_seen():
    shares = np.array([1, 2, 2])
    received = TOTAL.copy()
    received[24:] *= 2
    prediction = step_causes.predict_sharing(recorded(received), shares)
    assert step_causes.explains(prediction, recorded(received), [1, 2], "float32")
    assert "whole gradient of a/b, b/w to 2 optimizers" in prediction.sentence
    other = recorded(received + 0.1 * np.abs(received))
    assert not step_causes.explains(prediction, other, [1, 2], "float32")
    assert step_causes.predict_sharing(recorded(received), np.array([1, 1, 1])) is None
    assert step_causes.predict_sharing(recorded(received), np.array([0, 2, 1])) is None


def test_hypotheses_that_explain_equally_well_are_all_told():
    first, second, third = Explanation("a", 1.0), Explanation("b", 2.0), Explanation("a", 3.0)
    assert step_causes.choose([], lambda loss: False) == ""
    assert step_causes.choose([first, third], lambda loss: False) == "a"
    both = step_causes.choose([first, second], lambda loss: False)
    assert both == "either a; or b: both give the gradient that the optimizer receives"
    assert step_causes.choose([first, second], lambda loss: loss == 2) == "b"


@pytest.mark.parametrize(
    ("elsewhere", "words"),
    [
        (np.nan, "clipped to the norm 1.5, or always scaled to it"),
        (0.6, "clipped to the norm 1.5, or always scaled to it"),
        (1.0, "is clipped to the norm 1.5:"),
        (1.3, "is scaled to the norm 1.5:"),
    ],
)
def test_another_point_tells_clipped_from_scaled(elsewhere, words):
    sentence = optimizer_diagnosis.describe_factor(0.3, 32, 1, 1.5, ratio_elsewhere=elsewhere)
    assert words in sentence


@pytest.mark.parametrize(
    ("factor", "norm", "words"),
    [
        (4.0, np.nan, "not divided by the number of replicas (4)"),
        (0.25, np.nan, "divided twice by the number of replicas (4)"),
        (0.3, 1.5, "clipped to the norm 1.5"),
        (3.0, 1.5, "scaled up to the norm 1.5"),
    ],
)
def test_words_for_a_factor(factor, norm, words):
    assert words in optimizer_diagnosis.describe_factor(factor, 32, 4, norm)
