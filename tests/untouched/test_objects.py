"""A check leaves everything as it was that can be reached from a model."""

import collections
import contextvars
import dataclasses
import functools
import itertools
import random
import threading
import types
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import gradhooks
from tests import digest
from tests.untouched import fingerprints, objects

# One of each way to remember and of each place; the others are whole training runs like these.
GRAPH = (
    "tensor of a helper",
    "dtype of a helper",
    "lru_cache",
    "global",
    "trainer",
    "helper of a metric",
)
EAGER = (
    *(
        "tensor of a helper",
        "dtype of a helper",
        "slots",
        "nested helpers",
        "dict of a class",
        "cache",
        "deque",
    ),
    *("partial", "numpy Generator", "dtype of a loss's helper", "trainer", "variable of a helper"),
)
OFTEN = {"graph": GRAPH, "eager": EAGER}
CASES = [
    pytest.param(
        name, mode, marks=[] if name in OFTEN[mode] else [pytest.mark.system], id=f"{name}-{mode}"
    )
    for name, kind in objects.KINDS.items()
    for mode in kind.modes
]


def built(name, mode):
    objects.forget()
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(3)
    # That leaves the global generator as the latest test has left it.
    tf.random.get_global_generator().reset_from_seed(3)
    return objects.KINDS[name].build(run_eagerly=mode == objects.EAGER)


def trained(model, *callbacks):
    """What a training of four steps leaves: bits, history, belongings; or how it crashed."""
    x, y = objects.data()
    history = model.fit(
        x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks
    ).history
    for key in [key for key in history if key.startswith("gradcheck")]:
        # From the model's History itself, so that the fingerprint does not contain them either.
        del history[key]
    return dict(history), digest.digest(model), fingerprints.belongings(model)


@functools.cache
def plain(name, mode):
    return trained(built(name, mode))


@dataclasses.dataclass
class Once:
    """A model that was checked once: what it had before and after, and the report."""

    model: object
    before: dict
    after: dict
    report: object


def once(name, mode):
    model = built(name, mode)
    before = fingerprints.belongings(model)
    report = gradhooks.check_gradients(model, *objects.data(), samples=4)
    return Once(model, before, fingerprints.belongings(model), report)


def assert_same(found, expected):
    history, bits, belongings = found
    expected_history, expected_bits, expected_belongings = expected
    assert fingerprints.changes(expected_belongings, belongings) == []
    assert history == expected_history
    assert bits == expected_bits


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_training_with_a_check_at_every_step_is_the_training_without(name, mode):
    expected = plain(name, mode)
    check = gradhooks.GradientCheck(*objects.data(), freq=1, samples=4, on_failure="ignore")
    assert_same(trained(built(name, mode), check), expected)
    assert (
        len(check.reports) == 5
    )  # the start, before each of the other three batches, the end of training


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_a_check_leaves_everything_and_training_goes_on_as_without(name, mode):
    expected = plain(name, mode)
    checked = once(name, mode)
    assert fingerprints.changes(checked.before, checked.after) == []
    assert fingerprints.symbolic(checked.after) == []
    assert_same(trained(checked.model), expected)


@pytest.mark.parametrize(
    ("name", "mode"), [case for case in CASES if not objects.KINDS[case.values[0]].is_random]
)
def test_what_remembers_is_no_reason_not_to_pass(name, mode):
    report = once(name, mode).report
    assert report.verdict is gradhooks.Verdict.PASS, str(report)
    # What the optimizer receives was compared too: the step met nothing that another trace had left
    # behind.
    assert [c for c in report.comparisons if c.term == "trained" and c.path != "*"], report.notes


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_what_training_has_filled_before_the_check_is_left_too(name, mode):
    """A compiled step is not traced again, and goes on with tensors of its own trace."""
    check = gradhooks.GradientCheck(*objects.data(), freq=1, samples=4, on_failure="ignore")
    model = built(name, mode)
    trained(model)
    expected = trained(model)
    model = built(name, mode)
    trained(model)
    assert_same(trained(model, check), expected)
    assert len(check.reports) == 5
    if mode == objects.EAGER and not objects.KINDS[name].is_random:
        assert {r.verdict for r in check.reports} == {gradhooks.Verdict.PASS}, str(check.reports[0])


