"""What a callback prints: by its verbosity, and while a first check takes long."""

import io
import os
import subprocess
import sys
import textwrap
import threading
import time

import keras
import numpy as np
import pytest

import gradhooks
from gradhooks.checker import Checker
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.reports.stages import Stage
from gradhooks.sinks import progress, speech

X, Y = np.zeros((8, 2)), np.zeros((8, 1))
PASSED = CheckReport(0, Verdict.PASS, Reason.AGREES, {"total": 3e-10}, seconds=0.25)
PLACE = Culprit("layer", "net/bad\n", None)
FAILED = CheckReport(3, Verdict.FAIL, Reason.MISMATCH, {"total": 0.5}, culprit=PLACE)
TABLE = "precision float64"


def network():
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def fit(monkeypatch, verbose, check=lambda tell: PASSED, of_keras=0, **options):
    """Trains for two epochs of two batches, with checks that a function stands in for."""

    def stand_in(self, *arguments):
        return check(arguments[-1])

    monkeypatch.setattr(Checker, "check", stand_in)
    callback = gradhooks.GradientCheck(X, Y, verbose=verbose, **options)
    network().fit(X, Y, batch_size=4, epochs=2, verbose=of_keras, callbacks=[callback])
    return callback


@pytest.mark.parametrize("verbose", ["auto", 0, False])
def test_nothing_is_said_of_a_check(verbose, monkeypatch, capsys):
    assert len(fit(monkeypatch, verbose).reports) == 3
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("verbose", [1, True, np.int64(1)])
def test_a_line_for_every_check(verbose, monkeypatch, capsys):
    fit(monkeypatch, verbose)
    line = "PASS (agrees) at step 0, gradcheck: relative difference 3.0e-10, 0.25 s\n"
    assert capsys.readouterr() == (line * 3, "")


def test_a_table_for_every_check(monkeypatch, capsys):
    fit(monkeypatch, 2)
    out, err = capsys.readouterr()
    assert out == f"{PASSED}\n" * 3
    assert err.splitlines() == [
        f"gradcheck: checking gradients before batch {step} ..." for step in (0, 2, 4)
    ]


def test_the_line_of_a_failure_names_its_place_on_one_line():
    line = speech.summarize(FAILED)
    assert line.startswith("FAIL (mismatch) at step 3")
    assert line.endswith(", error in net/bad\\n")
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(("verbose", "first"), [(1, "PASS (agrees)"), (2, "PASS (agrees)")])
def test_words_begin_on_a_line_of_their_own(verbose, first, monkeypatch, capsys):
    """The bar of Keras is an open line while an epoch lasts."""
    fit(monkeypatch, verbose, of_keras=1, freq=1)
    out, _ = capsys.readouterr()
    beginnings = [line for line in out.splitlines() if first in line]
    assert len(beginnings) == 5
    assert all(line.startswith(first) for line in beginnings)
    assert "\n\n\n" not in out


# --- A first check that takes long


class Impatience:
    """Makes first checks speak at once, and lets them wait until they have."""

    def __init__(self, monkeypatch):
        self.has_spoken = threading.Event()
        monkeypatch.setattr(progress, "PATIENCE", 0.2)
        monkeypatch.setattr(progress, "_open_display", self.open)

    def open(self, *arguments, original=progress._open_display):
        # The next stage has to wait until the first words are written, too.
        self.has_spoken.set()
        return original(*arguments)

    def check(self, tell):
        tell(Stage.TRACING)
        assert self.has_spoken.wait(60)
        tell(Stage.GRADIENT)
        tell(Stage.PARAMETERS)
        return PASSED


@pytest.fixture
def slow(monkeypatch):
    return Impatience(monkeypatch)


LINES = [
    "gradcheck: the first check takes more than 0.2 s: tracing the model in float64 (1 of 5) ...",
    "gradcheck: computing its gradient (2 of 5) ...",
    "gradcheck: measuring derivatives (4 of 5) ...",
]


@pytest.mark.parametrize("verbose", ["auto", 1, 2])
def test_a_slow_first_check_says_what_it_does_and_later_ones_do_not(
    verbose, slow, monkeypatch, capsys
):
    fit(monkeypatch, verbose, slow.check)
    said = [line for line in capsys.readouterr().err.splitlines() if "before batch" not in line]
    assert said == LINES


def join_timers():
    """Waits for timers that were cancelled; returns those that go on."""
    timers = [t for t in threading.enumerate() if isinstance(t, threading.Timer)]
    for timer in timers:
        timer.join(10)
    return [t for t in timers if t.is_alive()]


