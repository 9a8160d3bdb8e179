"""What a check that takes long is doing: a bar on a terminal, plain lines anywhere else.

The first words come from a timer's thread, as the check itself is busy with code of the
user. That thread writes, and runs nothing of what is checked.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any, Self, TextIO

from gradhooks.reports.stages import Stage

# Seconds of silence. A free choice: about as long as one waits before wondering.
PATIENCE = 5.0


class SlowWork:
    """A context that says what is done in it, if that takes longer than a few seconds.

    Args:
        name: Name of the check.
        stream: Text file to write to; None writes nothing.
        prepare: Called before anything is written.
    """

    def __init__(
        self, name: str, stream: TextIO | None, prepare: Callable[[], object] = lambda: None
    ) -> None:
        self._name, self._stream, self._prepare = name, stream, prepare
        self._stage = Stage.TRACING
        self._is_over = False
        self._display: PlainLines | Bar | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(PATIENCE, self._begin)
        self._timer.daemon = True

    def note(self, stage: Stage) -> None:
        """Notes that a stage begins."""
        with self._lock, contextlib.suppress(Exception):  # a broken stream ends no training
            self._stage = stage
            if self._display is not None:
                self._display.show(stage)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._timer.cancel()
        with self._lock, contextlib.suppress(Exception):
            self._is_over = True
            if self._display is not None:
                self._display.close()

    def _begin(self) -> None:
        with self._lock, contextlib.suppress(Exception):
            if self._is_over or self._stream is None:
                return
            self._prepare()
            self._display = _open_display(self._name, self._stream)
            self._display.show(self._stage)


def _open_display(name: str, stream: TextIO) -> "PlainLines | Bar":
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        try:
            return Bar(name, stream)
        except ImportError:
            pass  # rich comes with Keras, so this is rare
    return PlainLines(name, stream)


class PlainLines:
    """Writes a line for each stage."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self._stream = stream
        self._begin = f"{name}: the first check takes more than {PATIENCE:g} s: "
        self._later = f"{name}: "

    def show(self, stage: Stage) -> None:
        """Says that a stage begins."""
        print(f"{self._begin}{stage} ...", file=self._stream, flush=True)
        self._begin = self._later

    def close(self) -> None:
        """Has nothing to take away."""


class Bar:
    """Draws a bar with the stage and the seconds since the check began; none is left behind.

    Raises:
        ImportError: If rich is not installed.
    """

    def __init__(self, name: str, stream: TextIO) -> None:
        # Late: most checks never need it.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        text = TextColumn("{task.description}", markup=False)
        console = Console(file=stream, force_jupyter=False)
        # What the user's code prints meanwhile is left to itself.
        self._progress = Progress(
            text, BarColumn(20), TimeElapsedColumn(), console=console, transient=True,
            redirect_stdout=False, redirect_stderr=False, refresh_per_second=2,
        )  # fmt: skip
        self._name = name
        self._task = self._progress.add_task("")
        task: Any = self._progress.tasks[0]
        task.start_time -= PATIENCE

    def show(self, stage: Stage) -> None:
        """Draws that a stage begins."""
        description = f"{self._name}: {stage}"
        done, total = stage.number - 1, stage.count
        self._progress.update(self._task, description=description, completed=done, total=total)
        self._progress.start()  # which does nothing more after the first time
        self._progress.refresh()

    def close(self) -> None:
        """Takes the bar away."""
        self._progress.stop()
