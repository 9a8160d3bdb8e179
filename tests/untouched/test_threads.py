"""A check changes things for its own thread alone: no other thread sees anything of it."""

import functools
import random
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gradhooks
from gradhooks.testing import assert_gradients
from tests import digest
from tests.test_bit_identity import OWN_KEYS, seeded
from tests.untouched import threads

X, Y = threads.rows(8, seed=100)
# Weights, not names: every thread of Keras counts those for itself.
OF_TRAINING = ("weights and seeds", "optimizer", "metrics")


@pytest.fixture(autouse=True)
def afresh():
    """What one test may find spoilt must not spoil the others."""
    before = threads.process()
    yield
    threads.repair(before)


def checks(is_at_start, **options):
    """Returns two callbacks; Keras begins to fetch only after the check at the start."""
    options = {"freq": 1, "samples": 4, "on_failure": "ignore", **options}
    later = gradhooks.GradientCheck(X, Y, at_start=False, name="later", **options)
    return [gradhooks.GradientCheck(X, Y, **options), later] if is_at_start else [later]


def trained(build, data, making, gate, callbacks=(), epochs=1):
    """Returns what a training leaves: every bit of it, and of the batches that it was fed."""
    model = seeded(build)
    with threads.hung(gate):
        callbacks = gate.around(callbacks) if callbacks else []
        history = model.fit(
            data, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks
        ).history
    own = tuple(
        key
        for name in ("gradcheck", "later")
        for key in (f"{name}_relative_difference", f"{name}_failures")
    )
    history = {name: values for name, values in history.items() if name not in own}
    return digest.digest(model), history, making.batches()


def fetched(build, gate, callbacks=(), seconds=0.0, count=12):
    data = threads.Fetched(gate, count, seconds)
    return trained(build, data, data.making, gate, callbacks)


@functools.cache
def plainly_fetched(kind, count=12):
    return fetched(threads.KINDS[kind], threads.Gate(), count=count)


def assert_checked(callbacks, gate=None):
    """All checks came to a verdict, and did meet other threads."""
    for check in callbacks:
        assert check.reports
        assert {r.verdict for r in check.reports} == {gradhooks.Verdict.PASS}, check.reports[-1]
    assert gate is None or gate.met, "no fetch was made within a check, so nothing is proved"


# Data workers


@pytest.mark.parametrize("is_at_start", [True, False], ids=["at-start", "later"])
@pytest.mark.parametrize("kind", threads.KINDS)
def test_data_workers_see_nothing(kind, is_at_start):
    plain = plainly_fetched(kind)
    before = threads.process()
    gate, callbacks = threads.Gate(9), checks(is_at_start)
    checked = fetched(threads.KINDS[kind], gate, callbacks)
    assert checked == plain
    assert all(len(made) == 1 for made in checked[2].values())
    assert threads.changes(before, threads.process()) == []
    assert_checked(callbacks, gate)


