"""What the Keras side asks of a backend, as protocols.

A backend is a package whose members are those of `Backend`. Where a member
takes or returns a tensor, an array of the framework is meant; nested tensors
are tensors in tuples, lists and dictionaries, as `keras.tree` knows them.
"""

# Members of `Backend` that are classes are named like classes.
# ruff: noqa: N802

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

from numpy.typing import ArrayLike, NDArray

from gradhooks.backends.programs import (
    Context,
    Draws,
    EagerRecorder,
    Losses,
    Nested,
    Program,
    Recorder,
    Storage,
    Tape,
    Tensor,
)

Shape: TypeAlias = tuple[int, ...]
# Maps values of the variables, state and batch to loss terms and, for each term that is
# differentiated, a gradient (or None) for each variable.
DifferentiateTerms: TypeAlias = Callable[
    [Sequence[Tensor], Sequence[Tensor], Nested],
    tuple[Sequence[Tensor], Sequence[Sequence[Tensor | None]]],
]


class Backend(Protocol):
    """The members of a backend, in groups."""

    # Tensors: to the device and back. A ragged tensor is several dense ones, and a complex number
    # a pair of real ones on a last axis of 2.

    def to_tensor(self, value: ArrayLike) -> Tensor:
        """Returns an array as a tensor of its own dtype."""

    def disassemble(self, value: Tensor) -> list[Tensor]:
        """Returns the dense parts of a tensor."""

    def reassemble(
        self,
        like: Tensor,
        parts: Iterator[Tensor],
    ) -> Tensor:
        """Returns a tensor made of the next parts."""

    def repeat_rows(
        self,
        value: Tensor,
        rows: int,
        count: int,
    ) -> Tensor:
        """Returns the first rows of a tensor, `count` times one behind the other."""

    def to_pairs(self, tensor: Tensor) -> Tensor:
        """Returns a complex tensor as pairs."""

    def from_pairs(
        self,
        tensor: Tensor,
        dtype: str,
    ) -> Tensor:
        """Returns floats at a dtype, pairs as complex numbers if the dtype is complex."""

    def snapshot(self, variables: Sequence[Any]) -> list[Tensor]:
        """Returns the present values of Keras variables."""

    def flatten(
        self,
        tensors: Sequence[Tensor],
        dtype: str = "float64",
    ) -> NDArray[Any]:
        """Copies tensors to the host, end to end."""

    def is_ragged(self, value: Any) -> bool:
        """Whether a value is a ragged tensor, or the specification of one."""

    def make_ragged(self, parts: Sequence[Any]) -> Any:
        """Returns the ragged tensor of such parts.

        Raises:
            ValueError: If they make none.
        """

    def is_constant(self, value: Any) -> bool:
        """Whether a value is a tensor that holds numbers."""

    def is_symbolic(self, value: Any) -> bool:
        """Whether a value is a tensor that belongs to a trace."""

    # The compiled loss and its gradients.

    def GradientProgram(
        self,
        differentiate_terms: DifferentiateTerms,
        shapes: Sequence[Shape],
        state: Sequence[Tensor],
        batch: Nested,
    ) -> Program:
        """Compiles the loss terms and their gradients from one trace."""

    def LossProgram(
        self,
        gradients: Program,
        state: Sequence[Tensor],
        batch: Nested,
        is_sharing: bool = True,
        strategy: Any = None,
        max_memory: int | None = None,
    ) -> Losses:
        """Compiles the loss terms at many points, from the same trace.

        Beyond `max_memory` bytes evaluations run one at a time.
        """

    def GraphPart(
        self,
        gradients: Program,
        state: Sequence[Tensor],
        batch: Nested,
        entries: Sequence[Tensor],
        exits: Sequence[Tensor],
    ) -> Callable[..., list[NDArray[Any]]]:
        """Compiles what leads from some tensors of the trace to others."""

    def Tape(self) -> Tape:
        """Makes a tape."""

    def differentiate(
        self,
        target: Tensor,
        values: Sequence[Tensor],
    ) -> list[Tensor | None]:
        """Differentiates a scalar of the trace being made."""

    def fill_missing_gradients(
        self,
        gradients: Sequence[Tensor | None],
        shapes: Sequence[Shape],
    ) -> list[Tensor]:
        """Returns gradients as dense float64 tensors, zeros for those that are None."""

    def make_stand_in(
        self,
        tensor: Tensor,
        variable: Any,
    ) -> Storage:
        """Returns a variable of the framework whose value is a tensor of the trace being made."""

    def evaluate(
        self,
        function: Callable[..., list[Tensor]],
        *arguments: Nested,
        times: int = 1,
        is_optimized: bool = False,
        is_xla: bool = False,
    ) -> list[list[NDArray[Any]]]:
        """Traces a function of tensors once and runs it; returns the values of each run."""

    # What a trace does. `graph` and `forward` are those of a `Program`.

    def find_writes(self, graph: Any) -> tuple[str, ...]:
        """Returns the names of operations that would change state outside the trace."""

    def find_nondeterministic_operations(self, graph: Any) -> tuple[tuple[str, str], ...]:
        """Returns pairs (scope, `"random"` or `"python"`)."""

    def find_narrow_operations(
        self,
        graph: Any,
        forward: Any,
    ) -> tuple[str, ...]:
        """Returns the names of operations that take double precision and return less."""

    def find_step_operations(
        self,
        graph: Any,
        forward: Any,
    ) -> tuple[str, ...]:
        """Returns the names of operations through which the loss depends on variables in steps."""

    def find_passages(
        self,
        graph: Any,
        forward: Any,
        entries: Sequence[Tensor],
        exits: Sequence[Tensor],
        is_around_wanted: bool,
    ) -> tuple[Any, ...]:
        """Finds the variables that lead to each loss term through some tensors, and around them.

        Args:
            graph: The graph of the trace.
            forward: Its part from the variables to the loss terms.
            entries: Tensors that go into a part of the graph.
            exits: Tensors that come out of it.
            is_around_wanted: Whether ways around the part are looked for.

        Returns:
            For each loss term an object with `through` and, if wanted, `around`, bool
            arrays of shape (V,), and `is_open`: whether the term depends on the part at all.
        """

    # A trace at float64 of code that is written for less.

    def open_float64(self) -> Context:
        """Lets float64 exist, and keeps what is traced out of the caches of training."""

    def native_precision(self) -> Context:
        """Within `open_float64`, lets code compute as in training."""

    def repair_operations(
        self,
        module: Callable[[str], Any],
        is_promoted: bool,
    ) -> Context:
        """Gives operations that cannot be computed in float64 another form.

        Args:
            module: Function from a name, such as `"nn"`, to the module of Keras' operations.
            is_promoted: Whether casts are left out of what is traced.
        """

    def cast(
        self,
        value: Tensor,
        dtype: str,
    ) -> Tensor:
        """Casts floats to floats, even while casts are intercepted."""

    def intercept_casts(self, is_narrowing: Callable[[str, str], bool]) -> Context:
        """Replaces casts that would lose digits by identities."""

    def intercept_sources(
        self,
        is_on: Callable[[], bool],
        is_widening: bool,
        note: Callable[[], None],
    ) -> Context:
        """Notes narrow floats that enter a trace, and may widen them."""

    def widen_mixed_operands(self, is_widening: Callable[[], bool]) -> Context:
        """Widens narrow floats that an operation takes beside one of float64."""

    def call_with_xla(
        self,
        function: Callable[[Tensor], Tensor],
        argument: Tensor,
    ) -> Tensor:
        """Calls a function as XLA would compile it."""

    # Random numbers, and compiled functions in the user's code.

    def fix_draws(self, draws: Draws) -> Context:
        """Replaces random operations by draws that belong to the place of the draw."""

    def inline_functions(self) -> Context:
        """Runs the code of compiled functions in place of the functions."""

    def copy_functions(self) -> Context:
        """Calls copies of compiled functions, so that no trace is left in them."""

    # Values inside a trace, layer by layer.

    def name_operations(self, name: str) -> Context:
        """Returns a context whose operations, and their gradients', have a part of their name."""

    def is_watchable(self, value: Any) -> bool:
        """Whether a value is a tensor of floats of the trace being made."""

    def insert_identity(self, tensor: Tensor) -> Tensor:
        """Returns a copy of a tensor, so that the gradient through one use can be taken."""

    def is_float_tensor(self, value: Any) -> bool:
        """Whether a value is a dense tensor of floats of a trace, in whichever loop or branch."""

    def add_direction(self, tensor: Tensor, amount: Tensor, seed: int) -> Tensor:
        """Returns a tensor moved along a fixed direction of its own size."""

    def differentiate_scaled(
        self,
        target: Tensor,
        factor: Any,
        tensors: Sequence[Tensor],
    ) -> list[Tensor | None]:
        """Differentiates `factor * target`; returns dense tensors or None."""

    def summarize(self, tensor: Tensor) -> Tensor:
        """Returns five numbers about the entries of a tensor, float64, shape (5,).

        The fraction of finite and of nonzero entries; of the finite ones the root
        mean square, the largest magnitude and a projection, which changes by as
        much as they do.
        """

    # The compiled train step.

    def CompiledStep(
        self,
        function: Callable[[Nested], tuple[Any, ...]],
        batch: Nested,
        variables: Sequence[Storage],
        is_xla: bool,
        functions: Context,
        shadows: Sequence[tuple[Storage, Storage]] = (),
    ) -> Recorder:
        """Compiles a train step that runs on copies of what it writes to.

        `variables` are all that it may lead to, and `shadows` pairs (storage, copy) of
        those that are replaced by copies already.
        """

    def EagerStep(self, variables: Sequence[Storage]) -> EagerRecorder:
        """Makes a runner for a train step that cannot be compiled."""

    def runs_eagerly(self, model: Any) -> bool:
        """Whether training runs the model's code in each step."""

    def run_train_step(
        self,
        model: Any,
        batch: Nested,
    ) -> Any:
        """Returns the logs of a model's `train_step`, run at the present values."""

    def storage_of(self, variable: Any) -> Storage | None:
        """Returns what holds the value of a Keras variable, and stands for it in other members.

        None before the variable is initialized; what is no Keras variable, as it is.
        """

    def divide_gradient(
        self,
        gradient: Tensor,
        factor: Any,
    ) -> Tensor:
        """Returns a gradient, dense or sparse, divided by a number."""

    def is_variable(self, value: Any) -> bool:
        """Whether a value is the storage of a variable on one device."""

    def copy_storage(
        self,
        storage: Storage,
        is_trainable: bool,
    ) -> Storage:
        """Returns a new variable with the value of another."""

    def generator_state(self, value: Any) -> Storage | None:
        """Returns the variable that holds the state of a random generator."""

    def handle_id(self, variable: Any) -> int | None:
        """Returns the id by which a trace knows a Keras variable on one device."""

    def handle_ids(self, variable: Any) -> set[int]:
        """Returns the ids by which traces know a Keras variable, one for each device."""

    def find_written_handles(self, function: Any) -> list[set[int]]:
        """Returns, for each trace of a compiled function, the ids of what it writes to."""

    def sum_gradients(
        self,
        gradients: Sequence[Tensor],
        shape: Shape,
        is_complex: bool = False,
    ) -> Tensor:
        """Returns the sum of gradients, dense or sparse, as one dense tensor."""

    def select_scalars(self, values: Sequence[Any]) -> list[Tensor]:
        """Returns those of some values that are real scalars, at float64."""

    # Data, devices and memory.

    def copy_dataset(self, data: Any) -> Any:
        """Returns the first element of a data pipeline as a pipeline of its own.

        Other data is returned as it is.
        """

    def count_devices(self, strategy: Any) -> int:
        """Counts the devices of this process that hold a replica of the model."""

    def is_chief(self) -> bool:
        """Whether this process is the first of those that train together without a strategy."""

    def replica_context(self, strategy: Any) -> Context:
        """Returns a context in which code runs as one of several replicas that are alike."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an exception says that memory ran out."""

    def trim_memory(self, size: int) -> None:
        """Returns free memory to the system if a model has many parameters."""
