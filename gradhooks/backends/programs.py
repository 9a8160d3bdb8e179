"""What a backend compiles, and what it is given to know about draws, as protocols."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gradhooks._types import Vector
from gradhooks.backends.common.memory import Needs

# An array of the framework, on the device or in a trace.
Tensor: TypeAlias = Any
# Tensors in tuples, lists and dictionaries.
Nested: TypeAlias = Any
# The object of the framework that holds the value of a Keras variable.
Storage: TypeAlias = Any
# A context of the checking thread, which changes nothing for others.
Context: TypeAlias = AbstractContextManager[Any]


class Draws(Protocol):
    """Knows where a draw takes place, and at which dtype training would draw."""

    is_xla: bool
    turns: list[int]

    @property
    def is_fixed(self) -> bool:
        """Whether a draw is replaced by one that belongs to its place."""

    def place(self, operation: str) -> tuple[str, int]:
        """Returns the path of the layer that draws, and how often it has drawn before."""

    def dtype(self, requested: str) -> str:
        """Returns the dtype at which training draws where `requested` is requested."""

    def position(self) -> Any:
        """Returns what `rewind` takes to draw the same numbers again."""

    def rewind(self, position: Any) -> None:
        """Goes back to an earlier position."""


class Program(Protocol):
    """The compiled loss terms with their gradients, from one trace.

    It gives the gradients itself. The losses at other points are compiled from
    it by `Backend.LossProgram`, see `Losses`.
    """

    # bool, shape (V,): whether the total loss has a gradient with respect to each variable.
    connected: NDArray[np.bool_]
    # Whether an evaluation runs Python code of the user's.
    calls_python: bool
    # The trace, and the part of it that leads to the loss: for the functions `find_...` alone.
    graph: Any
    forward: Any

    def __call__(
        self,
        point: Vector,
        state: Sequence[Tensor],
        batch: Nested,
    ) -> tuple[Vector, ...]:
        """Returns the gradient of each term that is differentiated, float64, shape (P,)."""

    def evaluate(
        self,
        point: Vector,
        state: Sequence[Tensor],
        batch: Nested,
    ) -> tuple[tuple[float, ...], tuple[Vector, ...]]:
        """Returns the loss terms, and what calling the program returns."""

    def captured_ids(self) -> set[int]:
        """Returns the ids of what the trace takes from outside beside its arguments."""

    def are_outermost(self, tensors: Sequence[Tensor]) -> bool:
        """Returns whether tensors belong to the trace itself, and not to a loop in it."""

    def own_variables(self, candidates: Sequence[Any]) -> list[tuple[Storage, str, int]]:
        """Returns (variable, name, number of entries) for what the trace reads itself.

        Trainable variables of floats and complex numbers only. `candidates` are all
        objects that the model leads to, for a trace that does not know its variables.
        """


class Losses(Protocol):
    """The compiled loss terms at many points along probes."""

    # The first variable of each group that shares evaluations, then the number of variables.
    bounds: Sequence[int]
    # What evaluations need of the memory, and whether they run one at a time.
    needs: Needs
    is_heavy: bool

    def __call__(
        self,
        point: Vector,
        state: Sequence[Tensor],
        batch: Nested,
        probes: Sequence[Any],
        pairs: Sequence[tuple[int, float]],
    ) -> NDArray[np.float64]:
        """Returns float64, shape (K, 3), for K pairs (number of the probe, offset along it)."""


class Recorder(Protocol):
    """A train step that can be run without writing to the model.

    Raises `RecordingError` when it is made, if the step writes to what cannot
    be copied.
    """

    # Whether running it runs Python code of the user's.
    calls_python: bool

    def __call__(
        self,
        batch: Nested,
        moved: Sequence[tuple[Storage, Tensor]],
    ) -> tuple[Any, ...]:
        """Returns what the step returned, with fresh tensors.

        Args:
            batch: Nested tensors.
            moved: Pairs (storage of a variable, value to take in place of the present one).
        """


class EagerRecorder(Protocol):
    """A train step that is run as it stands, while its thread sees copies of all variables."""

    def __call__(
        self,
        function: Callable[[Nested], Any],
        batch: Nested,
        moved: Sequence[tuple[Storage, Tensor]],
        functions: Context,
    ) -> Any:
        """Returns `function(batch)`."""


class Tape(Protocol):
    """Differentiates where the graph refuses to."""

    # What the graph would have refused, a clause each.
    remarks: list[str]

    def record(self, values: Sequence[Tensor]) -> AbstractContextManager[Callable[..., Any]]:
        """Records operations while open; yields a function like `Backend.differentiate`."""
