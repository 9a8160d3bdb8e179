"""check_function(): a gradient check for plain functions on NumPy arrays, without a model."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradhooks import validation
from gradhooks._types import Vector
from gradhooks.checking import run
from gradhooks.checking.function_oracle import FunctionOracle
from gradhooks.checking.origin import begin_origin
from gradhooks.checking.settings import Settings
from gradhooks.numerics.layout import unique_paths
from gradhooks.reports.errors import bad_input
from gradhooks.reports.reasons import Reason
from gradhooks.reports.report import CheckReport

# Path of the parameters where they are one array.
LONE_ARRAY = "parameters"


def check_function(
    loss: Callable[[Any], Any],
    gradient: Any,
    parameters: Any,
    *,
    samples: int | None = None,
    threshold: float = 1e-7,
    seed: int = 0,
) -> CheckReport:
    """Checks the gradient of a scalar function against central differences.

    Like `scipy.optimize.check_grad` and `torch.autograd.gradcheck`, for
    functions with hand-written derivatives. Beyond them, each derivative has an
    error bar, a kink is told from a mistake, and a failure names the parameter,
    both numbers and what usually causes such a difference. The relative
    difference is `||a - n|| / (||a|| + ||n||)` (A. Ng, "Gradient checking",
    deeplearning.ai course notes).

    Functions of TensorFlow, JAX and PyTorch can be checked as well: `loss` and
    `gradient` may return whatever turns into NumPy arrays. Nothing that is
    passed is written to; both functions are given copies.

    Args:
        loss: `loss(parameters) -> scalar`. Deterministic: the same parameters
            give the same loss.
        gradient: `gradient(parameters)`, of the structure and the shapes of
            `parameters`; or such a structure, computed at `parameters`. With a
            function a failure is confirmed at a second point.
        parameters: Where to check: an array, or nested dicts, lists and tuples
            of arrays. The functions receive the same structure with float64
            arrays (tensors of PyTorch stay tensors, in float64).
        samples: Number of parameters to check, drawn at random from all
            arrays. Defaults to None, which checks every number.
        threshold: Relative difference above which a derivative is wrong.
        seed: Seed of the sampling.

    Returns:
        A `gradhooks.CheckReport`. Paths join keys and positions by "/"
        (`W1`, `layers/0`; `parameters` for a single array), indices are
        multi-indices.

    Raises:
        BadInputError: For parameters that are not floating-point, a loss that
            is not a finite scalar, and a gradient of another structure or
            shape. It is a `ValueError`. What the functions raise passes through.

    Example:

    >>> import numpy as np
    >>> import gradhooks
    >>> parameters = {"w": np.array([1.0, 2.0]), "b": np.array(0.5)}
    >>> def loss(p):
    ...     return np.sum(np.tanh(p["w"])) * p["b"]
    >>> def gradient(p):
    ...     return {"w": (1 - np.tanh(p["w"])) * p["b"], "b": np.sum(np.tanh(p["w"]))}
    >>> report = gradhooks.check_function(loss, gradient, parameters)
    >>> str(report.verdict), sorted({failure.path for failure in report.failures})
    ('FAIL', ['*', 'w'])
    """
    if not callable(loss):
        raise bad_input(
            "The loss must be a function of the parameters.",
            "loss",
            loss,
            "a function `loss(parameters) -> scalar`",
            "Try loss=lambda parameters: ...",
        )
    structure = Structure(parameters)
    options = validation.Options(
        samples=structure.size if samples is None else samples, threshold=threshold, seed=seed
    )
    oracle = _build_oracle(loss, gradient, structure)
    settings = Settings(
        samples=options.samples,
        threshold=options.threshold,
        seed=options.seed,
        train_step=False,
        name="check_function",
    )
    origin = begin_origin()
    report = dataclasses.replace(run.check(oracle, settings), checked="function", origin=origin)
    if report.reason is Reason.NON_FINITE_LOSS:
        raise bad_input(
            "The loss must be finite to have a gradient.",
            "loss(parameters)",
            report.loss.get("total"),
            "a finite scalar",
            "Try other parameters.",
        )
    return report


class Structure:
    """Nested dicts, lists and tuples of arrays as one vector, and back.

    Args:
        parameters: An array, or nested mappings and sequences of arrays.

    Attributes:
        paths: Keys and positions of each array, joined by "/".
        shapes: Shape of each array.
        size: How many numbers there are.
    """

    def __init__(self, parameters: Any) -> None:
        self._parameters = parameters
        leaves = list(_leaves(parameters))
        self.paths = unique_paths(tuple(path or LONE_ARRAY for path, _ in leaves))
        arrays = [
            _to_float64(path, leaf) for path, (_, leaf) in zip(self.paths, leaves, strict=True)
        ]
        self.shapes = tuple(array.shape for array in arrays)
        self.point: Vector = np.concatenate([np.zeros(0), *(array.ravel() for array in arrays)])
        self.size = len(self.point)
        if not self.size:
            raise bad_input(
                "There must be parameters to check.",
                "parameters",
                parameters,
                "an array, or nested dicts, lists and tuples of arrays, with at least one number",
                "Try parameters=np.array([1.0, 2.0]).",
            )

    def unflatten(self, point: Vector) -> Any:
        """Returns a vector (float64, shape (P,)) as new arrays in the parameters' structure."""
        arrays, start = [], 0
        for shape in self.shapes:
            stop = start + int(np.prod(shape))
            arrays.append(np.array(point[start:stop]).reshape(shape))
            start = stop
        return _rebuild(self._parameters, iter(arrays))

    def flatten(self, gradient: Any) -> Vector:
        """Returns a gradient of the structure of the parameters as a vector: float64, shape (P,).

        Raises:
            BadInputError: If its structure or a shape differs.
        """
        leaves = list(_leaves(gradient))
        paths = unique_paths(tuple(path or LONE_ARRAY for path, _ in leaves))
        found = dict(zip(paths, (leaf for _, leaf in leaves), strict=True))
        expected = dict(zip(self.paths, self.shapes, strict=True))
        if found.keys() != expected.keys():
            raise bad_input(
                "The gradient must have the structure of the parameters.",
                "gradient",
                f"arrays at {sorted(found)}",
                f"arrays at {sorted(expected)}",
                "Try returning one array for each array of the parameters.",
            )
        parts = []
        for path, shape in expected.items():
            array = np.asarray(_to_numpy(found[path]), dtype=np.float64)
            if array.shape != shape:
                raise bad_input(
                    "A gradient must have the shape of its parameters.",
                    f"gradient at {path}",
                    f"shape {array.shape}",
                    f"shape {shape}",
                    "Try summing over the batch, or removing a broadcast axis.",
                )
            parts.append(array.ravel())
        return np.concatenate(parts)


