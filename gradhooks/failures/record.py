"""A failing check as a record: everything that decides its numbers, beside the model's code."""

import dataclasses
from collections.abc import Mapping, Sequence

from gradhooks._types import PrecisionName
from gradhooks.checking.memory import Memory
from gradhooks.failures.arrays import Labelled
from gradhooks.model.batch import Batch
from gradhooks.reports.report import CheckReport

# Version of the files. It rises when an older gradhooks could no longer read them.
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Request:
    """What the check was asked to do.

    Args:
        samples: Number of parameters to sample, after `max_overhead`.
        seed: Seed of the sampling.
        step: Count of training batches before the check.
        name: Name of the check.
        threshold: As given: None for the default of the precision in use.
        training: Value of the `training` argument.
        precision: As given.
        train_step: Whether the train step was compared.
        expect: Declared mismatches, pairs (path pattern, kind).
        max_memory: Bytes; None for no limit.
        check_index: Number of the check in its run; None for `step`.
        loss_fn: Name of the user's loss function; empty for the compiled loss.
    """

    samples: int
    seed: int
    step: int
    name: str
    threshold: float | None
    training: bool
    precision: PrecisionName
    train_step: bool
    expect: tuple[tuple[str, str], ...]
    max_memory: int | None
    check_index: int | None
    loss_fn: str


@dataclasses.dataclass(frozen=True)
class Description:
    """What `failure.json` holds.

    Args:
        format: Version of the files.
        report: The report of the check.
        request: What it was asked to do.
        memory: What the oracle remembered of earlier checks.
        trained: Which of the model's variables are trained, by number.
        has_class_weight: Whether the sample weights are those of classes.
        batch: Structure of `(x, y, sample_weight)`, see `failures.structure`.
    """

    format: int
    report: CheckReport
    request: Request
    memory: Memory
    trained: tuple[int, ...]
    has_class_weight: bool
    batch: object


@dataclasses.dataclass(frozen=True)
class Failure:
    """A failing check that can be made again.

    Args:
        report: Its report.
        request: What it was asked to do.
        memory: What the oracle remembered of earlier checks.
        batch: The minibatch.
        state: Values by group, see `model.state.read_state`.
        trained: Which of the model's variables are trained, by number.
        seen: Flat indices compared by earlier checks of the run.
    """

    report: CheckReport
    request: Request
    memory: Memory
    batch: Batch
    state: Mapping[str, Sequence[Labelled]]
    trained: tuple[int, ...]
    seen: frozenset[int]