# Loops other than `fit`, batches that differ in size, and XLA


def by_own_loop(model):
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True))
        model.optimizer.apply(
            tape.gradient(loss, model.trainable_variables), model.trainable_variables
        )
        return loss

    run = step if model.run_eagerly else tf.function(step, jit_compile=model.jit_compile)
    return lambda x, y: float(run(tf.constant(x), tf.constant(y)))


LOOPS = {"train_on_batch": lambda model: model.train_on_batch, "own": by_own_loop}
SIZES = {"fixed": 8, "varying": 6}
COMBINED = list(itertools.product(("graph", "xla", objects.EAGER), LOOPS, SIZES))


def combined():
    """Returns kind, mode, loop and size: one of each kind in the whole runs, all in the sweep.

    The kinds take turns through the combinations; every ninth kind runs by default.
    """
    parameters = []
    for i, (name, kind) in enumerate(objects.KINDS.items()):
        possible = [c for c in COMBINED if ("graph" if c[0] == "xla" else c[0]) in kind.modes]
        for k, (mode, loop, size) in enumerate(possible):
            marks = [pytest.mark.system, pytest.mark.sweep]
            if k == i % len(possible):
                marks = [] if i % 9 == 0 else [pytest.mark.system]
            label = f"{name}-{mode}-{loop}-{size}"
            parameters.append(pytest.param(name, mode, loop, size, marks=marks, id=label))
    return parameters


def stepped(name, mode, loop, size, is_checked):
    """Returns what a few steps leave, with a check before each or without, or what they raise."""
    model = built(name, objects.EAGER if mode == objects.EAGER else "graph")
    if mode == "xla":
        model.jit_compile = True
    x, y = objects.data()
    step, losses = LOOPS[loop](model), []
    for start in range(0, len(x), SIZES[size]):
        if is_checked:
            gradhooks.check_gradients(model, x, y, samples=4)
        losses.append(step(x[start : start + SIZES[size]], y[start : start + SIZES[size]]))
    return losses, digest.digest(model), fingerprints.belongings(model)


@pytest.mark.parametrize(("name", "mode", "loop", "size"), combined())
def test_other_loops_are_the_same_too(name, mode, loop, size):
    try:
        expected = stepped(name, mode, loop, size, is_checked=False)
    except Exception as error:  # a tensor that is kept from one trace cannot be used in another
        pytest.skip(f"plain training raises {type(error).__name__}")
    assert_same(stepped(name, mode, loop, size, is_checked=True), expected)


# What nobody can put back


@pytest.mark.parametrize("mode", [pytest.param("graph", marks=pytest.mark.system), "eager"])
@pytest.mark.parametrize("build", [objects.streaming, objects.streaming_from_a_closure])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n == "generator" else [pytest.mark.system])
        for n in objects.STREAMS
    ],
)
def test_a_stream_is_named_and_not_advanced(name, build, mode):
    def run(*callbacks):
        objects.forget()
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(3)
        stream = objects.STREAMS[name]()
        found = trained(build(stream, run_eagerly=mode == objects.EAGER), *callbacks)
        return *found, next(stream)

    *expected, expected_next = run()
    check = gradhooks.GradientCheck(*objects.data(), freq=1, samples=4, on_failure="ignore")
    *found, next_one = run(check)
    assert next_one == expected_next
    assert_same(found, expected)
    assert [r.verdict for r in check.reports] == [gradhooks.Verdict.INCONCLUSIVE] * 5
    text = " ".join([check.reports[0].error, *check.reports[0].notes])
    assert "stream" in text, text


# The fingerprint itself


def closure():
    values = []
    return lambda: values


def with_default(values=[]):  # noqa: B006
    return values


@functools.cache
def cached(number):
    return number


class Slotted:
    __slots__ = ("value",)


class Classy:
    items = {}