def _build_oracle(
    loss: Callable[[Any], Any], gradient: Any, structure: Structure
) -> FunctionOracle:
    def evaluate(point: Vector) -> float:
        return float(_to_scalar(loss(structure.unflatten(point))))

    def differentiate(point: Vector) -> Vector:
        return structure.flatten(gradient(structure.unflatten(point)))

    is_known_elsewhere = callable(gradient)
    known = None if is_known_elsewhere else structure.flatten(gradient)
    # A loss that is returned in float32 has been computed in float32.
    is_narrow = _to_scalar(loss(structure.unflatten(structure.point))).dtype.itemsize < 8
    return FunctionOracle(
        evaluate,
        differentiate if known is None else lambda _: known,
        structure.point,
        structure.shapes,
        paths=structure.paths,
        level="model" if is_narrow else "float64",
        has_gradient_elsewhere=is_known_elsewhere,
    )


def _leaves(nested: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yields (keys and positions joined by "/", leaf)."""
    if isinstance(nested, Mapping):
        for key, inner in nested.items():
            yield from _leaves(inner, (*path, str(key)))
    elif isinstance(nested, (list, tuple)):
        for position, inner in enumerate(nested):
            yield from _leaves(inner, (*path, str(position)))
    else:
        yield "/".join(path), nested


def _rebuild(nested: Any, arrays: Iterator[Any]) -> Any:
    """Returns the structure of `nested` with other leaves."""
    if isinstance(nested, Mapping):
        return {key: _rebuild(inner, arrays) for key, inner in nested.items()}
    if isinstance(nested, (list, tuple)):
        inner_ones = [_rebuild(inner, arrays) for inner in nested]
        if hasattr(nested, "_fields"):
            return type(nested)(*inner_ones)
        return inner_ones if isinstance(nested, list) else tuple(inner_ones)
    return _to_kind_of(nested, next(arrays))


def _to_kind_of(leaf: Any, array: NDArray[np.float64]) -> Any:
    """Returns a tensor of PyTorch where the leaf is one, and the array itself otherwise.

    Functions of NumPy, TensorFlow and JAX take NumPy arrays; those of PyTorch do not.
    """
    if hasattr(leaf, "new_tensor") and hasattr(leaf, "double"):
        return leaf.detach().double().new_tensor(array)
    return array


def _to_numpy(value: Any) -> NDArray[Any]:
    """Returns whatever turns into a NumPy array as one; a tensor of PyTorch is detached first."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
    return np.asarray(value)


def _to_float64(path: str, leaf: Any) -> NDArray[np.float64]:
    array = _to_numpy(leaf)
    if not np.issubdtype(array.dtype, np.floating):
        raise bad_input(
            "Only real floating-point numbers have a derivative.",
            f"parameters at {path}",
            f"dtype {array.dtype}",
            "an array of floats",
            "Try array.astype(float), or leaving it out of the parameters.",
        )
    if not np.isfinite(array).all():
        raise bad_input(
            "A parameter must be finite to be moved.",
            f"parameters at {path}",
            f"{np.sum(~np.isfinite(array))} entries that are NaN or infinite",
            "finite numbers",
            "Try other parameters.",
        )
    return array.astype(np.float64)


def _to_scalar(loss: Any) -> NDArray[Any]:
    value = _to_numpy(loss)
    if value.size != 1 or not np.issubdtype(value.dtype, np.number) or np.iscomplexobj(value):
        raise bad_input(
            "The loss must be one real number.",
            "loss(parameters)",
            f"an array of shape {value.shape} and dtype {value.dtype}",
            "a scalar",
            "Try summing or averaging over the examples.",
        )
    return value.reshape(())
