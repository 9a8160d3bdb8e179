"""The equations that lead from the parameters to the loss, and how they depend on them."""

import math

import numpy as np

from gradhooks.backends.jax.equations import (
    inner_jaxprs,
    is_repeatable,
    is_variable,
    select_needed,
)

# The work of a loop or branch whose length is not known, in multiplications. A free choice: more
# than any operation beside it.
_UNKNOWN = 1e9


class ForwardEquations:
    """The equations that lead to the loss terms.

    Args:
        equations: The equations of the whole trace, in order.
        outputs: The loss terms: variables, or numbers.
        roots: The variables that hold the parameters, one for each variable of the model.

    Attributes:
        equations: The equations in order.
        bytes: Size of all that one evaluation computes.
    """

    def __init__(self, equations, outputs, roots):
        self.outputs, self.roots = list(outputs), list(roots)
        self.equations = select_needed(equations, self.outputs)
        self._bits = {root: 1 << number for number, root in enumerate(self.roots)}
        every = (1 << len(self.roots)) - 1
        for equation in self.equations:
            # What may give another result each time is computed in every evaluation, so that a
            # loss that cannot be repeated is detected.
            own = self.bits_of(equation.invars) if is_repeatable(equation) else every
            self._bits.update(dict.fromkeys(equation.outvars, own))
        self._dependence = self._unpack([self.bits_of(e.outvars) for e in self.equations])
        self._work = np.array([_work_of(equation) for equation in self.equations])
        results = [variable.aval for e in self.equations for variable in e.outvars]
        self.bytes = sum(_count(aval) * aval.dtype.itemsize for aval in results)

    def bits_of(self, atoms):
        """Returns an integer with a bit for each parameter on which one of some atoms depends."""
        bits = 0
        for atom in atoms:
            if is_variable(atom):
                bits |= self._bits.get(atom, 0)
        return bits

    def dependence_of(self, atoms):
        """Returns on which variables atoms depend, taken together: bool, shape (V,)."""
        return self._unpack([self.bits_of(atoms)])[0]

    def _unpack(self, rows):
        count = len(self.roots)
        width = max(1, -(-count // 8))
        packed = b"".join(bits.to_bytes(width, "little") for bits in rows)
        table = np.frombuffer(packed, np.uint8).reshape(len(rows), width)
        return np.unpackbits(table, axis=1, bitorder="little")[:, :count].astype(bool)

    def moving_equations(self):
        """Returns the equations that depend on any variable."""
        moves = self._dependence.any(1)
        return [e for e, is_moving in zip(self.equations, moves, strict=True) if is_moving]

    def find_reaching(self, output, closed=frozenset()):
        """Returns the variables that lead to an output: a set.

        Args:
            output: A variable or number.
            closed: Variables that no way may pass.
        """
        reaching = {output} - set(closed) if is_variable(output) else set()
        for equation in reversed(self.equations):
            if any(variable in reaching for variable in equation.outvars):
                reaching.update(a for a in equation.invars if is_variable(a) and a not in closed)
        return reaching

    def model_work(self, first):
        """Models the work of moving one parameter of the variables `first <= v < last`.

        Returns:
            float64, shape (V + 1,): for every `last`, in multiplications.
        """
        depends, count = self._dependence[:, first:], len(self.roots)
        # The first of the variables on which an equation depends; `count` where there is none.
        earliest = np.where(depends.any(1), depends.argmax(1), count)
        by_earliest = np.bincount(earliest, self._work, count + 1)
        return np.concatenate([np.zeros(first + 1), np.cumsum(by_earliest[: count - first])])


def _work_of(equation):
    """Models the work of an equation, in multiplications."""
    name = equation.primitive.name
    inner = list(inner_jaxprs(equation))
    if inner:
        work = sum(_work_of(e) for jaxpr in inner for e in jaxpr.eqns)
        if name == "scan":
            return work * equation.params["length"]
        return _UNKNOWN if name == "while" else work
    entries = sum(_count(variable.aval) for variable in equation.outvars)
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return entries * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        return entries * math.prod(kernel) / max(1, features)
    if name in ("reshape", "broadcast_in_dim", "squeeze", "copy"):
        return 0.0
    return float(entries)


def _count(aval):
    return math.prod(getattr(aval, "shape", ()))
