"""The corpora are what they claim to be.

Cases that build and train, defects that are there and alone.

Nothing here knows how gradients are checked. A planted defect is proved twice:
for whole models by the healthy twin, which has the same loss and another
gradient at `culprit`, and for a sample of planted functions by central
differences in float64.
"""

import dataclasses
import fnmatch
import importlib.util

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.corpora import controls, mutants
from tests.corpora.corpus import Case
from tests.corpora.mutants import attention, factors, lookups, losses, planted, regularizers

MUTANTS = [*mutants.CASES, *mutants.UNREACHED]
SMALL = [case for case in [*MUTANTS, *controls.CASES] if not case.large]

# The twin of what rounds, of what is NaN at a spot, and of what is not connected computes another
# loss.
OTHER_LOSS = {"rounding", "through_integers", "argmax", "hard_gate", "spectral_undeclared"} | {
    case.name
    for case in MUTANTS
    if case.name.startswith("straight_through")
    or set(case.reasons) & {"non_finite_gradient", "vacuous"}
}


def parametrize(cases):
    return pytest.mark.parametrize("case", cases, ids=str)


def built(case, seed=0):
    """Builds a case, and the model's variables too; returns `(model, x, y, sample_weight)`."""
    if case.needs and importlib.util.find_spec(case.needs) is None:
        pytest.skip(f"needs {case.needs}")
    model, x, y, *weights = case.build(seed)
    if not model.built:
        model(x)
    return model, x, y, weights[0] if weights else None


def loss_and_gradients(case):
    """The loss and its gradient by variable, at the model's own precision, as float64 arrays."""
    model, x, y, weights = built(case)
    x, y = (tf.nest.map_structure(tf.convert_to_tensor, data) for data in (x, y))
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=True), weights, training=True)
    variables = [variable.value for variable in model.trainable_variables]
    gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
    paths = [variable.path for variable in model.trainable_variables]
    return float(loss), paths, [np.asarray(tf.convert_to_tensor(g), "float64") for g in gradients]


