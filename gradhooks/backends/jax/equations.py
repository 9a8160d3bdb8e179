"""Equations of a jaxpr: which depend on what, and their evaluation with other values."""

import re

from jax._src import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

# What JAX makes of a name in a derivative: `transpose(jvp(dense))`.
_TRANSFORMED = re.compile(r"\b\w+\(([^()]*)\)")


def is_variable(atom):
    """Whether an operand is a variable, and no number."""
    return isinstance(atom, Var)


def inner_jaxprs(equation):
    """Yields the jaxprs that an equation calls: loops, branches, compiled functions."""
    for value in equation.params.values():
        for member in value if isinstance(value, (tuple, list)) else [value]:
            if isinstance(member, ClosedJaxpr):
                yield member.jaxpr
            elif isinstance(member, Jaxpr):
                yield member


def bind(equation, operands):
    """Evaluates one equation; returns a list with a value for each of its results."""
    parameters = equation.primitive.get_bind_params(equation.params)
    stack = source_info_util.current_name_stack() + equation.source_info.name_stack
    named = source_info_util.user_context(equation.source_info.traceback, name_stack=stack)
    with named, equation.ctx.manager:
        results = equation.primitive.bind(*operands, **parameters)
    return list(results) if equation.primitive.multiple_results else [results]


def evaluate(equations, known, wanted):
    """Evaluates equations in their order.

    Args:
        equations: The equations.
        known: dict from variables to values, for all that they take from outside.
        wanted: Variables or numbers.

    Returns:
        The values of what is wanted.
    """
    values = dict(known)

    def read(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in equations:
        results = bind(equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in wanted]


def select_needed(equations, wanted, given=frozenset()):
    """Returns the equations that lead to some variables, in their order.

    Args:
        equations: Equations in order.
        wanted: Variables or numbers.
        given: Variables whose values are known, and not computed.
    """
    needed = {atom for atom in wanted if is_variable(atom)} - set(given)
    kept = []
    for equation in reversed(equations):
        if any(variable in needed for variable in equation.outvars):
            kept.append(equation)
            needed.update(atom for atom in equation.invars if is_variable(atom))
            needed -= set(given)
    return kept[::-1]


def select_moving(equations, moved):
    """Selects the equations that some variables move, or that may differ each time.

    Returns:
        The equations in order, and the set of all variables that move.
    """
    selected, moving = [], set(moved)
    for equation in equations:
        is_moved = any(is_variable(atom) and atom in moving for atom in equation.invars)
        if is_moved or not is_repeatable(equation):
            selected.append(equation)
            moving.update(equation.outvars)
    return selected, moving


def is_repeatable(equation):
    """Whether an equation gives the same result each time."""
    if calls_python(equation) or equation.primitive.name == "rng_uniform":
        return False
    return all(is_repeatable(e) for jaxpr in inner_jaxprs(equation) for e in jaxpr.eqns)


def calls_python(equation):
    """Whether an evaluation of an equation runs Python code of the user's."""
    return equation.primitive.name in ("pure_callback", "io_callback")


def drop_debugging(equations):
    """Returns equations without those that only print or call for debugging."""
    return [e for e in equations if e.primitive.name not in ("debug_callback", "debug_print")]


def place_of(equation):
    """Returns the path of the layers in which an equation was made, of a derivative as well."""
    place = str(equation.source_info.name_stack)
    while (plain := _TRANSFORMED.sub(r"\1", place)) != place:
        place = plain
    return place


def all_equations(jaxpr, above=""):
    """Yields pairs (equation, name of its place), those of inner jaxprs as well."""
    for equation in jaxpr.eqns:
        place = "/".join(part for part in (above, place_of(equation)) if part)
        yield equation, place
        for inner in inner_jaxprs(equation):
            yield from all_equations(inner, place)
