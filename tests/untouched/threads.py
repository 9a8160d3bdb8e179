"""Meetings of a check with other threads, and everything that a check could change in a process.

The layers here call `place("call")` and the like wherever code of the user's
runs. A test that has hung something there stops a check at that place until
another thread has done what it wants to do, so that nothing depends on luck.
"""

import contextlib
import hashlib
import importlib
import queue
import random
import sys
import threading
import time
import types

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from tensorflow.python.eager import context
from tensorflow.python.framework.ops import gradient_registry

from tests import digest

# Nobody waits longer for another thread; a test that has waited in vain fails.
PATIENCE = 20.0
# A check puts back all that the model's code leads to, and what a test notes down must outlast it.
# So the notes are behind a queue: a thing between threads, in which no model keeps its state.
_HOOKS = queue.Queue()


def place(name):
    """Code of the user's stands here: whatever a test has hung here is called."""
    for hook in list(_HOOKS.queue):
        hook(name)


@contextlib.contextmanager
def hung(hook):
    """While open, `hook(name)` is called at every place."""
    _HOOKS.put(hook)
    try:
        yield
    finally:
        _HOOKS.queue.remove(hook)


# Networks with a place wherever code of the user's runs.


@tf.custom_gradient
def _watched(x):
    def backward(upstream):
        place("backward")
        return upstream

    return tf.identity(x), backward


class Watched(layers.Layer):
    def call(self, x):
        place("call")
        return _watched(x)


class Penalty(keras.regularizers.Regularizer):
    def __call__(self, x):
        place("regularizer")
        return 0.01 * ops.sum(ops.square(x))


def loss(y, p):
    place("loss")
    return ops.mean(ops.square(p - ops.cast(y, p.dtype)), -1)


class Stepping:
    def train_step(self, data):
        place("train_step")
        return super().train_step(data)


class Graph(Stepping, keras.Model):
    """Made of inputs and outputs."""


class Subclassed(Stepping, keras.Model):
    """Built by its first batch."""

    def __init__(self):
        super().__init__(name="subclassed")
        self.below = layers.Dense(6, "tanh", kernel_regularizer=Penalty(), name="below")
        self.watched = Watched(name="watched")
        self.norm = layers.BatchNormalization(name="norm")
        self.dropout = layers.Dropout(0.2, seed=4, name="dropout")
        self.head = layers.Dense(1, name="head")

    def call(self, x, training=False):
        x = self.norm(self.watched(self.below(x)), training=training)
        return self.head(self.dropout(x, training=training))


def functional(seed=0, **mode):
    keras.utils.set_random_seed(seed)
    x = layers.Input((4,))
    h = Watched(name="watched")(
        layers.Dense(6, "tanh", kernel_regularizer=Penalty(), name="below")(x)
    )
    h = layers.Dropout(0.2, seed=4, name="dropout")(layers.BatchNormalization(name="norm")(h))
    model = Graph(x, layers.Dense(1, name="head")(h), name="functional")
    model.compile("adam", loss, metrics=["mae"], **mode)
    return model


def subclassed(seed=0, **mode):
    keras.utils.set_random_seed(seed)
    model = Subclassed()
    model.compile("adam", loss, metrics=["mae"], **mode)
    return model


KINDS = {"functional": functional, "subclassed": subclassed}


def rows(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 4)).astype("float32"), rng.normal(size=(count, 1)).astype(
        "float32"
    )


def hashed(*arrays):
    """Returns every bit of some arrays as a short word, and their dtypes."""
    arrays = [np.asarray(a) for a in arrays]
    words = hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:12]
    return words, *(a.dtype.name for a in arrays)


# Data workers, which meet a check.


