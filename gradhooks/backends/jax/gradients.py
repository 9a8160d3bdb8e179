"""The gradient of the loss, compiled from the trace that also gives the losses at other points."""

import jax
import jax.numpy as jnp
import keras
import numpy as np

from gradhooks.backends.common.flat import Cache, split
from gradhooks.backends.jax.equations import all_equations, calls_python, drop_debugging, evaluate
from gradhooks.backends.jax.forward import ForwardEquations
from gradhooks.backends.jax.precision import wide
from gradhooks.backends.jax.tensors import (
    fill_missing_gradients,
    flatten,
    specify,
    specify_float64,
)
from gradhooks.backends.jax.tracing import note_trace


def compile_fast(lowered):
    """Compiles what is evaluated a few times; on a CPU with fewer optimizations."""
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return lowered.compile(compiler_options=options)


class GradientProgram:
    """The gradient of the loss terms by automatic differentiation, as flat vectors.

    Args:
        differentiate_terms: Function `(values, state, batch) -> (terms,
            gradients)`: three scalars, and for each term that is
            differentiated one array, or None, for each of `values`.
        shapes: Shape of each variable.
        state: The arrays that `differentiate_terms` gets as `state`; only
            their specifications matter here.
        batch: The nested arrays that it gets as `batch`, likewise.

    Attributes:
        connected: bool, shape (V,): whether the total loss has a gradient with
            respect to each variable.
        terms: How many terms of the loss are differentiated.
        graph: The program itself, whose `jaxpr` is the trace.
        jaxpr: The closed jaxpr of the trace.
        forward: The `ForwardEquations` from the variables to the loss terms.
        calls_python: Whether an evaluation runs Python code of the user's.
        cache: What is kept for the point of the last call.
    """

    def __init__(self, differentiate_terms, shapes, state, batch):
        self.connected, self.terms = None, 0
        self.shapes = shapes
        self.cache = Cache()

        def gradients(values, state, batch):
            with note_trace():
                terms, per_term = differentiate_terms(values, state, batch)
                self.connected = np.array([g is not None for g in per_term[0]], bool)
                self.terms = len(per_term)
                # The terms are returned as well, so that an operation that cannot run fails in
                # the first call.
                terms = [jnp.asarray(term).astype("float64") for term in terms]
                return terms, [fill_missing_gradients(gradient, shapes) for gradient in per_term]

        arguments = specify_float64(shapes), specify(state), specify(batch)
        with wide():
            self.jaxpr = jax.make_jaxpr(gradients)(*arguments)
        self.graph, jaxpr = self, self.jaxpr.jaxpr
        self.equations = drop_debugging(jaxpr.eqns)
        self.calls_python = any(calls_python(equation) for equation, _ in all_equations(jaxpr))
        outputs = jaxpr.outvars[: len(jaxpr.outvars) - self.terms * len(shapes)]
        self.forward = ForwardEquations(self.equations, outputs, jaxpr.invars[: len(shapes)])
        self._compiled = None

    def __call__(self, point, state, batch):
        """Returns one float64 array of shape (P,) for each term that is differentiated."""
        return self.evaluate(point, state, batch)[1]

    def evaluate(self, point, state, batch):
        """Returns the loss terms, a tuple of floats, and what calling the program returns."""
        with wide():
            arguments = self.bind_inputs(self.split(point), state, batch)
            if self._compiled is None:
                wanted = self.jaxpr.jaxpr.outvars
                self._compiled = self.compile(self.equations, arguments, wanted)
            results = self._compiled(arguments)
        count = len(self.forward.outputs)
        gradients = []
        for term in range(self.terms):
            first = count + term * len(self.shapes)
            gradients.append(flatten(results[first : first + len(self.shapes)]))
        return tuple(float(term) for term in results[:count]), tuple(gradients)

    def compile(self, equations, arguments, wanted):
        """Returns a compiled function from a dict of inputs to the values of what is wanted.

        Args:
            equations: Equations in order.
            arguments: dict from variables to arrays, as `bind_inputs` returns it.
            wanted: Variables or numbers.
        """
        variables = list(arguments)

        def compute(values):
            return evaluate(equations, dict(zip(variables, values, strict=True)), wanted)

        lowered = jax.jit(compute).lower(list(arguments.values()))
        compiled = compile_fast(lowered)
        return lambda arguments: compiled(list(arguments.values()))

    def bind_inputs(self, values, state, batch):
        """Returns a dict from the variables that the trace takes from outside to arrays."""
        jaxpr, constants = self.jaxpr.jaxpr, self.jaxpr.consts
        arguments = [*values, *state, *jax.tree.leaves(batch)]
        bound = dict(zip(jaxpr.invars, arguments, strict=True))
        return bound | dict(zip(jaxpr.constvars, constants, strict=True))

    def split(self, point):
        """Returns a point, shape (P,), as one array for each variable."""

        def compute():
            return [jnp.asarray(part) for part in split(np.array(point), self.shapes)]

        return self.cache.get(point, "values", compute)

    def captured_ids(self):
        """Returns the ids of the arrays that the trace takes from outside beside its arguments."""
        return {id(constant) for constant in self.jaxpr.consts}

    def own_variables(self, candidates):
        """Returns the trainable Keras variables that the trace reads itself.

        Args:
            candidates: Objects, among them variables that it may read.

        Returns:
            List of (variable, name, number of entries), of floats and complex
            numbers only.
        """
        captured, own = self.captured_ids(), {}
        for variable in candidates:
            is_read = isinstance(variable, keras.Variable) and id(variable._value) in captured
            if is_read and variable.trainable:
                own[id(variable)] = variable, variable.path, int(np.prod(variable.shape))
        return list(own.values())

    def are_outermost(self, tensors):
        """Returns whether arrays belong to the trace itself, and not to a loop in it."""
        known = {*self.jaxpr.jaxpr.invars}
        known.update(variable for e in self.jaxpr.jaxpr.eqns for variable in e.outvars)
        return all(tensor.val in known for tensor in tensors)
