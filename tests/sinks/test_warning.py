"""A warning points at the line of the user's code that trains."""

import concurrent.futures
import textwrap
import warnings

import keras
import numpy as np
import pytest

import gradhooks
from gradhooks import CheckReport, Reason, Verdict
from gradhooks.checker import Checker
from gradhooks.sinks import warning

X, Y = np.zeros((4, 2)), np.zeros((4, 1))
WRONG = CheckReport(0, Verdict.FAIL, Reason.MISMATCH, {"total": 1.0})
UNDECIDED = CheckReport(0, Verdict.INCONCLUSIVE, Reason.ERROR, {"total": 1.0}, error="E: no")
# Whatever calls Keras is in code of this name, compiled from text, its line marked.
MARK = "# here"


class Subclass(gradhooks.GradientCheck):
    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)


def network():
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


FIT = "model.fit(X, Y, verbose=0, callbacks=[check])  # here"
WAYS = {
    "fit": FIT,
    "fit over several lines": """
        model.fit(  # here
            X,
            Y,
            verbose=0,
            callbacks=[
                check,
            ],
        )
    """,
    "fit in a function": f"""
        def train():
            {FIT}
        train()
    """,
    "fit with validation": """
        model.fit(X, Y, validation_data=(X, Y), verbose=0, callbacks=[check])  # here
    """,
    "fit, run eagerly": f"""
        model.run_eagerly = True
        {FIT}
    """,
    "fit with the whole traceback": f"""
        keras.config.disable_traceback_filtering()
        try:
            {FIT}
        finally:
            keras.config.enable_traceback_filtering()
    """,
    "fit in a thread": f"""
        def train():
            {FIT}
        with concurrent.futures.ThreadPoolExecutor() as pool:
            pool.submit(train).result()
    """,
    "fit in a callback of another fit": f"""
        def train(*_):
            {FIT}
        outer = keras.callbacks.LambdaCallback(on_epoch_begin=train)
        network().fit(X, Y, verbose=0, callbacks=[outer])
    """,
    "a list of callbacks": """
        callbacks = keras.callbacks.CallbackList([check], model=model)
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(0)  # here
        model.train_on_batch(X, Y)
        callbacks.on_train_end()
    """,
    "a loop by hand": """
        check.set_model(model)
        check.on_train_begin()
        for batch in range(2):
            check.on_train_batch_begin(batch)  # here
            model.train_on_batch(X, Y)
            check.on_train_batch_end(batch)
        check.on_train_end()
    """,
}


def warned_by(way, check, filename, monkeypatch, report=WRONG, model=None):
    """Returns (filename, line) of the only warning, and the marked line."""
    monkeypatch.setattr(Checker, "check", lambda self, *args, **kwargs: report)
    text = textwrap.dedent(way)
    names = {**globals(), "model": model or network(), "check": check, "__name__": "script"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(text, filename, "exec"), names)
    of_check = (gradhooks.GradientMismatchWarning, gradhooks.GradientCheckWarning)
    (found,) = [w for w in caught if issubclass(w.category, of_check)]
    line = next(k for k, row in enumerate(text.splitlines(), 1) if row.endswith(MARK))
    return (found.filename, found.lineno), line


@pytest.mark.parametrize("name", WAYS)
def test_the_line_is_the_one_that_trains(name, monkeypatch):
    check = gradhooks.GradientCheck(X, Y)
    found, line = warned_by(WAYS[name], check, "/home/you/train.py", monkeypatch)
    assert found == ("/home/you/train.py", line)


@pytest.mark.parametrize(
    "filename", ["<stdin>", "<ipython-input-3-0ab>", "/tmp/ipykernel_7/81.py", "notes/train.py"]
)
def test_a_notebook_and_a_console_are_the_users_code(filename, monkeypatch):
    found, line = warned_by(FIT, gradhooks.GradientCheck(X, Y), filename, monkeypatch)
    assert found == (filename, line)


def test_a_callback_of_the_users_inside_of_fit_is_passed_over(monkeypatch):
    found, line = warned_by(FIT, Subclass(X, Y), "train.py", monkeypatch)
    assert found == ("train.py", line)


def test_a_check_that_could_not_be_carried_out_points_there_too(monkeypatch):
    check = gradhooks.GradientCheck(X, Y)
    found, line = warned_by(FIT, check, "train.py", monkeypatch, UNDECIDED)
    assert found == ("train.py", line)


def test_an_installed_package_that_trains_is_passed_over(monkeypatch):
    """Such as a search over hyperparameters: the line is that of the search."""
    package = "/usr/lib/python3/dist-packages/tuner/search.py"
    names = {"__name__": "tuner.search"}
    exec(compile(f"def search(model, X, Y, check):\n    {FIT}", package, "exec"), names)
    monkeypatch.setitem(globals(), "search", names["search"])
    way = "search(model, X, Y, check)  # here"
    found, line = warned_by(way, gradhooks.GradientCheck(X, Y), "train.py", monkeypatch)
    assert found == ("train.py", line)


def test_where_all_code_is_installed_the_line_is_outside_of_keras():
    """Nothing but installed code is on the stack of a process that an entry point starts."""
    package = "/usr/lib/python3/dist-packages/project/train.py"
    found = []

    def note(frame):
        found.append(warning._find_frame(frame))

    code = compile("import sys\nnote(sys._getframe())", package, "exec")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        pool.submit(exec, code, {"note": note, "__name__": "project.train"}).result()
    assert (found[0].f_code.co_filename, found[0].f_lineno) == (package, 2)


def test_a_check_by_itself_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error", gradhooks.GradientMismatchWarning)
        warnings.simplefilter("error", gradhooks.GradientCheckWarning)
        gradhooks.check_gradients(network(), X, Y, samples=1, train_step=False)