class Gate:
    """Delays some fetches until a check has come to a place, and the check until they are made.

    Args:
        gated: How many fetches in all may be held back; 0 holds back none.
        at_once: How many are let through at each place.
    """

    def __init__(self, gated=0, at_once=3):
        self.is_checking = False
        self._condition = threading.Condition()
        self._held, self._at_once = gated, at_once
        self._tickets, self._made, self.met = 0, 0, 0

    @contextlib.contextmanager
    def fetch(self, index, free=3):
        """While open, a fetch is made; those of the first `free` batches are never held back."""
        is_gated = index >= free
        if is_gated:
            with self._condition:
                is_gated = (
                    self._condition.wait_for(lambda: self._tickets or not self._held, PATIENCE)
                    and self._held
                )
                self._tickets -= bool(is_gated)
        try:
            yield
        finally:
            if is_gated:
                with self._condition:
                    self._made += 1
                    self._condition.notify_all()

    def __call__(self, name):
        """A hook: in a check lets fetches through, and waits until they have been made."""
        if not self.is_checking or not self._held:
            return
        with self._condition:
            let = min(self._at_once, self._held)
            self._tickets += let
            aim = self._made + let
            self._condition.notify_all()
            self.met += self._condition.wait_for(lambda: self._made >= aim, PATIENCE)
            self._held -= let
            self._condition.notify_all()

    def open(self):
        """Holds nothing back any more."""
        with self._condition:
            self._held = 0
            self._condition.notify_all()

    def around(self, checks):
        """Returns callbacks that tell the gate when the last of some is at work."""
        *others, last = checks
        return [*others, _Mark(self, True), last, _Mark(self, False)]


class _Mark(keras.callbacks.Callback):
    def __init__(self, gate, is_before):
        super().__init__()
        self._gate, self._is_before = gate, is_before

    def _note(self, *_):
        self._gate.is_checking = self._is_before

    def on_train_batch_begin(self, batch, logs=None):
        self._note()

    on_epoch_begin = on_epoch_end = on_train_batch_begin

    def on_train_batch_end(self, batch, logs=None):
        # The model is built by now, and has been checked at least once when the next batch ends.
        if batch and not self._is_before:
            self._gate.open()


class Making:
    """Makes batches out of numbers, by operations and layers of Keras."""

    def __init__(self, seconds=0.0):
        self._seconds = seconds
        self._normalize = layers.Normalization(
            mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 4.0]
        )
        self._normalize.build((None, 4))
        self._rescale = layers.Rescaling(0.5, offset=0.1)
        self._bins = layers.Discretization(bin_boundaries=[-1.0, 0.0, 1.0])
        self._categories = layers.CategoryEncoding(num_tokens=4, output_mode="one_hot")
        self.made = {}

    def __call__(self, index):
        x, y = rows(8, seed=index)
        seen = {"floatx": keras.config.floatx(), "policy": layers.Dense(1).dtype_policy.name}
        x = self._rescale(self._normalize(ops.convert_to_tensor(x)))
        noise = keras.random.normal((8, 4), seed=index) * keras.random.uniform((8, 1), seed=index)
        kept = keras.random.dropout(ops.ones((8, 4)), 0.3, seed=index)
        time.sleep(self._seconds)
        coded = self._categories(self._bins(y[:, 0]))
        flip = layers.RandomFlip("horizontal", seed=index)
        flipped = flip(ops.reshape(x, (8, 2, 2, 1)), training=True)
        signs = ops.cast(ops.signbit(noise), "float32")
        x = (
            ops.reshape(flipped, (8, 4))
            + 0.1 * noise * kept
            + 0.01 * ops.cast(coded, "float32")
            + 0.01 * signs
        )
        widened = ops.cast(ops.cast(x, "float64"), "float32")
        seen["bits"] = hashed(
            x, noise, kept, coded, flipped, widened, ops.zeros((1,)), ops.ones((1,)) / 3
        )
        self.made.setdefault(index, []).append(seen)
        return ops.convert_to_numpy(x), y

    def batches(self):
        """Returns the different batches that were made, by index: one, if all were alike."""
        return {index: sorted({repr(seen) for seen in made}) for index, made in self.made.items()}


class Fetched(keras.utils.PyDataset):
    """Batches fetched by four threads."""

    def __init__(self, gate, count=12, seconds=0.0):
        super().__init__(workers=4, use_multiprocessing=False, max_queue_size=count)
        self._gate, self._count = gate, count
        self.making = Making(seconds)

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        with self._gate.fetch(index):
            return self.making(index)


def called_from_tensorflow(gate, function, count=12):
    """Returns a pipeline that calls Python by `tf.py_function` or the like, and its `Making`."""
    making = Making()

    def make(index):
        with gate.fetch(int(index)):
            return making(int(index))

    def mapped(index):
        x, y = function(make, [index], (tf.float32, tf.float32))
        return tf.ensure_shape(x, (8, 4)), tf.ensure_shape(y, (8, 1))

    scale = layers.Rescaling(3.0)
    dataset = (
        tf.data.Dataset.range(count).map(mapped).map(lambda x, y: (scale(x), y)).prefetch(count)
    )
    options = tf.data.Options()
    options.threading.private_threadpool_size = 4
    return dataset.with_options(options), making


