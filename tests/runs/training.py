"""Training with the callback beside training without it: what the tests of this folder share."""

import contextlib
import functools
import pathlib
import warnings
from typing import Any, NamedTuple

import keras
from keras import layers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import gradhooks
from gradhooks.sinks.jsonl import read_reports
from tests import digest, models
from tests.test_bit_identity import OWN_KEYS, seeded

# The runs of the test that is running.
NOTED = []
FAIL, PASS, INCONCLUSIVE = (
    gradhooks.Verdict.FAIL,
    gradhooks.Verdict.PASS,
    gradhooks.Verdict.INCONCLUSIVE,
)


class Run(NamedTuple):
    """What a training run left behind."""

    digest: dict
    history: dict
    check: Any
    complaints: list
    error: BaseException | None

    @property
    def left(self):
        """Everything that must not depend on the callback."""
        return self.digest, self.history, type(self.error)

    @property
    def reports(self):
        return self.check.reports

    @property
    def verdicts(self):
        return {r.verdict for r in self.check.reports}


def small(optimizer="sgd", rate=0.2, **kwargs):
    """A network of 35 weights with a penalty, dropout and a state; it compiles fast."""
    keras.utils.set_random_seed(0)
    stack = [
        layers.Input((4,)),
        layers.Dense(4, "tanh", kernel_regularizer="l2", name="below"),
        layers.Dropout(rate),
        layers.BatchNormalization(name="norm"),
        layers.Dense(1, name="head"),
    ]
    return models.compiled(keras.Sequential(stack), optimizer=optimizer, **kwargs), *models.data(
        (4,), (1,), 0
    )


def check_of(x, y, **options):
    """A callback that checks before every batch, with few samples."""
    return gradhooks.GradientCheck(x, y, **{"freq": 1, "samples": 4, **options})


def _none():
    return ()


def run(build, check=None, others=_none, between=None, **kwargs):
    """Trains a model from the same start, with the callback that `check(x, y)` makes, or
    without one.

    Args:
        build: Returns (model, x, y).
        check: None, or function of (x, y).
        others: Returns callbacks that come before the check; a pair (before, after) of lists puts
        some behind it.
        between: Called with the model after a first `fit`; a second one follows.
        **kwargs: Arguments of `fit`.

    Returns:
        A `Run`; the history is that of the last `fit`.
    """
    if (build, check, others, between, kwargs) == (small, None, _none, None, {}):
        NOTED.append(_plain_small())
        return NOTED[-1]
    NOTED.append(
        _run(build, check, others, between, {"epochs": 2, "batch_size": 32, "verbose": 0, **kwargs})
    )
    return NOTED[-1]


@functools.cache
def _plain_small():
    """What most runs are compared with."""
    return _run(small, None, _none, None, {"epochs": 2, "batch_size": 32, "verbose": 0})


def _run(build, check, others, between, kwargs):
    model, x, y = seeded(build)
    callback = check(x, y) if check else None
    before, after = _both(others())
    callbacks = [*before, *([callback] if check else []), *after]
    error, history = None, {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            history = model.fit(x, y, callbacks=callbacks, **kwargs).history
            if between is not None:
                between(model)
                history = model.fit(x, y, callbacks=callbacks, **kwargs).history
        except BaseException as raised:
            error = raised
    own = [str(w.message) for w in caught if issubclass(w.category, gradhooks.GradientCheckWarning)]
    history = {k: repr(v) for k, v in history.items() if k not in OWN_KEYS}
    return Run(digest.digest(model), history, callback, own, error)


def outcome(runs):
    """Returns what happened in the runs that had a callback, in words; empty if there were none."""
    plain = [r.left for r in runs if r.check is None]
    checked = [r for r in runs if r.check is not None]
    if not checked:
        return ""
    turns = [str(r.verdict) for one in checked for r in one.reports]
    verdicts = ", then ".join(v for k, v in enumerate(turns) if v not in turns[:k])
    parts = [verdicts or "no check"]
    if any(r.complaints for r in checked):
        most = max(len(r.complaints) for r in checked)
        parts.append("one warning" if most == 1 else "two warnings")
    parts += sorted({f"{type(r.error).__name__} comes out" for r in checked if r.error is not None})
    # A test may have further runs with nothing to compare them with; where bits must be the same,
    # it says so itself.
    if any(r.left in plain for r in checked):
        parts.append("every bit the same")
    return "; ".join(parts)


def _both(others):
    others = tuple(others)
    return others if len(others) == 2 and all(isinstance(o, list) for o in others) else (others, ())


def with_and_without(build, check=check_of, **kwargs):
    """Trains twice, asserts that every bit is the same, and returns the run with the callback."""
    plain = run(build, **kwargs)
    checked = run(build, check, **kwargs)
    assert checked.left == plain.left
    return checked


def stored(log_dir):
    """Steps of the reports in `reports.jsonl`, all of which must be whole."""
    reports, damaged = read_reports(pathlib.Path(log_dir, "gradcheck", "reports.jsonl"))
    assert damaged == 0
    return [r.step for r in reports]


def plotted(log_dir, tag="gradcheck/failures"):
    """Steps of a scalar in the event files, as TensorBoard reads them."""
    accumulator = EventAccumulator(str(pathlib.Path(log_dir, "gradcheck"))).Reload()
    return [point.step for point in accumulator.Tensors(tag)]


class At(keras.callbacks.Callback):
    """Calls a function of the model once, when a batch begins."""

    def __init__(self, batch, act):
        super().__init__()
        self._left, self._act = batch, act

    def on_train_batch_begin(self, batch, logs=None):
        self._left -= 1
        if self._left == -1:
            self._act(self.model)


@contextlib.contextmanager
def failing_evaluations(monkeypatch, after, error):
    """While open, every evaluation of the loss raises after the first `after` ones."""
    from gradhooks.model import oracle

    losses, remaining = oracle.ModelOracle.losses, [after]

    def counted(self, *args):
        remaining[0] -= 1
        if remaining[0] < 0:
            raise error
        return losses(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(oracle.ModelOracle, "losses", counted)
        yield