def test_a_fast_check_says_nothing(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 600)
    assert join_timers() == []
    fit(monkeypatch, "auto")
    assert join_timers() == []
    assert capsys.readouterr() == ("", "")


def test_silence_costs_nothing(monkeypatch):
    def fail(*arguments):
        raise AssertionError("a timer was made")

    monkeypatch.setattr(speech, "SlowWork", fail)
    fit(monkeypatch, 0)
    with pytest.raises(AssertionError, match="a timer"):
        fit(monkeypatch, "auto")


def test_a_slow_check_in_an_epoch_begins_on_a_new_line(slow, monkeypatch, capsys):
    """One that comes first at the end of an epoch, behind the bar of Keras."""
    fit(monkeypatch, "auto", slow.check, of_keras=1)
    at_the_beginning, err = capsys.readouterr()
    assert err.splitlines() == LINES
    slow.has_spoken.clear()
    fit(monkeypatch, "auto", slow.check, of_keras=1, at_start=False)
    out, err = capsys.readouterr()
    assert err.splitlines() == LINES
    # One line end more than where the check came before the first line of Keras.
    assert out.count("\n") == at_the_beginning.count("\n") + 1


def test_an_error_in_the_check_ends_the_words(slow, monkeypatch, capsys):
    def fail(tell):
        assert slow.has_spoken.wait(60)
        raise gradhooks.BadInputError("no")

    with pytest.raises(gradhooks.BadInputError, match="no"):
        fit(monkeypatch, "auto", fail)
    assert join_timers() == []
    assert capsys.readouterr().err.splitlines() == LINES[:1]


class Broken(io.StringIO):
    def write(self, text):
        raise OSError("the pipe is closed")


@pytest.mark.parametrize("stream", [Broken(), None])
def test_a_stream_that_cannot_be_written_ends_no_training(stream, monkeypatch):
    def wait(tell):
        time.sleep(0.3)
        tell(Stage.GRADIENT)
        return PASSED

    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    monkeypatch.setattr(sys, "stderr", stream)
    assert len(fit(monkeypatch, "auto", wait).reports) == 3


class Terminal(io.StringIO):
    def isatty(self):
        return True


ERASE = "\x1b[2K"


def test_a_terminal_gets_a_bar_that_is_taken_away(slow, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    with progress.SlowWork("gradcheck", terminal, lambda: terminal.write("first")) as work:
        assert slow.check(work.note) is PASSED
    written = terminal.getvalue()
    assert written.startswith("first")
    for line in LINES:
        assert line.removeprefix("gradcheck: ").split(": ")[-1].removesuffix(" ...") in written
    assert written.rstrip("\n").rindex(ERASE) > written.rindex("measuring derivatives")


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(slow, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    with progress.SlowWork("gradcheck", terminal) as work:
        slow.check(work.note)
    assert terminal.getvalue().splitlines() == LINES


# --- Real ones

SCRIPT = """
    import keras, numpy as np, gradhooks
    from gradhooks.sinks import progress
    progress.PATIENCE = 0.01
    x, y = np.ones((8, 2)), np.ones((8, 1))
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, y, epochs=2, callbacks=[gradhooks.GradientCheck(x, y)])
"""
ENVIRON = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": os.getcwd()}


@pytest.mark.system
def test_a_real_terminal():
    pty = pytest.importorskip("pty", reason="there are no terminals here")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT)]
    process = subprocess.Popen(command, env=ENVIRON, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # how Linux says that nobody writes any more
            break
        if not part:
            break
        written += part
    os.close(ours)
    assert process.wait() == 0
    text = written.decode()
    last = text.rindex("(5 of 5)")
    assert "tracing the model" in text
    # Erased before Keras begins its own lines, which are whole.
    assert last < text.rindex(ERASE) < text.index("Epoch 1/2")
    assert "\r\nEpoch 2/2\r\n" in text


@pytest.mark.system
def test_a_real_notebook(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="the notebook client is not installed here")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    for name in ("PYTHONPATH", "TERM"):
        monkeypatch.setenv(name, ENVIRON[name])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(textwrap.dedent(SCRIPT))])
    nbclient.NotebookClient(notebook, timeout=900).execute(cwd=tmp_path)
    streams = {"stdout": "", "stderr": ""}
    for output in notebook.cells[0].outputs:
        if output.output_type == "stream":
            streams[output.name] += output.text
    lines = [line for line in streams["stderr"].splitlines() if line.startswith("gradcheck: ")]
    assert "tracing the model" in lines[0]
    assert lines[-1] == "gradcheck: recording what the optimizer receives (5 of 5) ..."
    assert "Epoch 2/2" in streams["stdout"]