class WithMethod:
    def __init__(self):
        self.items = []

    def method(self):
        return self.items


def naming():
    return REMEMBERED


def generator():
    yield from range(9)


REMEMBERED = {}
VARIABLE = contextvars.ContextVar("variable")


def set_item(dictionary, key=1):
    dictionary[key] = 1


def advanced(iterator):
    next(iterator)


# What is looked at, and a change that must show.
NOTICED = {
    "attribute": (types.SimpleNamespace, lambda o: setattr(o, "x", 1)),
    "slot": (Slotted, lambda o: setattr(o, "value", 1)),
    "class attribute": (Classy, lambda o: set_item(Classy.items, "new")),
    "list": (lambda: [[]], lambda o: o[0].append(1)),
    "tuple": (lambda: ([],), lambda o: o[0].append(1)),
    "set": (lambda: {1}, lambda o: o.add(2)),
    "dict": (lambda: {"a": {}}, lambda o: set_item(o["a"])),
    "key": (lambda: {(objects.Counting(),): 1}, lambda o: setattr(next(iter(o))[0], "calls", 1)),
    "deque": (collections.deque, lambda o: o.append(1)),
    "Counter": (collections.Counter, lambda o: o.update("a")),
    "closure": (closure, lambda o: o().append(1)),
    "default": (lambda: with_default, lambda o: o().append(1)),
    "function attribute": (lambda: with_default, lambda o: setattr(o, "seen", 1)),
    "partial": (lambda: functools.partial(print, {}), lambda o: set_item(o.args[0])),
    "method": (lambda: WithMethod().method, lambda o: o().append(1)),
    "global": (lambda: naming, lambda o: set_item(REMEMBERED)),
    "cache": (lambda: cached, lambda o: o(1)),
    "array": (lambda: np.zeros(2), lambda o: o.fill(1)),
    "variable": (lambda: tf.Variable(0.0), lambda o: o.assign(1.0)),
    "Keras variable": (lambda: keras.Variable(0.0), lambda o: o.assign(1.0)),
    "layer": (lambda: keras.layers.Dense(1), lambda o: o.build((1, 1))),
    "random": (lambda: random.Random(1), lambda o: o.random()),
    "numpy Generator": (lambda: np.random.default_rng(1), lambda o: o.random()),
    "numpy RandomState": (lambda: np.random.RandomState(1), lambda o: o.rand()),
    "TensorFlow Generator": (lambda: tf.random.Generator.from_seed(1), lambda o: o.normal(())),
    "count": (itertools.count, advanced),
    "iterator": (lambda: iter([1, 2]), advanced),
    "map": (lambda: map(str, iter([1, 2])), advanced),
    "generator": (generator, advanced),
    "file": (objects.lines, lambda o: o.readline()),
    "context variable": (lambda: VARIABLE, lambda o: o.set(1)),
    "thread local": (threading.local, lambda o: setattr(o, "x", 1)),
    "weak dictionary": (weakref.WeakKeyDictionary, lambda o: set_item(o, WithMethod)),
    "traces": (lambda: tf.function(lambda v: v + 1), lambda o: o(1.0)),
}


@pytest.mark.parametrize("name", NOTICED)
def test_the_fingerprint_changes(name):
    make, change = NOTICED[name]
    thing = make()
    before = fingerprints.belongings(thing)
    assert fingerprints.changes(before, fingerprints.belongings(thing)) == []
    change(thing)
    assert fingerprints.changes(before, fingerprints.belongings(thing))


def test_the_fingerprint_knows_a_tensor_of_a_trace():
    kept = []
    tf.function(lambda: kept.append(tf.zeros(2) + tf.ones(2)))()
    assert fingerprints.symbolic(fingerprints.belongings(kept)) == ["list[0]"]
    assert fingerprints.symbolic(fingerprints.belongings([tf.zeros(2)])) == []


@pytest.mark.parametrize("mode", ["graph", "eager"])
def test_two_plain_trainings_leave_the_same(mode):
    assert_same(trained(built("nested helpers", mode)), plain("nested helpers", mode))
