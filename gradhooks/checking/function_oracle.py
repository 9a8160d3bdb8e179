"""An oracle over plain NumPy functions: what a check sees of a model, without one."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gradhooks._types import Floats, Losses, Vector
from gradhooks.numerics.layout import Layout
from gradhooks.numerics.probe import Probe
from gradhooks.reports.circumstances import Precision

LossFunction = Callable[[Vector], float]
GradientFunction = Callable[[Vector], ArrayLike]


@dataclasses.dataclass(frozen=True)
class FunctionGradients:
    """The gradients that a `FunctionOracle` claims at one point.

    Args:
        terms: float64, shape (P,), keyed by term name.
    """

    terms: dict[str, Vector]


class FunctionOracle:
    """A loss and its claimed gradient, given as functions of the flat parameter vector.

    It satisfies `Oracle` and needs no framework, so that a check can be tried
    on any function whose derivatives are known. It has no training step, draws
    no random numbers and computes in float64.

    Args:
        function: `function(point) -> float`, the data loss; `point` is
            float64, shape (P,).
        gradient: `gradient(point) -> float64, shape (P,)`, the gradient that
            the check is to judge, right or wrong.
        point: float64, shape (P,). The present parameters.
        shapes: Shape of each variable, P entries in all. Defaults to one
            variable that holds everything.
        penalty: `(function, gradient)` of a regularization penalty. Defaults
            to None: the total is then the only term.
        level: Level of precision that the oracle claims: `"float64"`,
            `"partial"` or `"model"`.
        narrow_operations: Names of operations that it claims compute in a
            lower precision.
        paths: Path of each variable. Defaults to `v0`, `v1`, ...
        has_gradient_elsewhere: Whether `gradient` may be asked at points other
            than `point`; False for a gradient that was computed before.

    Attributes:
        evaluations: Number of losses evaluated so far.
        gradient_evaluations: Number of gradients evaluated so far.

    Raises:
        ValueError: If the shapes do not hold exactly P entries.

    Example:

    >>> import numpy as np
    >>> from gradhooks.checking import run
    >>> from gradhooks.checking.settings import Settings
    >>> oracle = FunctionOracle(lambda p: float(p @ p), lambda p: 3 * p, np.arange(1.0, 7.0))
    >>> report = run.check(oracle, Settings(samples=4))
    >>> report.verdict, report.failures[0].path
    (<Verdict.FAIL: 'fail'>, 'v0')
    """

    #: No training step is recorded, so the dtype of training is never measured.
    training_dtype: str = "float32"
    batch_size: int | None = None
    replicas: int = 1
    calls_python: bool = False
    bypassed: tuple[int, ...] = ()
    #: An evaluation of a function is cheap, so that each parameter is measured by itself.
    pooling_groups: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        function: LossFunction,
        gradient: GradientFunction,
        point: ArrayLike,
        shapes: Sequence[Sequence[int]] | None = None,
        penalty: tuple[LossFunction, GradientFunction] | None = None,
        level: str = "float64",
        narrow_operations: Sequence[str] = (),
        paths: Sequence[str] | None = None,
        has_gradient_elsewhere: bool = True,
    ) -> None:
        self._point = np.array(point, dtype=np.float64)
        size = len(self._point)
        given_shapes = [(size,)] if shapes is None else shapes
        variable_shapes = tuple(tuple(shape) for shape in given_shapes)
        held = sum(math.prod(shape) for shape in variable_shapes)
        if held != size:
            raise ValueError(
                "The shapes must hold the point. "
                f"Received: shapes={variable_shapes}, {held} entries. Expected {size} entries. "
                "Try shapes=None for one variable."
            )
        if paths is None:
            paths = [f"v{number}" for number in range(len(variable_shapes))]
        self.layout = Layout(tuple(paths), variable_shapes)
        self.has_gradient_elsewhere = has_gradient_elsewhere
        self.precision = Precision(level, narrow_operations=tuple(narrow_operations))
        self._parts = [(function, gradient)]
        self.term_names: tuple[str, ...] = ("total",)
        if penalty is not None:
            self._parts.append(penalty)
            self.term_names = ("total", "data", "penalty")
        self.evaluations = 0
        self.gradient_evaluations = 0
        self.gradient_noise: Floats | None = None
        self.known_noise: Any | None = None

    def point(self) -> Vector:
        """Returns a copy of the parameters: float64, shape (P,)."""
        return self._point.copy()

    def losses(
        self, point: Vector, probes: Sequence[Probe], pairs: Sequence[tuple[int, float]]
    ) -> Losses:
        """Returns float64, shape (len(pairs), T): one row per (number of the probe, offset)."""
        self.evaluations += len(pairs)
        rows = []
        for number, offset in pairs:
            moved = probes[number].move(point, offset)
            rows.append(_with_total([function(moved) for function, _ in self._parts]))
        return np.array(rows)

    def gradients(self, point: Vector) -> FunctionGradients:
        """Returns the claimed gradient of every term."""
        self.gradient_evaluations += 1
        parts = [np.asarray(gradient(point), dtype=np.float64) for _, gradient in self._parts]
        return FunctionGradients(dict(zip(self.term_names, _with_total(parts), strict=True)))

    def record(self, point: Vector | None = None, is_unscaled: bool = False) -> Any:
        """Returns None: there is no training step."""

    def watched(self, scale: float) -> Any:
        """Returns None: there are no layers to watch."""

    def tapped(self) -> None:
        """None: a function has no layers."""
        return None

    def source_of_step(self) -> None:
        """Returns None: there is no training step."""

    def first_jittering_layer(self, tolerance: float) -> str | None:
        """Returns None: there are no layers."""

    def is_steady(self, point: Vector, tolerance: float) -> bool:
        """Returns True: a function is not traced."""
        return True

    def draws_alike(self) -> bool:
        """Returns True: there is no training step that could draw differently."""
        return True

    def variant_gradient(self, names: Sequence[str], point: Vector) -> Any:
        """Returns None: a function has no variants."""

    def recompute_loss(
        self, point: Vector, traced_loss: float
    ) -> tuple[float, Sequence[str]] | None:
        """Returns None: a function is not traced."""

    def states(self) -> tuple[tuple[str, Floats], ...]:
        """Returns an empty tuple: there is no training step."""
        return ()

    def chance(self) -> tuple[tuple[str, str], ...]:
        """Returns an empty tuple: no operation of a function is known."""
        return ()


def _with_total(parts):
    """Puts the sum before its parts; a single part is the total itself."""
    return [sum(parts), *parts] if len(parts) > 1 else parts
