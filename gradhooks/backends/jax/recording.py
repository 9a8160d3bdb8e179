"""A train step on JAX: a function of the state, run with values of its own."""

import contextlib

import jax
import jax.numpy as jnp
import keras
import numpy as np

from gradhooks.backends.jax.equations import all_equations, calls_python
from gradhooks.backends.jax.gradients import compile_fast
from gradhooks.backends.jax.precision import open_training
from gradhooks.backends.jax.tensors import to_host
from gradhooks.isolation import threads


class CompiledStep:
    """A train step as one compiled function of the values of all variables.

    Args:
        function: Function `batch -> (nested arrays, *anything else)`.
        batch: Nested arrays.
        variables: The Keras variables that the step may lead to.
        is_xla: Not used: a step that training does not compile is run by `EagerStep`.
        functions: Context in which functions of the user's keep no trace.
        shadows: Empty: no variable has copies.

    Attributes:
        calls_python: Whether running it runs Python code of the user's.
    """

    def __init__(self, function, batch, variables, is_xla, functions, shadows=()):
        del is_xla, shadows
        self._variables, self._others = list(variables), []

        def step(values, batch):
            with _seeing(self._variables, values):
                tensors, *self._others = function(batch)
            return tensors

        with functions, open_training():
            arguments = _values_of(self._variables, ()), _as_in_training(batch)
            traced = jax.jit(step).trace(*arguments)
            self._compiled = compile_fast(traced.lower())
        equations = all_equations(traced.jaxpr.jaxpr)
        self.calls_python = any(calls_python(equation) for equation, _ in equations)

    def __call__(self, batch, moved):
        """Runs the step and returns what `function` returned, with fresh arrays.

        Args:
            batch: Nested arrays.
            moved: Pairs (variable, array): values to take in place of the present ones.
        """
        values = _values_of(self._variables, moved)
        return self._compiled(values, _as_in_training(batch)), *self._others


class EagerStep:
    """A train step that runs as it stands, while its thread sees copies of all variables.

    Args:
        variables: The Keras variables that the step may write to.
    """

    def __init__(self, variables):
        self._variables = list(variables)

    def __call__(self, function, batch, moved, functions):
        """Returns `function(batch)`; for the other arguments see `CompiledStep`."""
        values = _values_of(self._variables, moved)
        with _seeing(self._variables, values), functions, open_training():
            return function(_as_in_training(batch))


def _as_in_training(batch):
    """Returns nested arrays at the dtypes that training makes of them: 32 bits without x64."""
    return jax.tree.map(lambda array: jnp.asarray(np.array(array)), batch)


def _values_of(variables, moved):
    """Returns copies of the values of variables: the present ones, or others."""
    others = {id(variable): value for variable, value in moved}
    values = []
    for variable in variables:
        value = others.get(id(variable), variable._value)
        values.append(jnp.asarray(to_host(value), variable._value.dtype))
    return values


@contextlib.contextmanager
def _seeing(variables, values):
    """While open, the checking thread sees other values of variables, and writes to these."""
    with threads.open_patcher() as patch:
        for variable, value in zip(variables, values, strict=True):
            patch(variable, "_value", value)
        yield


def runs_eagerly(model):
    """Whether training runs the model's code in each step: without jit, too."""
    is_compiled = getattr(model, "compiled", False) and model.jit_compile
    return bool(getattr(model, "run_eagerly", False)) or not is_compiled


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
