"""TensorFlow: compile the loss along lines, differentiate it, copy to the host.

Nothing here knows about Keras models; `terms` is a function from parameter
values to scalars, and everything that varies is an argument of the graph, so
that one trace serves every later check.
"""

import contextlib

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry
from tensorflow.python.ops import gen_math_ops

# Operations that write to state outside the graph, or advance a generator there.
_WRITES = (
    "Assign",
    "ResourceScatter",
    "ResourceApply",
    "RngSkip",
    "RngReadAndSkip",
    "StatefulUniform",
    "StatefulStandard",
)
_NARROW_TYPES = frozenset((tf.half.as_datatype_enum, tf.bfloat16.as_datatype_enum, tf.float32.as_datatype_enum))


class Losses:
    """The loss terms at many points along probes, in one compiled call.

    Args:
        terms: Function `(values, state, batch) -> three scalars`.
        shapes: Shape of each parameter.
        state: The tensors that `terms` gets as `state`; only their
            specifications matter here.
        batch: The nested tensors that `terms` gets as `batch`, likewise.
    """

    def __init__(self, terms, shapes, state, batch):
        @tf.function(autograph=False)
        def losses(point, state, batch, starts, splits, weights, which, offsets):
            count = tf.shape(offsets)[0]
            found = tf.TensorArray(tf.float64, size=count, element_shape=(3,))

            def evaluate(k, found):
                first, last = splits[which[k]], splits[which[k] + 1]
                start = starts[which[k]]
                stop = start + last - first
                moved = point[start:stop] + offsets[k] * weights[first:last]
                values = _unflatten(tf.concat([point[:start], moved, point[stop:]], 0), shapes)
                return k + 1, found.write(k, _stacked(terms(values, state, batch)))

            # One evaluation at a time: more would multiply the memory of the activations.
            loop = tf.while_loop(lambda k, _: k < count, evaluate, (0, found), parallel_iterations=1)
            return loop[1].stack()

        vector = tf.TensorSpec([None], tf.float64)
        integers = tf.TensorSpec([None], tf.int64)
        with _inlined_functions():
            self._function = losses.get_concrete_function(
                tf.TensorSpec([_size(shapes)], tf.float64), _specs(state), _specs(batch),
                integers, integers, vector, integers, vector,
            )  # fmt: skip
        self.graph = self._function.graph

    def __call__(self, point, state, batch, probes, pairs):
        """Returns float64, shape (K, 3): total, data and penalty for K pairs `(number of the probe, offset)`."""
        splits = np.cumsum([0] + [len(p.weights) for p in probes])
        return self._function(
            point, state, batch,
            tf.constant([p.start for p in probes], tf.int64),
            tf.constant(splits, tf.int64),
            tf.constant(np.concatenate([p.weights for p in probes]), tf.float64),
            tf.constant([which for which, _ in pairs], tf.int64),
            tf.constant([offset for _, offset in pairs], tf.float64),
        ).numpy()  # fmt: skip


class Gradients:
    """The gradient of the loss terms, flat, by automatic differentiation.

    Args:
        differentiate: Function `(values, state, batch, gradient) -> tuple of
            lists`, one list of tensors (or None) per term, where
            `gradient(target, values, tape)` differentiates.
        shapes, state, batch: As for `Losses`.
    """

    def __init__(self, differentiate, shapes, state, batch):
        self.connected = None

        @tf.function(autograph=False)
        def gradients(point, state, batch):
            per_term = differentiate(_unflatten(point, shapes), state, batch)
            self.connected = np.array([g is not None for g in per_term[0]])
            return tuple(_flatten(gradient, shapes) for gradient in per_term)

        with _inlined_functions():
            self._function = gradients.get_concrete_function(
                tf.TensorSpec([_size(shapes)], tf.float64), _specs(state), _specs(batch)
            )
        self.graph = self._function.graph

    def __call__(self, point, state, batch):
        """Returns one float64 array of shape (P,) per term."""
        return tuple(gradient.numpy() for gradient in self._function(point, state, batch))


@contextlib.contextmanager
def recording(values):
    """Records what follows; yields `gradient(target)`, which returns one tensor or None per value."""
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as recorder:
        recorder.watch(values)

        def gradient(target):
            # The backward pass of a backward pass is nobody's business here.
            with recorder.stop_recording():
                return recorder.gradient(target, values)

        yield gradient


