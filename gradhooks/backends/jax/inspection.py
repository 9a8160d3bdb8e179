"""What a trace does: where it acts on the world, calls Python, loses digits or moves in steps."""

import jax.numpy as jnp
import numpy as np

from gradhooks.backends.jax.equations import (
    all_equations,
    calls_python,
    inner_jaxprs,
    is_variable,
    place_of,
)

_NARROW = ("float16", "bfloat16", "float32", "complex64")
_WIDE = ("float64", "complex128")
_ROUNDING = ("round", "floor", "ceil", "sign", "argmax", "argmin", "reduce_precision")
# Operations of which one operand says which entries of another are taken: its number.
_LOOKUPS = {"gather": 1, "dynamic_slice": 1}
# The first operand of these chooses between the others.
_CHOOSING = ("select_n",)


def find_writes(graph):
    """Returns the names of operations that would change state outside the trace."""
    effects = [str(effect) for effect in graph.jaxpr.effects]
    return tuple(effect for effect in effects if "debug" not in effect.lower())


def find_nondeterministic_operations(graph):
    """Returns pairs (scope, `"random"` or `"python"`) of what may differ in each evaluation."""
    found = {}
    for equation, place in all_equations(graph.jaxpr.jaxpr):
        if calls_python(equation):
            found[place, "python"] = None
        elif equation.primitive.name == "rng_uniform":
            found[place, "random"] = None
    return tuple(found)


def find_narrow_operations(graph, forward):
    """Returns the names of operations that take double precision and return less."""
    found = {}
    for equation in forward.moving_equations():
        place = place_of(equation)
        _note_narrow(equation, place, found)
        for inner in inner_jaxprs(equation):
            for each, inner_place in all_equations(inner, place):
                _note_narrow(each, inner_place, found)
    return tuple(found)


def _note_narrow(equation, place, found):
    if next(inner_jaxprs(equation), None) is not None:
        return
    takes_wide = any(_dtype(atom) in _WIDE for atom in equation.invars)
    if takes_wide and any(_dtype(variable) in _NARROW for variable in equation.outvars):
        found["/".join(part for part in (place, equation.primitive.name) if part)] = None


def find_step_operations(graph, forward):
    """Finds operations through which the loss depends on variables in steps.

    Returns:
        Tuple of names, those of the operations nearest to the loss first.
    """
    moving = {v for e in forward.moving_equations() for v in e.outvars} | set(forward.roots)
    wanted = {atom for atom in forward.outputs if is_variable(atom)}
    found = {}
    for equation in reversed(forward.equations):
        is_wanted = any(variable in wanted for variable in equation.outvars)
        if not is_wanted or not any(a in moving for a in equation.invars if is_variable(a)):
            continue
        if _moves_in_steps(equation, moving):
            place = place_of(equation)
            found["/".join(part for part in (place, equation.primitive.name) if part)] = None
        wanted.update(atom for atom in _value_operands(equation) if is_variable(atom))
    return tuple(found)


def _moves_in_steps(equation, moving):
    """Whether the result of an equation is piecewise constant in operands that move."""
    name = equation.primitive.name
    if name == "convert_element_type":
        source, target = equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype
        loses_fraction = _is_float(source) and not _is_float(target)
        return loses_fraction or (source == np.bool_ and target != np.bool_)
    if name in _LOOKUPS:
        chooser = equation.invars[_LOOKUPS[name] :]
        return any(is_variable(atom) and atom in moving for atom in chooser)
    if name in _ROUNDING:
        return True
    inner = [e for jaxpr in inner_jaxprs(equation) for e, _ in all_equations(jaxpr)]
    if name in ("scan", "while", "cond"):
        return any(e.primitive.name == "round" for e in inner)
    return any(e.primitive.name in ("round", "floor", "ceil", "sign") for e in inner)


def _value_operands(equation):
    """Returns the operands whose values enter the result, and not only a choice."""
    name = equation.primitive.name
    operands = list(equation.invars)
    if name in _CHOOSING:
        return operands[1:]
    if name in _LOOKUPS:
        return operands[: _LOOKUPS[name]]
    if name == "convert_element_type":
        return operands
    if any(_is_float(v.aval.dtype) for v in equation.outvars if hasattr(v.aval, "dtype")):
        if next(inner_jaxprs(equation), None) is not None:
            return operands
        return [a for a in operands if _is_float(a.aval.dtype)]
    return [a for a in operands if a.aval.dtype != np.bool_]


def _dtype(atom):
    return str(getattr(atom.aval, "dtype", ""))


def _is_float(dtype):
    return jnp.issubdtype(dtype, jnp.inexact)
