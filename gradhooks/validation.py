"""The arguments that users give: which values are allowed, which are the defaults.

Every rule and every default is written once, in `Options` and
`CallbackOptions`. A value that is not allowed raises a `BadInputError` in four
parts: the rule, what was received, what was expected, what to try.
"""

import dataclasses
import math
import numbers
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from gradhooks import _types, arguments
from gradhooks._types import Frequency, LossFunction, MismatchKind, OnFailure, PrecisionName
from gradhooks.reports.errors import bad_input
from gradhooks.reports.report import CheckReport
from gradhooks.verdicts.declared import KINDS

_FREQUENCIES = "'epoch', a positive int of batches, or a callable step -> bool"
_PATTERN_ADVICE = (
    "Try expect={'*/quantize/*': 'mismatch'}; patterns are those of `fnmatch`, on paths of "
    "variables and of layers."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a check is asked to do, validated and normalized.

    `GradientCheck`, `check_gradients` and `assert_gradients` take these as
    keyword arguments and have the same defaults, except that
    `assert_gradients` samples 64 parameters.

    Args:
        batch_size: Largest number of examples used; None takes arrays as they are.
        samples: Number of parameters to sample.
        threshold: Relative difference above which a comparison can fail; None
            for the default of the precision in use.
        loss_fn: Loss to check in place of the compiled one; None for that one.
        training: Value of the `training` argument of the forward pass.
        precision: `"auto"`, `"float64"` or `"model"`.
        train_step: Whether to compare the gradient that the optimizer receives.
        expect: Declared mismatches, `{path pattern: "blocked" | "mismatch" | "untrained"}`.
        max_memory: Bytes that evaluations may take; None for no limit.
        save_failures: Directory for failing checks; None keeps none.
        seed: Seed of the sampling.

    Raises:
        BadInputError: For a value that is not allowed.

    Example:

    >>> Options(samples=8).samples
    8
    >>> Options(samples="8")
    Traceback (most recent call last):
    gradhooks.reports.errors.BadInputError: `samples` must be a positive int. Received: \
samples='8'. Expected an int of at least 1. Try samples=32.
    """

    batch_size: int | None = 32
    samples: int = 32
    threshold: float | None = None
    loss_fn: LossFunction | None = None
    training: bool = True
    precision: PrecisionName = "auto"
    train_step: bool = True
    expect: Mapping[str, MismatchKind] = dataclasses.field(default_factory=dict)
    max_memory: int | None = None
    save_failures: Any = None
    seed: int = 0

    def __post_init__(self) -> None:
        self._normalize(
            batch_size=_check_batch_size(self.batch_size),
            samples=_check_int("samples", self.samples, 1, "Try samples=32."),
            threshold=_check_threshold(self.threshold),
            loss_fn=arguments.check_loss_function(self.loss_fn),
            training=check_bool("training", self.training),
            precision=_check_word(
                "precision", self.precision, get_args(PrecisionName), "Try precision='auto'."
            ),
            train_step=check_bool("train_step", self.train_step),
            expect=_check_expect(self.expect),
            max_memory=_check_max_memory(self.max_memory),
            save_failures=_check_path("save_failures", self.save_failures, "failures"),
            seed=_check_int("seed", self.seed, 0, "Try seed=0."),
        )

    def list_arguments(self) -> tuple[tuple[str, str], ...]:
        """Returns what is not the default and stands in no other field of a report.

        Pairs (name, Python text); of a function its name.
        """
        told: list[tuple[str, str]] = []
        for name in ("batch_size", "loss_fn", "training", "precision", "train_step", "max_memory"):
            value = getattr(self, name)
            if callable(value):
                told.append((name, arguments.name_function(value, name)))
            elif value != Options.__dataclass_fields__[name].default:
                told.append((name, repr(value)))
        return tuple(told)

    def _normalize(self, **values: Any) -> None:
        """Replaces fields by their normalized values; the record is frozen for everybody else."""
        for field, value in values.items():
            object.__setattr__(self, field, value)

    @property
    def declared(self) -> tuple[tuple[str, MismatchKind], ...]:
        """The declared mismatches as pairs (path pattern, kind)."""
        return tuple(self.expect.items())


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallbackOptions(Options):
    """What a `GradientCheck` is asked to do: an `Options`, when to check, and where reports go.

    Args:
        freq: `"epoch"`, an int of batches, or a callable `step -> bool`.
        at_start: Whether to check before the first batch.
        on_failure: `"warn"`, `"raise"`, `"stop"` or `"ignore"`.
        log_dir: Directory for TensorBoard, or an object with a `log_dir`; None for no files.
        histograms: Whether TensorBoard gets histograms of the gradients.
        max_overhead: Largest share of the training time, None for no limit.
        sinks: Functions that are called with every report.
        verbose: `"auto"`, 0, 1 or 2: how much is printed.
        name: Name of the TensorBoard run and prefix of the tags.

    Raises:
        BadInputError: For a value that is not allowed.
    """

    freq: Frequency = "epoch"
    at_start: bool = True
    on_failure: OnFailure = "warn"
    log_dir: Any = None
    histograms: bool = False
    max_overhead: float | None = None
    sinks: Sequence[Callable[[CheckReport], object]] = ()
    verbose: _types.Verbosity = "auto"
    name: str = "gradcheck"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._normalize(
            freq=_check_frequency(self.freq),
            at_start=check_bool("at_start", self.at_start),
            on_failure=_check_word(
                "on_failure", self.on_failure, get_args(OnFailure), "Try on_failure='warn'."
            ),
            log_dir=_check_directory("log_dir", self.log_dir),
            histograms=check_bool("histograms", self.histograms),
            max_overhead=_check_share("max_overhead", self.max_overhead),
            sinks=_check_callables("sinks", self.sinks),
            verbose=arguments.check_verbosity(self.verbose),
            name=_check_file_name("name", self.name),
        )


def check_step(value: int) -> int:
    """Returns the count of training batches if it is an int of at least 0."""
    return _check_int("step", value, 0, "Try step=0.")


def check_bool(name: str, value: bool) -> bool:
    """Returns the value if it is a bool."""
    if not isinstance(value, bool):
        raise bad_input(
            f"`{name}` must be a bool.", name, value, "True or False", f"Try {name}={bool(value)}."
        )
    return value


def check_callable(name: str, value: Any, advice: str) -> Any:
    """Returns None or the value if it can be called."""
    if value is not None and not callable(value):
        raise bad_input(f"`{name}` must be callable.", name, value, "None or a function", advice)
    return value


def _check_int(name: str, value: Any, least: int, advice: str) -> int:
    """Returns the value if it is an int of at least 0 or 1; bools are not."""
    is_int = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if is_int and int(value) >= least:
        return int(value)
    rule = "must be a positive int" if least == 1 else "must be an int that is not negative"
    raise bad_input(f"`{name}` {rule}.", name, value, f"an int of at least {least}", advice)


def _check_batch_size(value: Any) -> int | None:
    """Returns None, for arrays as they are, or the value if it is an int above 0."""
    if value is None:
        return None
    return _check_int("batch_size", value, 1, "Try batch_size=32, or None for all there is.")


def _check_max_memory(value: Any) -> int | None:
    """Returns None, for no limit, or the value if it is an int above 0."""
    if value is None:
        return None
    return _check_int("max_memory", value, 1, "It is in bytes: try max_memory=2 * 10**9, or None.")


def _check_word(name: str, value: Any, choices: tuple[str, ...], advice: str) -> str:
    """Returns the value if it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise bad_input(
            f"`{name}` must be one of these words.", name, value, f"one of {choices}", advice
        )
    return value


def _check_threshold(value: Any) -> float | None:
    """Returns None or the value if it is a finite float above 0."""
    if value is None:
        return None
    if not _is_number(value) or not math.isfinite(value) or value <= 0:
        raise bad_input(
            "`threshold` is a relative difference.",
            "threshold",
            value,
            "None or a float above 0",
            "Try None, the default of the precision in use, or 1e-6.",
        )
    return float(value)


def _check_share(name: str, value: Any) -> float | None:
    """Returns None or the value if it is a float above 0 and below 1."""
    if value is None:
        return None
    if not _is_number(value) or not 0 < value < 1:
        raise bad_input(
            f"`{name}` is a share of the training time.",
            name,
            value,
            "None or a float above 0 and below 1",
            "Try None, no limit, or 0.05.",
        )
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_frequency(value: Any) -> Any:
    """Returns the value if it says when to check."""
    if value == "epoch" or (callable(value) and not isinstance(value, type)):
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise bad_input(
            "`freq` says when to check.",
            "freq",
            value,
            _FREQUENCIES,
            "Try freq='epoch' or freq=100.",
        )
    return int(value)


def _check_expect(value: Any) -> dict[str, MismatchKind]:
    """Returns a copy of the declared mismatches."""
    is_valid = isinstance(value, Mapping)
    if is_valid:
        for pattern, kind in value.items():
            is_valid &= isinstance(pattern, str) and kind in KINDS
    if not is_valid:
        raise bad_input(
            "`expect` declares mismatches.",
            "expect",
            value,
            f"a dict of path patterns to one of {KINDS}",
            _PATTERN_ADVICE,
        )
    return dict(value)


def _check_callables(name: str, value: Any) -> tuple[Callable[..., object], ...]:
    """Returns a tuple of functions."""
    if not isinstance(value, (list, tuple)) or not all(callable(v) for v in value):
        raise bad_input(
            f"`{name}` must be a sequence of functions that take a report.",
            name,
            value,
            "a list of callables",
            f"Try {name}=[print].",
        )
    return tuple(value)


def _check_directory(name: str, value: Any) -> Any:
    """Returns None, a path as a string, or an object that has a path as its `log_dir`."""
    if not isinstance(getattr(value, "log_dir", value), (str, os.PathLike, type(None))):
        expected = "None, a str, a path or a keras.callbacks.TensorBoard"
        raise bad_input(f"`{name}` must be a path.", name, value, expected, f"Try {name}='logs'.")
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _check_path(name: str, value: Any, example: str) -> str | None:
    """Returns None, or the path of a directory, which need not be there, as a string."""
    if value is None:
        return None
    is_path = isinstance(value, (str, os.PathLike)) and os.fspath(value) != ""
    if not is_path or os.path.isfile(value):
        expected, advice = "None, or the path of a directory", f"Try {name}='{example}'."
        raise bad_input(f"`{name}` must be a directory.", name, value, expected, advice)
    return os.fspath(value)


def _check_file_name(name: str, value: Any) -> str:
    """Returns a word that can stand in a file name, in a log key and in a tag."""
    if not isinstance(value, str) or not re.fullmatch(r"(?!\.+$)[A-Za-z0-9_.-]+", value):
        raise bad_input(
            f"`{name}` names a directory, log keys and tags.",
            name,
            value,
            "letters, digits, '_', '.' and '-', and not dots alone",
            f"Try {name}='gradcheck'.",
        )
    return value