def difference(a, b):
    """The relative difference of two arrays; 0 if both are zero, infinite if one is not finite."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return np.inf
    size = np.linalg.norm(a) + np.linalg.norm(b)
    return np.linalg.norm(a - b) / size if size else 0.0


def test_names_are_unique():
    names = [case.name for case in [*MUTANTS, *controls.CASES, *controls.TWINS]]
    assert len(set(names)) == len(names)


def test_there_are_enough_of_both():
    assert len(mutants.CASES) >= 45
    assert len(controls.CASES) >= 60
    assert sum(case.large for case in controls.CASES) == 9
    assert len(controls.TWINS) == len(mutants.CASES)


def test_mutants_name_a_wrong_layer_and_controls_do_not():
    assert all(
        case.culprit and case.note
        for case in MUTANTS
        if not case.name.startswith(("mixed_", "float64_"))
    )
    assert all(case.culprit is None and not case.reasons for case in controls.CASES)


def test_a_case_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        mutants.CASES[0].name = "other"
    assert str(Case("name", None)) == "name"


@pytest.mark.sweep
@parametrize(SMALL)
def test_is_decided_by_its_seed_and_trains(case):
    model, *batch = built(case)
    # Whatever random state, names and layers another test leaves behind must not matter.
    keras.utils.set_random_seed(987)
    keras.layers.Dense(3)(np.ones((1, 2), "float32"))
    again, *same_batch = built(case)
    for one, other in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    tf.nest.map_structure(np.testing.assert_array_equal, batch, same_batch)

    x, y, weights = batch
    model.run_eagerly = True  # tracing would take most of the time
    history = model.fit(x, y, sample_weight=weights, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"][0])


@pytest.mark.sweep
@parametrize([case for case in SMALL if case.culprit is not None or "expect" in case.options])
def test_patterns_match_some_variables_and_not_all(case):
    paths = [variable.path for variable in built(case)[0].trainable_variables]
    patterns = [f"*{case.culprit}*"] if case.culprit is not None else case.options["expect"]
    assert all(0 < len(fnmatch.filter(paths, pattern)) < len(paths) for pattern in patterns)


@pytest.mark.sweep
@parametrize(MUTANTS)
def test_the_healthy_twin_differs_at_the_wrong_layer(case):
    loss, paths, wrong = loss_and_gradients(case)
    with planted.healthy():
        healthy_loss, _, right = loss_and_gradients(case)
    gaps = {path: difference(a, b) for path, a, b in zip(paths, wrong, right, strict=True)}
    assert all(np.isfinite(gradient).all() for gradient in right)
    # Two float32 computations of one gradient may differ by less; a factor of 1.0001 is twice as
    # far.
    assert any(gap > 2e-5 for path, gap in gaps.items() if case.culprit in path)
    if case.name in OTHER_LOSS:
        return
    assert loss == pytest.approx(healthy_loss, rel=1e-6)
    # Nothing above the wrong layer is touched: the last wrong variable, in forward order, is its.
    assert case.culprit in [path for path, gap in gaps.items() if gap > 2e-5][-1]


@pytest.mark.sweep
@parametrize([case for case in mutants.CASES if "non_finite_gradient" in case.reasons])
def test_gradients_called_non_finite_are(case):
    loss, paths, gradients = loss_and_gradients(case)
    assert np.isfinite(loss)
    wrong = [g for path, g in zip(paths, gradients, strict=True) if case.culprit in path]
    assert any(not np.isfinite(gradient).all() for gradient in wrong)


def _rows(rng):
    return rng.normal(size=(5, 4))


def _square(rng):
    return rng.normal(size=(4, 4))


def _scores(rng):
    return rng.normal(size=(2, 2, 3, 4))


# (what is planted, where it is evaluated); each maker is called anew inside and outside healthy().
FUNCTIONS = {
    "factor": (lambda: planted.scale(1.001), _rows),
    "sign": (lambda: planted.scale(-1.0), _rows),
    "transposed": (lambda: planted.identity(tf.transpose), _square),
    "detached": (lambda: planted.stop(), _rows),
    "softmax": (attention.softmax_without_the_sum, _scores),
    "rotation": (attention.rotated_the_wrong_way, _scores),
    "squares": (lambda: regularizers.squares(0.5, 1.0), _rows),
    "orthogonality": (lambda: regularizers.orthogonality(0.5), _rows),
    "lookup": (
        lambda: (
            lambda table: planted.function(tf.gather, lookups.overwritten)(table, [[0, 1], [1, 3]])
        ),
        _rows,
    ),
    "squared_error": (lambda: lambda p: losses.half_missing()(tf.zeros_like(p), p), _rows),
    "cosine": (lambda: lambda p: losses.cosine_without_its_norm()(tf.ones_like(p), p), _rows),
    "product": (
        lambda: (
            lambda w: planted.function(tf.matmul, factors._one_over_batch)(
                tf.ones((3, 5), w.dtype), w
            )
        ),
        _rows,
    ),
}


def slopes(function, point, direction, weights):
    """The slope of the weighted sum of `function` along `direction`.

    By the tape, and by differences.
    """

    def value(offset):
        return tf.reduce_sum(weights * function(tf.constant(point + offset * direction)))

    x = tf.constant(point)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(weights * function(x))
    gradient = tape.gradient(total, x, unconnected_gradients="zero")
    step = 1e-5
    numeric = (value(step) - value(-step)) / (2 * step)
    return float(tf.reduce_sum(tf.convert_to_tensor(gradient) * direction)), float(numeric)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_planted_functions_are_wrong_at_float64_and_their_twins_right(name):
    make, draw = FUNCTIONS[name]
    rng = np.random.default_rng(3)
    point = draw(rng)
    direction = rng.normal(size=point.shape)
    weights = rng.normal(size=make()(tf.constant(point)).shape)
    analytic, numeric = slopes(make(), point, direction, weights)
    assert difference(np.float64(analytic), np.float64(numeric)) > 1e-4
    with planted.healthy():
        analytic, healthy_numeric = slopes(make(), point, direction, weights)
    assert analytic == pytest.approx(healthy_numeric, rel=1e-7)
    assert numeric == pytest.approx(healthy_numeric, rel=1e-9)
