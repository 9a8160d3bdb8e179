"""The gradient of the loss, compiled from the trace that the losses along lines are taken from, too.

Nothing here knows about Keras models; `differentiate` is a function from
parameter values to scalars and their gradients, and everything that varies is
an argument of the graph, so that one trace serves every later check.
"""

import contextlib
import math

import numpy as np
import tensorflow as tf

from gradhooks.backends.tensorflow.functions import concrete, inline_functions
from gradhooks.backends.tensorflow.graphs import calls_python, run, specs
from gradhooks.backends.tensorflow.parameters import (
    Cache,
    fill_missing_gradients,
    flatten,
    specifications,
    trim_memory,
)
from gradhooks.backends.tensorflow.subgraphs import ForwardGraph
from gradhooks.backends.tensorflow.tensors import is_plain


class GradientProgram:
    """The gradient of the loss terms, flat, by automatic differentiation.

    Args:
        differentiate: Function `(values, state, batch) -> (terms, gradients)`:
            three scalars, and per term to differentiate one tensor (or None)
            for each of `values`.
        shapes: Shape of each parameter.
        state: The tensors that `differentiate` gets as `state`; only their
            specifications matter here.
        batch: The nested tensors that it gets as `batch`, likewise.
    """

    def __init__(self, differentiate, shapes, state, batch):
        self.connected = None
        self.shapes = shapes
        self.kept = Cache(lambda: trim_memory(sum(math.prod(shape) for shape in shapes)))
        marked = []

        # Parameters come and gradients leave one by one: laid end to end, they would be held twice.
        @tf.function(autograph=False)
        def gradients(values, state, batch):
            terms, per_term = differentiate(values, state, batch)
            self.connected = np.array([g is not None for g in per_term[0]])
            terms = [_scalar(term) for term in terms]
            marked[:] = terms, values
            # The terms are returned, too, so that an operation that cannot run shows at the first
            # call.
            return [fill_missing_gradients(gradient, shapes) for gradient in per_term], terms

        with inline_functions():
            self._function = concrete(gradients, specifications(shapes), specs(state), specs(batch))
        self.graph = self._function.graph
        #: Whether evaluating it runs Python code of the user's.
        self.calls_python = calls_python(self.graph)
        self.forward = ForwardGraph(self.graph, *marked)

    def captured_ids(self):
        """Returns the ids of what the graph takes from outside beside its arguments."""
        return {id(external) for external, _ in self.graph.captures}

    def own_variables(self):
        """Returns (variable, name, number of entries) of the trainable float variables that the graph reads itself."""
        captured = self.captured_ids()
        own = [
            v
            for v in self.graph.variables
            if is_plain(v) and v.trainable and id(v.handle) in captured
        ]
        floats = [v for v in own if v.dtype.is_floating or v.dtype.is_complex]
        return [(v, v.name.partition(":")[0], v.shape.num_elements() or 0) for v in floats]

    def parts(self, point):
        """Returns the parameters of a point one by one."""
        return self.kept.parts(point, self.shapes)

    def __call__(self, point, state, batch):
        """Returns one float64 array of shape (P,) per term."""
        per_term, _ = run(self._function, self.parts(point), state, batch)
        trim_memory(len(point))
        return tuple(flatten(gradient) for gradient in per_term)

    def given(self, arguments):
        """Returns tensors of the default graph by the names of the inputs that stand for them."""
        inputs = [tensor.name for tensor in self.graph.inputs]
        captured = [inner(external) for external, _ in self.graph.captures]
        return dict(zip(inputs, [*tf.nest.flatten(arguments), *captured], strict=True))


def inner(tensor):
    """The tensor as the default graph sees it."""
    return tf.compat.v1.get_default_graph().capture(tensor)


def differentiate(target, values):
    """Differentiates a scalar of the graph that is being traced; returns one tensor or None per value.

    By the graph and not by a tape: several terms would take a persistent tape, and where there is one TensorFlow
    compiles every loop for derivatives of higher order, which takes several times as long to trace.
    """
    return tf.gradients(target, values)


class Tape:
    """Differentiates by a tape, which takes gradients as custom gradients return them, whatever their shapes.

    Attributes:
        remarks: What the graph would have refused, one sentence each.
    """

    def __init__(self):
        self.remarks = []

    @contextlib.contextmanager
    def record(self, values):
        """While open, operations are recorded; yields a function as `gradient`."""
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(values)

            def gradient(target, values):
                with tape.stop_recording():
                    found = tape.gradient(target, values)
                return [self._of_shape(g, v) for g, v in zip(found, values, strict=True)]

            yield gradient

    def _of_shape(self, gradient, value):
        if gradient is None or gradient.shape == value.shape:
            return gradient
        remark = f"a gradient of shape {tuple(gradient.shape)} for a parameter of shape {tuple(value.shape)}"
        remark += " is broadcast"
        if remark not in self.remarks:
            self.remarks.append(remark)
        return broadcast(gradient, value.shape)


def broadcast(gradient, shape):
    """Returns a gradient in the shape of its variable, as an update of the variable would take it.

    Raises:
        ValueError: If no update could take it.
    """
    if gradient.shape == tuple(shape):
        return gradient
    try:
        fits = tf.broadcast_static_shape(gradient.shape, tf.TensorShape(shape)) == tf.TensorShape(
            shape
        )
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"a gradient of shape {tuple(gradient.shape)} for a parameter of shape {tuple(shape)}"
        )
    return tf.broadcast_to(gradient, shape)


def _scalar(term):
    return tf.cast(tf.identity(term), tf.float64)
