"""What a callback prints: by its verbosity, and while a first check takes long."""

import io
import os
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest

import gradhooks
from gradhooks.check import Checker
from gradhooks.checking import run
from gradhooks.checking.function_oracle import FunctionOracle
from gradhooks.checking.settings import Settings
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.reports.stages import Stage
from gradhooks.sinks import progress, speech
from tests import models

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


def wait(tell):
    for stage in (Stage.TRACING, Stage.GRADIENT, Stage.PARAMETERS):
        tell(stage)
        time.sleep(0.4)
    return PASSED


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.2)


LINES = [
    "gradcheck: the first check takes more than 0.2 s: tracing the model in float64 (1 of 5) ...",
    "gradcheck: computing its gradient (2 of 5) ...",
    "gradcheck: measuring derivatives (4 of 5) ...",
]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("verbose", ["auto", 1, 2])
def test_a_slow_first_check_says_what_it_does_and_later_ones_do_not(verbose, monkeypatch, capsys):
    fit(monkeypatch, verbose, wait)
    said = [line for line in capsys.readouterr().err.splitlines() if "before batch" not in line]
    assert said == LINES


@pytest.mark.usefixtures("impatient")
def test_a_fast_check_says_nothing(monkeypatch, capsys):
    fit(monkeypatch, "auto")
    time.sleep(0.4)
    assert capsys.readouterr() == ("", "")


def test_silence_costs_nothing(monkeypatch):
    def fail(*arguments):
        raise AssertionError("a timer was made")

    monkeypatch.setattr(speech, "SlowWork", fail)
    fit(monkeypatch, 0)
    with pytest.raises(AssertionError, match="a timer"):
        fit(monkeypatch, "auto")


@pytest.mark.usefixtures("impatient")
def test_a_slow_check_in_an_epoch_begins_on_a_new_line(monkeypatch, capsys):
    """One that comes first at the end of an epoch, behind the bar of Keras."""
    fit(monkeypatch, "auto", wait, of_keras=1)
    at_the_beginning, err = capsys.readouterr()
    assert err.splitlines() == LINES
    fit(monkeypatch, "auto", wait, of_keras=1, at_start=False)
    out, err = capsys.readouterr()
    assert err.splitlines() == LINES
    # One line end more than where the check came before the first line of Keras.
    assert out.count("\n") == at_the_beginning.count("\n") + 1


@pytest.mark.usefixtures("impatient")
def test_an_error_in_the_check_ends_the_words(monkeypatch, capsys):
    def fail(tell):
        time.sleep(0.4)
        raise gradhooks.BadInputError("no")

    with pytest.raises(gradhooks.BadInputError):
        fit(monkeypatch, "auto", fail)
    before = capsys.readouterr().err
    time.sleep(0.3)
    assert "tracing" in before
    assert capsys.readouterr().err == ""


class Broken(io.StringIO):
    def write(self, text):
        raise OSError("the pipe is closed")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("stream", [Broken(), None])
def test_a_stream_that_cannot_be_written_ends_no_training(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    assert len(fit(monkeypatch, "auto", wait).reports) == 3


class Terminal(io.StringIO):
    def isatty(self):
        return True


ERASE = "\x1b[2K"


@pytest.mark.usefixtures("impatient")
def test_a_terminal_gets_a_bar_that_is_taken_away(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    with progress.SlowWork("gradcheck", terminal, lambda: terminal.write("first")) as work:
        assert wait(work.note) is PASSED
    written = terminal.getvalue()
    assert written.startswith("first")
    for line in LINES:
        assert line.removeprefix("gradcheck: ").split(": ")[-1].removesuffix(" ...") in written
    assert written.rstrip("\n").rindex(ERASE) > written.rindex("measuring derivatives")


@pytest.mark.usefixtures("impatient")
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    with progress.SlowWork("gradcheck", terminal) as work:
        wait(work.note)
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
    nbclient.NotebookClient(notebook, timeout=300).execute(cwd=tmp_path)
    streams = {"stdout": "", "stderr": ""}
    for output in notebook.cells[0].outputs:
        if output.output_type == "stream":
            streams[output.name] += output.text
    lines = [line for line in streams["stderr"].splitlines() if line.startswith("gradcheck: ")]
    assert "tracing the model" in lines[0]
    assert lines[-1] == "gradcheck: recording what the optimizer receives (5 of 5) ..."
    assert "Epoch 2/2" in streams["stdout"]


# --- Which stages a check has

HEALTHY = [Stage.GRADIENT, Stage.NOISE, Stage.PARAMETERS, Stage.OPTIMIZER]


@pytest.mark.parametrize(("factor", "stages"), [(2.0, HEALTHY), (2.2, [*HEALTHY, Stage.CULPRIT])])
def test_a_check_tells_its_stages_in_their_order(factor, stages):
    oracle = FunctionOracle(lambda p: float(p @ p), lambda p: factor * p, np.ones(3))
    told = []
    report = run.check(oracle, Settings(), tell=told.append)
    assert told == stages
    assert (report.verdict is Verdict.FAIL) == (Stage.CULPRIT in stages)


def test_a_check_of_a_model_begins_with_its_trace():
    model, x, y = models.mlp()
    told = []
    check = gradhooks.GradientCheck(x, y, samples=4)
    check._checker.take_batch()
    check._checker.check(model, 0, tell=told.append)
    assert told == [Stage.TRACING, *HEALTHY]


def test_stages_are_counted():
    assert [stage.number for stage in Stage] == [1, 2, 3, 4, 5, 6]
    assert [stage.count for stage in Stage] == [5, 5, 5, 5, 5, 6]