def tensor(value):
    """Returns a tensor of the array's own dtype."""
    return tf.convert_to_tensor(value)


def flat_point(variables):
    """Returns the values of the variables as one float64 tensor of shape (P,)."""
    return tf.concat([tf.reshape(tf.cast(v.value, tf.float64), [-1]) for v in variables], 0)


def snapshot(variables):
    """Returns copies of the variables' values, each at its own dtype."""
    return [tf.identity(tf.convert_to_tensor(v.value)) for v in variables]


def to_host(value):
    """Returns a NumPy array."""
    return value.numpy()


def writes(graph):
    """Returns the names of operations that would change state outside the graph."""
    return tuple(node.name for node in _nodes(graph) if node.op.startswith(_WRITES) or node.op == "AssignVariableOp")


def narrow_casts(graph):
    """Returns the names of casts from float64 to a narrower float: a low-precision core behind a float64 face."""
    return tuple(
        node.name
        for node in _nodes(graph)
        if node.op == "Cast" and node.attr["SrcT"].type == tf.float64.as_datatype_enum
        and node.attr["DstT"].type in _NARROW_TYPES
    )  # fmt: skip


_cast = gen_math_ops.cast
_call_function = type(tf.function(lambda: None)).__call__


def with_xla(function, argument):
    """Calls a function of one tensor as XLA would compile it: its random numbers differ from TensorFlow's own."""
    return _call_function(tf.function(function, autograph=False, jit_compile=True), argument)


def cast(value, dtype):
    """Casts floats, forth and in the gradient back, whoever intercepts casts; leaves other dtypes alone."""
    target = tf.as_dtype(dtype)
    if not (value.dtype.is_floating and target.is_floating) or value.dtype == target:
        return value

    @tf.custom_gradient
    def exactly(x):
        return _cast(x, target), lambda gradient: _cast(gradient, x.dtype)

    return exactly(value)


@contextlib.contextmanager
def casts_intercepted(is_narrowing):
    """While open, casts for which `is_narrowing(source, target)` holds return their input."""
    original = gen_math_ops.cast

    def cast(x, DstT, Truncate=False, name=None):
        if is_narrowing(x.dtype.base_dtype.name, tf.as_dtype(DstT).base_dtype.name):
            return tf.identity(x)
        return original(x, DstT, Truncate, name)

    def exact_gradient(operation, upstream):
        # What was cast up must come down again, so this one cast is never intercepted.
        source = operation.inputs[0].dtype.base_dtype
        return _cast(upstream, source) if source.is_floating else None

    registered = gradient_registry._registry["Cast"]
    before = dict(registered)
    gen_math_ops.cast = cast
    registered["type"] = exact_gradient
    try:
        yield
    finally:
        gen_math_ops.cast = original
        registered.update(before)


# Which input of a shuffling operation is its generator of seeds.
_SEED_INPUTS = {"ShuffleDatasetV3": 4, "ShuffleAndRepeatDatasetV2": 5}


def dataset_copy(dataset):
    """Returns the first element of a `tf.data` pipeline as a pipeline of its own.

    Iterating a shuffled pipeline advances its generator of seeds, and so the
    order in which training would see the data. The copy gets a generator of
    its own, in the state in which the original's began.
    """
    serialized = tf.raw_ops.DatasetToGraphV2(
        input_dataset=dataset.take(1)._variant_tensor, external_state_policy=1, strip_device_assignment=True
    )
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(serialized.numpy())
    for nodes in [graph.node, *(function.node_def for function in graph.library.function)]:
        _give_own_seeds(nodes)
    (result,) = (node.input[0] for node in graph.node if node.op == "_Retval")
    name = result if ":" in result else f"{result}:0"
    rebuild = tf.compat.v1.wrap_function(
        lambda: tf.graph_util.import_graph_def(graph, return_elements=[name], name="")[0], []
    )
    return tf.data.experimental.from_variant(rebuild(), dataset.element_spec)


def _give_own_seeds(nodes):
    by_name = {node.name: node for node in nodes}
    for node in nodes:
        if node.op in _SEED_INPUTS:
            generator = by_name.get(node.input[_SEED_INPUTS[node.op]].split(":")[0])
            if generator is not None:
                name = generator.name
                generator.Clear()
                generator.name, generator.op = name, "DummySeedGenerator"