class Tracing(keras.callbacks.Callback):
    """Traces the model as a check does, and changes nothing."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.built:
            tf.function(lambda x: self.model(x, training=False)).get_concrete_function(
                tf.constant(X)
            )


@pytest.mark.parametrize("kind", threads.KINDS)
def test_a_callback_that_changes_nothing_is_distinguished_from_one_that_does(kind):
    """What the tests here ask for can be had: the meetings alone change nothing."""
    gate = threads.Gate(9)
    assert fetched(threads.KINDS[kind], gate, [Tracing()]) == plainly_fetched(kind)
    assert gate.met


FUNCTIONS = {"py_function": tf.py_function, "numpy_function": tf.numpy_function}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_pipelines_that_call_python_see_nothing(name):
    def run(gate, callbacks=()):
        data, making = threads.called_from_tensorflow(gate, FUNCTIONS[name])
        return trained(threads.functional, data, making, gate, callbacks)

    plain = run(threads.Gate())
    before = threads.process()
    gate, callbacks = threads.Gate(9), checks(False)
    assert run(gate, callbacks) == plain
    assert threads.changes(before, threads.process()) == []
    assert_checked(callbacks, gate)


# Other trainings


def trainings():
    """Four trainings as functions without arguments, which return what they leave."""
    keras.utils.clear_session(free_memory=False)
    models = [
        threads.KINDS[kind](seed) for seed, kind in enumerate([*threads.KINDS, *threads.KINDS])
    ]

    def train(model, seed, callbacks):
        x, y = threads.rows(32, seed)
        options = {
            "batch_size": 8,
            "epochs": 2,
            "verbose": 0,
            "shuffle": False,
            "callbacks": callbacks,
        }
        history = model.fit(x, y, **options).history
        left = digest.digest(model)
        kept = {name: values for name, values in history.items() if name not in OWN_KEYS}
        return {name: left[name] for name in OF_TRAINING}, kept, layers.Dense(1).dtype_policy.name

    return [
        lambda callbacks=(), seed=seed, model=model: train(model, seed, list(callbacks))
        for seed, model in enumerate(models)
    ]


@functools.cache
def each_alone():
    return [train() for train in trainings()]


def test_four_trainings_at_once_are_four_trainings():
    alone = each_alone()
    before = threads.process()
    callbacks = [
        gradhooks.GradientCheck(X, Y, freq=1, samples=4, on_failure="ignore") for _ in alone
    ]
    meeting = threads.Together(4)
    with threads.hung(meeting):
        together = threads.at_once(
            [functools.partial(t, [c]) for t, c in zip(trainings(), callbacks, strict=True)]
        )
    assert together == alone
    assert threads.changes(before, threads.process()) == []
    assert_checked(callbacks)


@pytest.mark.system
def test_four_trainings_at_once_without_checks():
    assert threads.at_once(trainings()) == each_alone()


def ready(kind="functional", **mode):
    """A built model that has been trained for a batch, so that nothing is made at its first use."""
    model = seeded(threads.KINDS[kind], **mode)
    model.train_on_batch(X, Y)
    keras.random.uniform(())  # makes the seed generator of this thread, which draws from Python's
    digest.digest(model)
    return model


def test_another_training_may_begin_within_a_check():
    def other():
        model = threads.subclassed(seed=3)
        return model, lambda: {"loss": model.train_on_batch(X, Y, return_dict=True)["loss"]}

    subject = ready()
    trained_meanwhile, train = other()
    with threads.Onlooker(train) as onlooker:
        report = gradhooks.check_gradients(subject, X, Y, samples=4)
    assert report.verdict is gradhooks.Verdict.PASS
    alone, train = other()
    assert [seen for _, seen in onlooker.seen] == [train() for _ in onlooker.seen]
    assert threads.hashed(*trained_meanwhile.get_weights()) == threads.hashed(*alone.get_weights())
    assert len(onlooker.seen) > 2


# A server of the very model that is checked


def outlook(model):
    """Returns a function () -> all that a thread can see of a model, Keras and TensorFlow."""
    traces = []
    optimizer, container = model.optimizer, model._compile_loss

    @tf.function
    def doubled(x):
        traces.append(1)
        return 2 * x

    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(tf.cast(tf.cast(x, tf.float64), tf.float32) ** 2)
        return tape.gradient(y, x)

    def look():
        outputs = model(X)
        x, fours = tf.constant(X), ops.ones((1, 4, 4, 4))
        grouped = layers.Conv2D(4, 2, groups=2, kernel_initializer="ones")
        doubled(x)
        return {
            "floatx": keras.config.floatx(),
            "policy": (
                keras.config.dtype_policy().name,
                layers.Dense(1).dtype_policy.name,
                layers.Dense(1).dtype,
            ),
            "variable": str(keras.Variable([1.0]).dtype),
            "numbers": threads.hashed(
                ops.ones(2), ops.arange(2.0), ops.cast([1, 2], "float32"), ops.zeros(()) + 0.1
            ),
            "made": threads.hashed(
                layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(1))(X)
            ),
            "draws": threads.hashed(
                keras.random.normal((3,), seed=1), keras.random.uniform((3,), seed=1)
            ),
            "dropout": threads.hashed(keras.random.dropout(ops.ones((4, 4)), 0.5, seed=3)),
            "casts": threads.hashed(
                tf.cast(ops.cast(x, "float64") / 3, tf.float32), ops.cast(x, "float16")
            ),
            "slope": threads.hashed(slope(x)),
            "signs": threads.hashed(ops.signbit(ops.convert_to_tensor([-1.0, -0.0, 2.0]))),
            "groups": threads.hashed(grouped(fours)),
            "loss": threads.hashed(
                keras.losses.MeanSquaredError()(Y, outputs), keras.losses.get("mse")(Y, outputs)
            ),
            "metric": threads.hashed(keras.metrics.MeanAbsoluteError()(Y, outputs)),
            "outputs": threads.hashed(
                outputs, model.compute_loss(x=x, y=tf.constant(Y), y_pred=outputs)
            ),
            "losses": threads.hashed(*model.losses),
            "layers": [
                (v.name, v.dtype_policy.name, v.compute_dtype, v.dtype)
                for v in model._flatten_layers()
            ],
            "variables": [
                (v.path, str(v.dtype), type(v.regularizer).__name__, threads.hashed(v.value))
                for v in [*model.variables, *optimizer.variables]
            ],
            "own": (
                model.optimizer is optimizer,
                model._compile_loss is container,
                model.dtype_policy.name,
            ),
            "traces": len(traces),
        }

    return look


LOOKS = {
    "functional": ("functional", {}, {}),
    "subclassed": ("subclassed", {}, {}),
    "eager": ("functional", {"run_eagerly": True}, {}),
    "native": ("functional", {}, {"precision": "model"}),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[pytest.mark.system] if c == "subclassed" else []) for c in LOOKS],
)
def test_a_server_of_the_model_sees_nothing(case):
    kind, mode, options = LOOKS[case]
    model = ready(kind, **mode)
    before = threads.process(), threads.objects(model)
    with threads.Onlooker(outlook(model)) as onlooker:
        onlooker.now()
        expected = onlooker.now()
        report = gradhooks.check_gradients(model, X, Y, samples=4, **options)
    assert isinstance(expected, dict), expected
    assert report.verdict is gradhooks.Verdict.PASS
    assert onlooker.places == {"call", "backward", "loss", "regularizer", "train_step"}
    for name, seen in onlooker.seen:
        assert isinstance(seen, dict), (name, seen)
        assert {k: v for k, v in seen.items() if v != expected[k]} == {}, name
    assert threads.changes(before[0], threads.process()) == []
    assert threads.changes(before[1], threads.objects(model)) == []


def test_an_onlooker_notices():
    model = ready()
    with threads.Onlooker(outlook(model)) as onlooker:
        onlooker.now()
        expected = onlooker.now()
        keras.config.set_floatx("float64")
        try:
            seen = onlooker.now()
        finally:
            keras.config.set_floatx("float32")
    assert isinstance(seen, str) or seen["floatx"] != expected["floatx"]


class Counted:
    """Counts, for whoever asks."""

    def __init__(self):
        self.count, self.seen = 0, []

    def up(self):
        self.count += 1
        self.seen.append(self.count)
        return self.count


class Counting(layers.Layer):
    """Holds something that another thread writes to."""

    def __init__(self, counted):
        super().__init__()
        self.counted = counted

    def call(self, x):
        threads.place("call")
        return x * (1.0 + 0.0 * self.counted.count)


def test_what_another_thread_writes_meanwhile_stays():
    counted = Counted()
    model = keras.Sequential(
        [layers.Input((4,)), layers.Dense(3, "tanh"), Counting(counted), layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    with threads.Onlooker(counted.up) as onlooker:
        gradhooks.check_gradients(model, X, Y, samples=4)
    assert [seen for _, seen in onlooker.seen] == counted.seen == list(range(1, counted.count + 1))
    assert counted.count == len(onlooker.seen) > 1


@pytest.mark.parametrize("make", ["make_predict_function", "make_test_function"])
def test_what_a_server_compiles_meanwhile_stays(make):
    model = keras.Sequential(
        [layers.Input((4,)), layers.Dense(3, "tanh"), Counting(Counted()), layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    name = make.removeprefix("make_")

    def compiled():
        getattr(model, make)()
        return getattr(model, name)

    with threads.Onlooker(compiled) as onlooker:
        gradhooks.check_gradients(model, X, Y, samples=4)
    assert len(onlooker.seen) > 1
    assert {id(seen) for _, seen in onlooker.seen} == {id(getattr(model, name))}


class LayerMaker(layers.Layer):
    def call(self, x):
        return x * float(layers.Identity().name.startswith("identity"))


def test_a_thread_that_makes_its_first_layer_within_a_check_goes_on_in_its_own_precision():
    model = keras.Sequential(
        [layers.Input((4,)), layers.Dense(2, "tanh"), LayerMaker(), layers.Dense(1)]
    )
    model.compile("sgd", "mse")

    def check():
        verdict = gradhooks.check_gradients(model, X, Y, samples=4).verdict
        return verdict, keras.config.floatx(), layers.Dense(1).dtype_policy.name

    assert threads.at_once([check]) == [(gradhooks.Verdict.PASS, "float32", "float32")]


# Generators that all threads share

DRAWS = {
    "python": lambda: random.random(),
    "numpy": lambda: np.random.normal(),
    # As `from random import random` does: no module is asked any more.
    "python, held": random.random,
    "numpy, held": np.random.normal,
    "tensorflow": lambda: tf.random.get_global_generator().normal([]).numpy(),
    "operations": lambda: tf.random.normal([]).numpy(),
}
# TensorFlow's own generators give tensors in a trace, and no check may write to them.
IN_PYTHON = tuple(DRAWS)[:4]


class Drawing(layers.Layer):
    """Draws in Python, as some code does while it is traced, and uses nothing of it."""

    def __init__(self, draw, **kwargs):
        super().__init__(**kwargs)
        self.draw = draw

    def call(self, x):
        threads.place("call")
        drawn = [self.draw() for _ in range(3)]
        threads.place("call")
        return x + 0.0 * float(np.sum(drawn))


def drawing_model(draw):
    model = keras.Sequential(
        [layers.Input((4,)), layers.Dense(3, "tanh"), Drawing(draw), layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    return model


def restart():
    random.seed(1)
    np.random.seed(2)
    tf.random.set_seed(3)
    tf.random.get_global_generator().reset_from_seed(4)


@pytest.mark.parametrize(
    ("name", "is_drawing_itself"),
    [*((name, False) for name in DRAWS), *((name, True) for name in IN_PYTHON)],
)
def test_a_worker_draws_the_seeded_sequence(name, is_drawing_itself):
    draw = DRAWS[name]
    model = drawing_model(draw if is_drawing_itself else lambda: 0.0)
    keras.random.uniform(())
    restart()
    with threads.Onlooker(draw) as onlooker:
        first = onlooker.now()
        gradhooks.check_gradients(model, X, Y, samples=4)
        last = onlooker.now()
    sequence = [first, *(seen for _, seen in onlooker.seen), last]
    restart()
    assert sequence == [draw() for _ in sequence]
    assert len(sequence) > 4


@pytest.mark.parametrize("is_drawing_itself", [False, True], ids=["quiet", "drawing"])
def test_a_check_alone_draws_nothing(is_drawing_itself):
    model = drawing_model(
        (lambda: np.random.normal() + random.random()) if is_drawing_itself else lambda: 0.0
    )
    keras.random.uniform(())
    before = threads.generators()
    gradhooks.check_gradients(model, X, Y, samples=4)
    assert threads.generators() == before


# Two checks at once


def summarize(report):
    """What a report says, apart from seconds and the like."""
    return (
        report.verdict,
        report.reason,
        repr(report.comparisons),
        repr(report.precision),
        report.notes,
    )


PAIRS = {
    "two models": (("functional", 0), ("subclassed", 1)),
    "the same model": (("functional", 0), ("functional", 0)),
    "one natively": (("functional", 0), ("functional", 1)),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[pytest.mark.system] if c == "one natively" else []) for c in PAIRS],
)
def test_two_checks_at_once_say_what_each_says_alone(case):
    models = {pair: threads.KINDS[pair[0]](pair[1]) for pair in PAIRS[case]}
    for model in models.values():
        model.train_on_batch(X, Y)

    def check(pair, seed):
        precision = "model" if case == "one natively" and seed else "auto"
        return summarize(
            gradhooks.check_gradients(models[pair], X, Y, samples=6, seed=seed, precision=precision)
        )

    functions = [functools.partial(check, pair, seed) for seed, pair in enumerate(PAIRS[case])]
    alone = [function() for function in functions]
    assert [function() for function in functions] == alone
    before = threads.process(), [threads.objects(model) for model in models.values()]
    with threads.hung(threads.Together(2)):
        assert threads.at_once(functions) == alone
    after = threads.process(), [threads.objects(model) for model in models.values()]
    assert threads.changes(before[0], after[0]) == []
    assert [threads.changes(*pair) for pair in zip(before[1], after[1], strict=True)] == [
        [] for _ in models
    ]


def test_tests_of_layers_at_once():
    def wrong(x):
        return tf.custom_gradient(lambda x: (tf.identity(x), lambda g: 2 * g))(x)

    class Both(layers.Layer):
        def __init__(self, is_wrong):
            super().__init__()
            self.is_wrong = is_wrong

        def build(self, shape):
            self.scale = self.add_weight(shape=shape[-1:], initializer="ones", name="scale")

        def call(self, x):
            threads.place("call")
            return wrong(x * self.scale) if self.is_wrong else x * self.scale

    functions = [
        functools.partial(assert_gradients, Both(is_wrong), X, samples=4)
        for is_wrong in (False, True)
    ]
    with threads.hung(threads.Together(2)):
        right, failed = threads.at_once(functions)
    assert right.verdict is gradhooks.Verdict.PASS
    assert isinstance(failed, AssertionError)
    assert "mismatch" in str(failed)


# Checks that die

PLACES = ("call", "backward", "loss", "regularizer", "train_step")


class Raising:
    """A hook that raises at the k-th time at a place."""

    def __init__(self, place, error, times=1):
        self._place, self._error, self._left = place, error, times

    def __call__(self, name):
        self._left -= name == self._place
        if name == self._place and self._left == 0:
            raise self._error


DEATHS = [
    (place, kind) for kind in (KeyboardInterrupt, RuntimeError, ValueError) for place in PLACES
]
OFTEN = [
    ("call", KeyboardInterrupt),
    ("train_step", KeyboardInterrupt),
    ("backward", RuntimeError),
    ("loss", ValueError),
]


@pytest.mark.parametrize(
    ("place", "kind"),
    [pytest.param(*d, marks=[] if d in OFTEN else [pytest.mark.system]) for d in DEATHS],
)
def test_a_check_that_dies_leaves_nothing(place, kind):
    model = ready()
    with threads.Onlooker(outlook(model), is_meeting=False) as onlooker:
        onlooker.now()
        expected = onlooker.now()
        before = threads.process(), threads.objects(model), threads.generators()
        with threads.hung(Raising(place, kind("enough"))):
            if kind is KeyboardInterrupt:
                with pytest.raises(KeyboardInterrupt):
                    gradhooks.check_gradients(model, X, Y, samples=4)
            else:
                assert gradhooks.check_gradients(model, X, Y, samples=4).step == 0
        assert threads.generators() == before[2]
        assert threads.changes(before[0], threads.process()) == []
        assert threads.changes(before[1], threads.objects(model)) == []
        assert onlooker.now() == expected
    assert gradhooks.check_gradients(model, X, Y, samples=4).verdict is gradhooks.Verdict.PASS


def test_one_check_dies_while_another_goes_on():
    models = [threads.functional(seed) for seed in (0, 1)]
    for model in models:
        model.train_on_batch(X, Y)
    alone = summarize(gradhooks.check_gradients(models[0], X, Y, samples=6))
    before = threads.process()
    doomed = threading.local()
    meeting = threads.Together(2)

    def hook(name):
        meeting(name)
        if getattr(doomed, "is_it", False):
            raise KeyboardInterrupt

    def check(k):
        doomed.is_it = bool(k)
        return summarize(gradhooks.check_gradients(models[k], X, Y, samples=6))

    with threads.hung(hook):
        living, dead = threads.at_once([functools.partial(check, k) for k in (0, 1)])
    assert living == alone
    assert isinstance(dead, KeyboardInterrupt)
    assert threads.changes(before, threads.process()) == []


# Nothing arranged: many fits, and whatever meets


def strain(fits, count=32, seconds=0.15):
    """Trains again and again while data workers are busy; returns what went wrong."""
    wrong = []
    for fit in range(fits):
        for kind in threads.KINDS:
            plain = plainly_fetched(kind, count)
            for is_at_start in (False, True)[: 2 if fits > 2 else 1 + fit % 2]:
                try:
                    if (
                        fetched(
                            threads.KINDS[kind], threads.Gate(), checks(is_at_start), seconds, count
                        )
                        != plain
                    ):
                        wrong.append((fit, kind, is_at_start, "bits"))
                except Exception as error:
                    wrong.append(
                        (fit, kind, is_at_start, f"{type(error).__name__}: {str(error)[:200]}")
                    )
                if keras.config.floatx() != "float32":
                    wrong.append((fit, kind, is_at_start, "floatx"))
                    keras.config.set_floatx("float32")
    return wrong


def test_busy_data_workers():
    before = threads.process()
    assert strain(2) == []
    assert threads.changes(before, threads.process()) == []


def four_at_once():
    """Trains four at once and returns what went wrong."""
    callbacks = [
        gradhooks.GradientCheck(X, Y, freq=1, samples=4, on_failure="ignore") for _ in range(4)
    ]
    together = threads.at_once(
        [functools.partial(t, [c]) for t, c in zip(trainings(), callbacks, strict=True)]
    )
    return [
        one if isinstance(one, BaseException) else "bits"
        for one, other in zip(together, each_alone(), strict=True)
        if isinstance(one, BaseException) or one != other
    ]


@pytest.mark.system
def test_busy_data_workers_in_a_hundred_fits():
    before = threads.process()
    assert strain(25) == []
    assert threads.changes(before, threads.process()) == []


@pytest.mark.system
def test_four_trainings_at_once_again_and_again():
    before = threads.process()
    assert [four_at_once() for _ in range(12)] == [[] for _ in range(12)]
    assert threads.changes(before, threads.process()) == []
