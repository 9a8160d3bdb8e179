"""The files of a saved failure: written whole or not at all, and read with distrust.

`failure.json` says what was checked and found, `batch.npz` holds the minibatch and `state.npz`
every variable. `model.keras` is there where Keras could save the model; nothing here reads it.
"""

import os
import re
import shutil
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np

from gradhooks.failures.arrays import Labelled, read_arrays, write_arrays
from gradhooks.failures.record import FORMAT, Description, Failure
from gradhooks.failures.structure import put_together, take_apart
from gradhooks.model.batch import Batch
from gradhooks.reports import serialization
from gradhooks.reports.errors import BadInputError, bad_input

DESCRIPTION, BATCH, STATE, MODEL = "failure.json", "batch.npz", "state.npz", "model.keras"
# Bytes of the longest description that is read. A free choice: that of a thousand failed
# comparisons takes a hundredth of it.
_LONGEST = 1 << 26
# Characters of a check's name in that of a directory: a free choice below the limits of all disks.
_LONGEST_NAME = 100
_ADVICE = "Try a directory that `save_failures=` of a check has written, as it was."


def write_failure(
    directory: str, failure: Failure, save_model: Callable[[str], object] | None = None
) -> str:
    """Writes a failing check into a new directory below another one.

    Args:
        directory: Where failures are saved; it is made if need be.
        failure: The `Failure`.
        save_model: Called with the path for the model; it may raise.

    Returns:
        The new directory, `<directory>/<name>-step-<step>`, with a number behind it if there is
        one of that name. Until it is complete it has a name that begins with
        `.gradhooks-unfinished-`, which a killed process leaves behind.

    Raises:
        OSError: If the files cannot be written; none of them is left behind.
        ValueError: For a batch or a variable that only pickle could store; likewise.
    """
    os.makedirs(directory, exist_ok=True)
    unfinished = os.path.join(directory, f".gradhooks-unfinished-{uuid.uuid4().hex}")
    os.mkdir(unfinished)
    try:
        _write_files(unfinished, failure)
        if save_model is not None:
            _try_to_save(save_model, os.path.join(unfinished, MODEL))
        # A name may hold anything.
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", failure.request.name)[:_LONGEST_NAME]
        return _rename(unfinished, os.path.join(directory, f"{name}-step-{failure.request.step}"))
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def read_failure(directory: Any) -> Failure:
    """Reads a directory that `write_failure` wrote.

    Raises:
        BadInputError: If it is none, or is damaged.
    """
    if not isinstance(directory, (str, os.PathLike)):
        raise bad_input("A failure is read from a path.", "directory", directory, "a path", _ADVICE)
    place = os.fspath(directory)
    try:
        description = _read_description(os.path.join(place, DESCRIPTION))
        arrays = [array for _, array in read_arrays(os.path.join(place, BATCH)).get("batch", [])]
        parts = put_together(description.batch, arrays)
        if not isinstance(parts, tuple) or len(parts) != 3:
            raise ValueError("a batch is (x, y, sample_weight)")
        state = read_arrays(os.path.join(place, STATE))
        seen = [int(position) for _, array in state.pop("seen", []) for position in array.flat]
        _check_numbers(description)
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise is_damaged(place, error) from error
    return Failure(
        description.report,
        description.request,
        description.memory,
        Batch(*parts, has_class_weight=description.has_class_weight),
        state,
        description.trained,
        frozenset(seen),
    )


def is_damaged(directory: Any, error: Exception) -> BadInputError:
    """Returns the error for a directory whose files are not those of a failing check."""
    return BadInputError(
        "A failure is read from the files of one check. "
        f"Received: directory={os.fspath(directory)!r}, and {error}. "
        f"Expected {DESCRIPTION}, {BATCH} and {STATE}. {_ADVICE}"
    )


def _write_files(place: str, failure: Failure) -> None:
    arrays: list[Any] = []
    batch = failure.batch
    structure = take_apart((batch.x, batch.y, batch.sample_weight), arrays)
    description = Description(
        FORMAT,
        failure.report,
        failure.request,
        failure.memory,
        failure.trained,
        batch.has_class_weight,
        structure,
    )
    with open(os.path.join(place, DESCRIPTION), "w", encoding="ascii") as file:
        file.write(serialization.dumps(description) + "\n")
    labelled: list[Labelled] = [("", array) for array in arrays]
    write_arrays(os.path.join(place, BATCH), {"batch": labelled})
    seen = [("", np.array(sorted(failure.seen), np.int64))]
    write_arrays(os.path.join(place, STATE), {**failure.state, "seen": seen})


def _try_to_save(save_model: Callable[[str], object], path: str) -> None:
    """Saves the model where Keras can: it is a convenience, which a replay does not read."""
    try:
        save_model(path)
    except Exception:
        if os.path.exists(path):
            os.remove(path)


def _rename(unfinished: str, wanted: str) -> str:
    """Renames a finished directory to a name that no other one has; returns the name."""
    number = 1
    while True:
        name = wanted if number == 1 else f"{wanted}-{number}"
        number += 1
        if os.path.lexists(name):
            continue
        try:
            os.rename(unfinished, name)
        except FileExistsError:
            continue  # somebody else was faster
        except OSError:
            if os.path.lexists(name):
                continue  # so it was, and on this system the error has no class of its own
            raise
        return name


def _read_description(path: str) -> Description:
    if os.path.getsize(path) > _LONGEST:
        raise ValueError(f"{DESCRIPTION} is longer than that of any check")
    with open(path, "rb") as file:
        text = file.read(_LONGEST)
    try:
        description = serialization.loads(Description, text)
    except ValueError as error:
        raise ValueError(f"{DESCRIPTION}: {error.__cause__ or error}") from error
    if description.format != FORMAT:
        raise ValueError(
            f"{DESCRIPTION} has the format {description.format}, and this version of gradhooks "
            f"reads {FORMAT}"
        )
    return description


def _check_numbers(description: Description) -> None:
    """Raises a `ValueError` for numbers that fit no check."""
    request, memory = description.request, description.memory
    terms = len(description.report.loss)
    rows: list[tuple[float, ...]] = []
    if memory.known_noise is not None:
        rows += [memory.known_noise.level, memory.known_noise.base]
    noise = memory.gradient_noise or ()
    if any(len(row) != terms for row in rows) or (noise and len(noise) != terms):
        raise ValueError(f"noise is remembered of other than the {terms} terms of the loss")
    if len({len(row) for row in noise}) > 1:
        raise ValueError("noise is remembered of other variables in each term")
    if request.step < 0 or (request.check_index or 0) < 0:
        raise ValueError(f"the check was at step {request.step}, number {request.check_index}")