# Other threads at work.


class Onlooker:
    """Another thread, which looks whenever the checking thread stands at a place.

    Args:
        look: Function without arguments, called in the other thread; what it
            returns, or the exception that it raises, is kept in `seen`.
        is_meeting: Whether checks meet it; else it looks when asked alone.
    """

    def __init__(self, look, is_meeting=True):
        self._look, self._is_meeting = look, is_meeting
        self._asked, self._answered = queue.Queue(), queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seen = []
        self.places = set()

    def __enter__(self):
        self._thread.start()
        self._stack = contextlib.ExitStack()
        if self._is_meeting:
            self._stack.enter_context(hung(self._hook))
        return self

    def __exit__(self, *exception):
        self._stack.close()
        self._asked.put(None)
        self._thread.join(PATIENCE)

    def now(self):
        """Has the other thread look, waits for it, and returns what it saw."""
        self._asked.put(True)
        return self._answered.get(timeout=PATIENCE)

    def _hook(self, name):
        if threading.current_thread() is not self._thread:
            self.places.add(name)
            self.seen.append((name, self.now()))

    def _run(self):
        while self._asked.get() is not None:
            try:
                self._answered.put(self._look())
            except Exception as error:
                self._answered.put(f"{type(error).__name__}: {str(error)[:300]}")


class Together:
    """A hook at which threads wait for each other, each once, and at most for a while."""

    def __init__(self, count, seconds=2.5):
        self._barrier, self._seconds = threading.Barrier(count), seconds
        self._came = set()
        self.met = False

    def __call__(self, name):
        me = threading.get_ident()
        if me in self._came:
            return
        self._came.add(me)
        with contextlib.suppress(threading.BrokenBarrierError):
            self._barrier.wait(self._seconds)
            self.met = True


def at_once(functions):
    """Calls functions in a thread each, and returns what they return or raise."""
    results = [None] * len(functions)

    def run(k):
        try:
            results[k] = functions[k]()
        except BaseException as error:  # it is the test's to judge
            results[k] = error

    threads = [threading.Thread(target=run, args=(k,), daemon=True) for k in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10 * PATIENCE)
    return results


# What a process is.

MODULES = (
    "keras.src.backend.numpy",
    "keras.src.backend.nn",
    "keras.src.backend.random",
    "keras.src.backend.core",
    "keras.src.backend.math",
    "keras.src.backend.linalg",
    "keras.src.backend.image",
    "keras.src.backend.config",
    "keras.src.backend.tensorflow.core",
    "keras.src.backend.common",
    "keras.src.backend.common.backend_utils",
    "keras.src.backend.common.dtypes",
    "keras.src.backend.common.global_state",
    "keras.src.backend.common.keras_tensor",
    "keras.src.backend.common.stateless_scope",
    "keras.src.backend.common.symbolic_scope",
    "keras.src.backend.common.variables",
    "keras.src.dtype_policies.dtype_policy",
    "keras.src.random.random",
    "keras.src.random.seed_generator",
    "keras.src.ops.numpy",
    "keras.src.ops.nn",
    "keras.src.ops.core",
    "tensorflow.python.ops.array_ops",
    "tensorflow.python.ops.custom_gradient",
    "tensorflow.python.ops.gen_math_ops",
    "tensorflow.python.ops.math_ops",
    "tensorflow.python.ops.random_ops",
    "tensorflow.python.ops.stateful_random_ops",
    "numpy.random",
    "random",
)
CLASSES = {
    "Layer": keras.layers.Layer,
    "Variable": keras.Variable,
    "Loss": keras.losses.Loss,
    "Metric": keras.metrics.Metric,
    "Model": keras.Model,
    "Optimizer": keras.optimizers.Optimizer,
    "Regularizer": keras.regularizers.Regularizer,
    "SeedGenerator": keras.random.SeedGenerator,
    "DTypePolicy": keras.DTypePolicy,
    "tf.function": type(tf.function(lambda: None)),
    "GradientTape": tf.GradientTape,
    "Generator": tf.random.Generator,
    "Watched": Watched,
    "Subclassed": Subclassed,
    "Penalty": Penalty,
}


