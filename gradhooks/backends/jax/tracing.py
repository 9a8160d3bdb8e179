"""The trace that is being made: its equations so far, and derivatives taken in the middle of it.

A check differentiates while it traces: with respect to parameters, and to what layers
hand on. JAX differentiates functions, and not what has been traced. So the equations
that depend on the values are evaluated once more, as a function of them, and that is
differentiated; the rules of `custom_vjp` and `custom_jvp` are in the equations.
"""

import contextlib
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import core
from jax.extend.core import Literal

from gradhooks.backends.jax.equations import bind, is_variable

_local = threading.local()


@contextlib.contextmanager
def note_trace():
    """Notes, at the beginning of a traced function, that its trace is the outermost one."""
    before = getattr(_local, "trace", None)
    _local.trace = core.trace_ctx.trace
    try:
        yield
    finally:
        _local.trace = before


def is_outermost(value):
    """Whether a value belongs to the outermost trace that is being made."""
    trace = getattr(_local, "trace", None)
    return trace is not None and getattr(value, "_trace", None) is trace


def differentiate(target, values):
    """Differentiates a scalar of the trace that is being made.

    Args:
        target: The scalar.
        values: Arrays of the trace: its arguments, and others that may depend on them.

    Returns:
        A list with the gradient for each of the values; None where none comes.
    """
    if not is_outermost(target):
        return [None] * len(values)
    own = [value for value in values if is_outermost(value)]
    equations, moving = _find_moving(_local.trace, {value.val for value in own})
    if target.val not in moving:
        return [None] * len(values)
    computed = {variable for equation in equations for variable in equation.outvars}
    # What depends on other values is computed, and a zero is added: its gradient is that there.
    starts = []
    for value in own:
        starts.append(jnp.zeros_like(value) if value.val in computed else value)

    def evaluate(*arguments):
        given = {value.val: a for value, a in zip(own, arguments, strict=True)}
        known = {v: a for v, a in given.items() if v not in computed}
        for equation in equations:
            operands = [_read(known, operand) for operand in equation.invars]
            for variable, result in zip(equation.outvars, bind(equation, operands), strict=True):
                known[variable] = result + given[variable] if variable in given else result
        return known[target.val]

    primal, pull = jax.vjp(evaluate, *starts)
    found = dict(zip(map(id, own), pull(jnp.ones_like(primal)), strict=True))
    gradients = [found.get(id(value)) for value in values]
    return [None if g is None or _is_zero(g) else g for g in gradients]


def differentiate_scaled(target, factor, tensors):
    """Differentiates `factor * target`; returns arrays, or None."""
    return differentiate(target * jnp.asarray(factor).astype(target.dtype), tensors)


class Tape:
    """Differentiates as the trace does: there is no other way.

    Attributes:
        remarks: An empty list.
    """

    def __init__(self):
        self.remarks = []

    @contextlib.contextmanager
    def record(self, values):
        """Yields `differentiate`."""
        yield differentiate


def _find_moving(trace, moved):
    """Returns the equations of a trace that depend on variables, and what they compute."""
    equations, moving = [], set(moved)
    for held in trace.frame.tracing_eqns:
        equation = held() if isinstance(held, weakref.ReferenceType) else held
        if equation is not None and any(_variable_of(o) in moving for o in equation.invars):
            equations.append(equation)
            moving.update(equation.outvars)
    return equations, moving


def _variable_of(operand):
    """Returns the variable behind an operand: the trace holds arrays, not yet variables."""
    atom = getattr(operand, "val", operand)
    return atom if is_variable(atom) else None


def _read(known, operand):
    return known.get(_variable_of(operand), operand)


def _is_zero(gradient):
    """Whether a gradient is the zero that stands for none."""
    if not isinstance(gradient, core.Tracer):
        return not np.any(np.asarray(gradient))
    made = gradient.parent
    if made is None or made.primitive.name not in ("broadcast_in_dim", "convert_element_type"):
        return False
    source = getattr(made.invars[0], "val", made.invars[0])
    return isinstance(source, Literal) and not np.any(source.val)
