"""A train step on JAX: a function of the state, run with values of its own."""

import contextlib

import jax
import jax.numpy as jnp
import keras
import numpy as np

from gradhooks.backends.jax.precision import open_training
from gradhooks.isolation import threads


class CompiledStep:
    """A train step as one compiled function of the values of all variables.

    Args:
        function: Function `batch -> (nested arrays, *anything else)`.
        batch: Nested arrays.
        variables: The Keras variables that the step may lead to.
        is_xla: Whether training compiles it; otherwise it runs as it stands.
        functions: Context in which functions of the user's keep no trace.
        shadows: Empty: no variable has copies.

    Attributes:
        calls_python: Whether running it runs Python code of the user's.
    """

    def __init__(self, function, batch, variables, is_xla, functions, shadows=()):
        del shadows
        self._function, self._variables = function, list(variables)
        self._functions, self._others = functions, []
        self._run = self._call
        self.calls_python = not is_xla
        if is_xla:
            with functions, open_training():
                self._run = jax.jit(self._call).lower(self._values(), batch).compile()

    def _call(self, values, batch):
        with _seeing(self._variables, values):
            tensors, *self._others = self._function(batch)
        return tensors

    def _values(self, moved=()):
        """Returns the values of the variables: the present ones, or others."""
        others = {id(variable): value for variable, value in moved}
        values = []
        for variable in self._variables:
            value = others.get(id(variable), variable._value)
            values.append(jnp.asarray(np.array(value), variable._value.dtype))
        return values

    def __call__(self, batch, moved):
        """Runs the step and returns what `function` returned, with fresh arrays.

        Args:
            batch: Nested arrays.
            moved: Pairs (variable, array): values to take in place of the present ones.
        """
        values = self._values(moved)
        if not self.calls_python:
            return self._run(values, batch), *self._others
        with self._functions, open_training():
            return self._run(values, batch), *self._others


class EagerStep:
    """A train step that runs as it stands, while its thread sees copies of all variables.

    Args:
        variables: The Keras variables that the step may write to.
    """

    def __init__(self, variables):
        self._variables = list(variables)

    def __call__(self, function, batch, moved, functions):
        """Returns `function(batch)`; for the other arguments see `CompiledStep`."""
        step = CompiledStep(function, batch, self._variables, False, functions)
        return step(batch, moved)


@contextlib.contextmanager
def _seeing(variables, values):
    """While open, the checking thread sees other values of variables, and writes to these."""
    with threads.open_patcher() as patch:
        for variable, value in zip(variables, values, strict=True):
            patch(variable, "_value", value)
        yield


def run_train_step(model, batch):
    """Returns the logs of a model's `train_step`, run at the values that its variables have."""
    variables = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([variable.value for variable in group] for group in variables)
    logs, _ = model.train_step(state, batch)
    return logs


def storage_of(variable):
    """Returns a variable itself: its value is an array, which is replaced and never written to."""
    return variable


def is_variable(value):
    """Whether a value is a Keras variable that has a value."""
    return isinstance(value, keras.Variable) and value._value is not None


def copy_storage(storage, is_trainable):
    """Returns a new variable with the value of another."""
    return keras.Variable(storage, trainable=is_trainable, dtype=storage.dtype)


def generator_state(value):
    """Returns None: JAX has no generators with a state."""
    return


def divide_gradient(gradient, factor):
    """Returns a gradient divided by a number."""
    return gradient / jnp.asarray(factor).astype(gradient.dtype)


def sum_gradients(gradients, shape, is_complex=False):
    """Returns the sum of gradients as one array of floats; zeros if there are none.

    Args:
        gradients: Arrays.
        shape: Shape of the sum. For a complex variable its last axis holds the
            real and the imaginary part.
        is_complex: Whether the variable is complex.

    Raises:
        ValueError: For a gradient that does not fit the shape.
    """
    total = jnp.zeros(shape)
    for gradient in gradients:
        if hasattr(gradient, "todense"):
            gradient = gradient.todense()
        if is_complex:
            gradient = jnp.stack([jnp.real(gradient), jnp.imag(gradient)], axis=-1)
        total = total + jnp.broadcast_to(gradient, shape)
    return total


def select_scalars(values):
    """Returns those of some values that are real scalars."""
    scalars = []
    for value in values:
        if isinstance(value, (jax.Array, float, int, np.number)):
            array = jnp.asarray(value)
            is_real = not jnp.issubdtype(array.dtype, jnp.complexfloating)
            if is_real and array.dtype != np.bool_ and array.ndim == 0:
                scalars.append(array)
    return scalars


def handle_id(variable):
    """Returns the id by which a trace knows a Keras variable: that of its array."""
    return id(variable._value)


def handle_ids(variable):
    """Returns the same as a set."""
    return {id(variable._value)}


def find_written_handles(function):
    """Returns an empty list: the step that `fit` compiled takes all variables as arguments."""
    return []


def make_stand_in(tensor, variable):
    """Returns an array itself: on JAX it is what a variable's value is."""
    return tensor