def process():
    """Returns all that a check could change for all threads, by name; see `changes`."""
    found = {"generator": tf.random.get_global_generator()}
    for name in MODULES:
        module = _module(name)
        found |= {f"{name}.{attribute}": value for attribute, value in vars(module).items()}
    for name, kind in CLASSES.items():
        found |= {f"{name}.{attribute}": value for attribute, value in vars(kind).items()}
        found[f"bases of {name}"] = kind.__mro__
    for name, value in vars(_module("keras.src.backend.config")).items():
        if isinstance(value, types.FunctionType):
            found[f"code of {name}"] = value.__code__
    found |= {
        f"gradient of {name}": entry["type"] for name, entry in gradient_registry._registry.items()
    }
    # Python, Keras and TensorFlow make these when first asked for, for every function or for every
    # session anew.
    made = (
        "__annotations__",
        "__annotate_func__",
        "__annotations_cache__",
        "gradient of CustomGradient-",
        "_TRACKER",
    )
    found = {name: value for name, value in found.items() if not any(word in name for word in made)}
    found["floatx"] = keras.config.floatx()
    found["policy"] = keras.config.dtype_policy().name
    found["tracebacks"] = keras.config.is_traceback_filtering_enabled()
    found["eager functions"] = tf.config.functions_run_eagerly()
    found["threads' hooks"] = (
        threading.gettrace(),
        threading.getprofile(),
        sys.gettrace(),
        sys.getprofile(),
    )
    return found


def repair(before):
    """Restores what `process` finds changed, so that one failing test does not spoil the next."""
    owners = {name: _module(name) for name in MODULES} | CLASSES
    for changed in changes(before, process()):
        owner, _, attribute = changed.rpartition(".")
        if owner in owners and changed in before:
            setattr(owners[owner], attribute, before[changed])
        elif changed.startswith("gradient of "):
            gradient_registry._registry[changed.removeprefix("gradient of ")]["type"] = before[
                changed
            ]
    keras.config.set_floatx(before["floatx"])
    keras.config.set_dtype_policy(before["policy"])
    tf.random.set_global_generator(before["generator"])


def generators():
    """Returns the states of the generators that all threads share."""
    found = {"python": random.getstate(), "numpy": np.random.get_state()}
    found["tensorflow"] = tf.random.get_global_generator().state.numpy().tolist()
    found["operations"] = getattr(getattr(context.context(), "_rng", None), "getstate", lambda: 0)()
    return {name: hashed(repr(state)) for name, state in found.items()}


def _module(name):
    # `keras.src.backend.numpy` and its like are attributes, of whichever backend there is.
    head, _, tail = name.rpartition(".")
    found = getattr(importlib.import_module(head), tail, None) if head else None
    return found if isinstance(found, types.ModuleType) else importlib.import_module(name)


def objects(model):
    """Returns every attribute of a model, its layers, variables, loss and optimizer, by name."""
    held = {layer.name: layer for layer in model._flatten_layers()}
    held |= {f"{k} {v.path}": v for k, v in enumerate([*model.variables, *model.metrics_variables])}
    held |= {"loss": model._compile_loss, "optimizer": model.optimizer}
    held |= {f"optimizer's {k}": v for k, v in enumerate(model.optimizer.variables)}
    found = {}
    for name, owner in held.items():
        found[f"type of {name}"] = type(owner)
        found |= {f"{name}.{attribute}": value for attribute, value in vars(owner).items()}
    # Names and generators belong to a thread or to all of them, and move on when anybody makes a
    # layer.
    shared = ("python", "numpy", "tensorflow", "tensorflow operations", "global seeds", "names")
    return found | {name: word for name, word in digest.digest(model).items() if name not in shared}


def changes(before, after):
    """Returns the names of what is another object, gone or new; modules may be new."""
    gone = [name for name in before if name not in after]
    new = [
        name
        for name in after
        if name not in before and not isinstance(after[name], types.ModuleType)
    ]
    return (
        gone
        + new
        + [name for name in before if name in after and not _is_same(before[name], after[name])]
    )


def _is_same(one, other):
    """Compares containers by the identity of their members: tensors have no truth value."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(_is_same, one.values(), other.values()))
    return isinstance(one, (str, bytes, int, float)) and one == other
