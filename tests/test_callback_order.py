"""A check behind callbacks that read its keys says once that it must come first."""

import warnings

import keras
import pytest
from keras.callbacks import CSVLogger, EarlyStopping, LambdaCallback, ModelCheckpoint

import gradhooks
from gradhooks.checker import Checker
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.report import CheckReport
from tests import frameworks, models

PASSED = CheckReport(0, Verdict.PASS, Reason.AGREES, {"total": 1e-9})
FAILURES = "gradcheck_failures"


@pytest.fixture(autouse=True)
def quick_checks(monkeypatch):
    monkeypatch.setattr(Checker, "check", lambda self, *args, **kwargs: PASSED)


class Subclass(gradhooks.GradientCheck):
    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)


def stopping(monitor=FAILURES):
    return EarlyStopping(monitor, mode="min", patience=9)


def warned(callbacks, as_list=None):
    """Returns what gradhooks warns of while a model trains for two epochs."""
    model, x, y = models.mlp()
    listed = callbacks if as_list is None else as_list(callbacks, model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, y, epochs=2, verbose=0, callbacks=listed)
    ours = [w for w in caught if w.category is gradhooks.GradientCheckWarning]
    assert all(w.filename == __file__ for w in ours)
    return [str(w.message) for w in ours]


def make_check(**options):
    return gradhooks.GradientCheck(*models.mlp()[1:], **options)


def log(folder):
    return CSVLogger(folder / "log.csv")


# What stands before the check, and how it is named.
READERS = {
    "a log": (lambda folder: [log(folder)], "behind CSVLogger in"),
    "both": (lambda folder: [log(folder), stopping()], "behind CSVLogger, EarlyStopping in"),
    "a checkpoint": (
        lambda folder: [ModelCheckpoint(folder / "m.keras", FAILURES, mode="min")],
        "behind ModelCheckpoint in",
    ),
}
if frameworks.BACKEND == "tensorflow":  # elsewhere Keras takes no nested lists
    READERS["in a list of its own"] = (
        lambda folder: [[LambdaCallback(), stopping()]],
        "EarlyStopping",
    )


@pytest.mark.filterwarnings("ignore:.*not available")
@pytest.mark.parametrize("case", READERS)
@pytest.mark.parametrize("kind", [gradhooks.GradientCheck, Subclass])
def test_readers_before_the_check_are_named(case, kind, tmp_path):
    make, names = READERS[case]
    (message,) = warned([*make(tmp_path), kind(*models.mlp()[1:])])
    assert names in message
    assert "gradcheck_relative_difference and gradcheck_failures are not in the logs" in message
    assert "callbacks=[check, ...]" in message


def test_a_list_made_by_hand(tmp_path):
    def as_list(callbacks, model):
        params = {"epochs": 2, "steps": 2, "verbose": 0}
        return keras.callbacks.CallbackList(callbacks, add_history=True, model=model, **params)

    (message,) = warned([log(tmp_path), make_check()], as_list)
    assert "CSVLogger" in message


SILENT = {
    "the check comes first": lambda folder, check: [check, log(folder), stopping()],
    "others monitor another key": lambda folder, check: [stopping("loss"), check],
    "no list": lambda folder, check: check,
}


@pytest.mark.parametrize("case", SILENT)
def test_nothing_is_said_otherwise(case, tmp_path):
    assert warned(SILENT[case](tmp_path, make_check())) == []


@pytest.mark.filterwarnings("ignore:.*not available")
def test_the_keys_are_those_of_the_name():
    (message,) = warned([stopping("mine_failures"), make_check(), make_check(name="mine")])
    assert message.startswith("mine: the check stands behind EarlyStopping in")


def test_behind_the_check_they_read_its_keys(tmp_path):
    check, stop = make_check(), stopping()
    assert warned([check, log(tmp_path), stop]) == []
    assert FAILURES in (tmp_path / "log.csv").read_text().splitlines()[0]
    assert stop.best == 0
