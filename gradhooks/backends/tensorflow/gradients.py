"""The gradient of the loss, compiled from the trace that also gives the losses at other points.

Nothing here knows Keras models: `differentiate_terms` is a function from values of
variables to scalars and their gradients. All that varies is an argument of the
graph, so that one trace serves every later check.
"""

import contextlib
import math

import numpy as np
import tensorflow as tf

from gradhooks.backends.common.flat import Cache
from gradhooks.backends.common.memory import TRIM_ABOVE, trim_memory
from gradhooks.backends.tensorflow.execution import run, specify
from gradhooks.backends.tensorflow.functions import inline_functions, trace
from gradhooks.backends.tensorflow.graphs import calls_python
from gradhooks.backends.tensorflow.parameters import (
    fill_missing_gradients,
    flatten,
    specify_float64,
    split_cached,
)
from gradhooks.backends.tensorflow.subgraphs import ForwardGraph
from gradhooks.backends.tensorflow.tensors import is_plain


class GradientProgram:
    """The gradient of the loss terms by automatic differentiation, as flat vectors.

    Args:
        differentiate_terms: Function `(values, state, batch) -> (terms,
            gradients)`: three scalars, and for each term that is
            differentiated one tensor, or None, for each of `values`.
        shapes: Shape of each variable.
        state: The tensors that `differentiate_terms` gets as `state`; only
            their specifications matter here.
        batch: The nested tensors that it gets as `batch`, likewise.
        trim_above: Number of parameters above which freed memory is returned
            to the system, see `memory.trim_memory`.

    Attributes:
        connected: bool, shape (V,): whether the total loss has a gradient with
            respect to each variable.
        terms: How many terms of the loss are differentiated.
        graph: The `FuncGraph` of the trace.
        forward: The `ForwardGraph` from the variables to the loss terms.
        calls_python: Whether an evaluation runs Python code of the user's.
        cache: What is kept for the point of the last call.
    """

    def __init__(
        self,
        differentiate_terms,
        shapes,
        state,
        batch,
        *,
        trim_above=TRIM_ABOVE,
    ):
        self.connected, self.terms = None, 0
        self.shapes = shapes
        self._trim_above = trim_above
        size = sum(math.prod(shape) for shape in shapes)
        self.cache = Cache(lambda: trim_memory(size, trim_above))
        terms_and_values = []

        # Values come and gradients leave one by one: end to end, they would be held twice.
        @tf.function(autograph=False)
        def gradients(values, state, batch):
            terms, per_term = differentiate_terms(values, state, batch)
            self.connected = np.array([g is not None for g in per_term[0]])
            self.terms = len(per_term)
            terms = [tf.cast(tf.identity(term), tf.float64) for term in terms]
            terms_and_values[:] = terms, values
            # The terms are returned as well, so that an operation that cannot run fails in the
            # first call.
            return [fill_missing_gradients(gradient, shapes) for gradient in per_term], terms

        with inline_functions():
            self._function = trace(
                gradients,
                specify_float64(shapes),
                specify(state),
                specify(batch),
            )
        self.graph = self._function.graph
        self.calls_python = calls_python(self.graph)
        self.forward = ForwardGraph(self.graph, *terms_and_values)

    def __call__(self, point, state, batch):
        """Returns one float64 array of shape (P,) for each term that is differentiated."""
        return self.evaluate(point, state, batch)[1]

    def evaluate(self, point, state, batch):
        """Returns the loss terms, a tuple of floats, and what calling the program returns."""
        per_term, terms = run(self._function, self.split(point), state, batch)
        trim_memory(len(point), self._trim_above)
        gradients = tuple(flatten(gradient) for gradient in per_term)
        return tuple(float(term) for term in terms), gradients

    def captured_ids(self):
        """Returns the ids of the tensors that the graph takes from outside beside its arguments."""
        return {id(external) for external, _ in self.graph.captures}

    def are_outermost(self, tensors):
        """Returns whether tensors belong to the trace itself, and not to a loop in it."""
        return all(tensor.graph is self.graph for tensor in tensors)

    def own_variables(self, candidates):
        """Returns the trainable variables that the graph reads itself, not as its arguments.

        Args:
            candidates: Not used: a graph knows its variables.

        Returns:
            List of (variable, name, number of entries), of floats and complex
            numbers only.
        """
        del candidates
        captured = self.captured_ids()
        own = []
        for variable in self.graph.variables:
            if not (is_plain(variable) and variable.trainable and id(variable.handle) in captured):
                continue
            if variable.dtype.is_floating or variable.dtype.is_complex:
                name = variable.name.partition(":")[0]
                own.append((variable, name, variable.shape.num_elements() or 0))
        return own

    def split(self, point):
        """Returns a point, shape (P,), as one tensor for each variable."""
        return split_cached(self.cache, point, self.shapes)

    def bind_inputs(self, arguments):
        """Returns tensors of the default graph by the names of the inputs that they stand for.

        Args:
            arguments: Nested tensors, as the graph was traced with.
        """
        tensors = tf.nest.flatten(arguments)
        for external, _ in self.graph.captures:
            tensors.append(capture(external))
        names = [tensor.name for tensor in self.graph.inputs]
        return dict(zip(names, tensors, strict=True))


def capture(tensor):
    """Returns a tensor as the default graph sees it."""
    return tf.compat.v1.get_default_graph().capture(tensor)


def differentiate(target, values):
    """Differentiates a scalar of the graph being traced; returns a tensor or None for each value.

    By the graph and not by a tape: several terms would take a persistent tape,
    and beside a tape TensorFlow compiles every loop for derivatives of higher
    order, which takes several times as long to trace.
    """
    return tf.gradients(target, values)


class Tape:
    """Differentiates by a tape, which takes gradients as custom gradients return them.

    `tf.gradients` refuses those whose shapes are not those of the values.

    Attributes:
        remarks: List of what `tf.gradients` would have refused, a clause each.
    """

    def __init__(self):
        self.remarks = []

    @contextlib.contextmanager
    def record(self, values):
        """Records operations while open; yields a function like `differentiate`."""
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(values)

            def differentiate_recorded(target, values):
                with tape.stop_recording():
                    gradients = tape.gradient(target, values)
                return [self._fit(g, v) for g, v in zip(gradients, values, strict=True)]

            yield differentiate_recorded

    def _fit(self, gradient, value):
        """Returns a gradient in the shape of its value, and remarks on one that had another."""
        if gradient is None or gradient.shape == value.shape:
            return gradient
        remark = f"{_describe_shapes(gradient, value.shape)} is broadcast"
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
    shape = tf.TensorShape(shape)
    try:
        fits = tf.broadcast_static_shape(gradient.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(_describe_shapes(gradient, shape))
    return tf.broadcast_to(gradient, shape)


def _describe_shapes(gradient, shape):
    return f"a gradient of shape {tuple(gradient.shape)} for a parameter of shape {tuple(shape)}"