@contextlib.contextmanager
def _inlined_functions():
    """Traces `tf.function`s of the user's code in place.

    They cache graphs by the dtypes of their arguments; one traced at float64
    with our parameters inside must not be there when training calls them next.
    """
    function_type = type(tf.function(lambda: None))
    original = function_type.__call__
    function_type.__call__ = lambda self, *args, **kwargs: self.python_function(*args, **kwargs)
    try:
        yield
    finally:
        function_type.__call__ = original


def _nodes(graph):
    definition = graph.as_graph_def()
    yield from definition.node
    for function in definition.library.function:
        yield from function.node_def


def _specs(tensors):
    return tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), tensors)


def _size(shapes):
    return int(sum(np.prod(shape, dtype=np.int64) for shape in shapes))


def _unflatten(flat, shapes):
    parts = tf.split(flat, [int(np.prod(shape, dtype=np.int64)) for shape in shapes])
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]


def _flatten(gradient, shapes):
    """A missing gradient is zero here; `connected` tells the difference."""
    dense = [
        tf.zeros(shape, tf.float64) if g is None else tf.convert_to_tensor(g)
        for g, shape in zip(gradient, shapes, strict=True)
    ]
    return tf.concat([tf.reshape(tf.cast(g, tf.float64), [-1]) for g in dense], 0)


def _stacked(terms):
    return tf.stack([tf.cast(term, tf.float64) for term in terms])


class Step:
    """A train step in one compiled call, with what it writes to known.

    Args:
        function: Function `batch -> (gradients, received, applications, optimizers)`.
        batch: Nested tensors.
        is_xla: Whether to compile with XLA.
    """

    def __init__(self, function, batch, is_xla):
        self._told = None

        @tf.function(autograph=False, jit_compile=is_xla)
        def step(batch):
            gradients, *self._told = function(batch)
            return gradients

        self._function = step.get_concrete_function(_specs(batch))

    def __call__(self, batch):
        """Returns what `function` returned, with fresh gradients."""
        return self._function(batch), *self._told

    def foreign_writes(self, storage):
        """Returns the names of operations that write to variables other than those in `storage`."""
        graph = self._function.graph
        own = {id(s.state if isinstance(s, tf.random.Generator) else s) for s in storage}
        foreign = {id(v.handle): v for v in graph.variables if id(v) not in own}
        captured = {inner.name for outer, inner in graph.captures if id(outer) in foreign}
        if not captured:
            return ()
        writers = {
            function.signature.name
            for function in graph.as_graph_def().library.function
            if any(node.op.startswith(_WRITES) for node in function.node_def)
        }
        return tuple(
            operation.name
            for operation in graph.get_operations()
            if any(tensor.name in captured for tensor in operation.inputs)
            and (operation.type.startswith(_WRITES) or _calls(operation) & writers)
        )


def _calls(operation):
    """Names of the functions that an operation calls."""
    definition = operation.node_def
    return {value.func.name for value in definition.attr.values() if value.HasField("func")}


def shadow(value, is_trainable):
    """Returns a copy of a variable's storage, or of a random generator."""
    if isinstance(value, tf.random.Generator):
        return tf.random.Generator.from_state(value.state, value.algorithm)
    return tf.Variable(value, trainable=is_trainable, dtype=value.dtype)


def is_raw_state(value):
    """Whether a value is TensorFlow state that Keras does not know."""
    return isinstance(value, (tf.Variable, tf.random.Generator))


def assign(copy, value):
    """Brings a copy to the present value of what it stands for."""
    if isinstance(copy, tf.random.Generator):
        copy.reset(value.state)
    else:
        copy.assign(value)


def summed(gradients, shape):
    """Returns the sum of gradients as one dense tensor; zeros if there are none."""
    if not gradients:
        return tf.zeros(shape)
    return tf.add_n([tf.convert_to_tensor(g) for g in gradients])


@contextlib.contextmanager
def isolated_generator():
    """While open, TensorFlow's global generator is a copy."""
    generator = tf.random.get_global_generator()
    tf.random.set_global_generator(tf.random.Generator.from_state(generator.state, generator.algorithm))
    try:
        yield
    finally:
        tf.random.set_global_generator(generator)
