"""A callback can be copied and pickled at any time; the copy goes on by itself."""

import copy
import pickle

import keras
import pytest

import gradhooks
from gradhooks.sinks.jsonl import read_reports
from tests import models

COPY = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda check: pickle.loads(pickle.dumps(check)),
}


def fit(model, x, y, check, *others):
    model.fit(x, y, batch_size=16, epochs=1, verbose=0, callbacks=[check, *others])


def stored(log_dir):
    return [r.step for r in read_reports(log_dir / "gradcheck" / "reports.jsonl").reports]


@pytest.mark.parametrize("way", COPY)
def test_a_copy_after_a_fit_trains_like_the_original(way, tmp_path):
    model, x, y = models.noisy()
    check = gradhooks.GradientCheck(x, y, samples=4, log_dir=tmp_path)
    fit(model, x, y, check)
    twin = COPY[way](check)
    assert [r.to_json() for r in twin.reports] == [r.to_json() for r in check.reports]
    assert twin.model is None
    before = check.reports
    fit(model, x, y, twin)
    assert [r.step for r in twin.reports] == [4, 8]
    assert check.reports is before
    assert stored(tmp_path) == [0, 4, 4, 8]
    # The copy, which traced the model anew, draws what the original draws.
    own, its = (checker.check(model, 8) for checker in (check._checker, twin._checker))
    assert own.loss == its.loss
    assert {c.label for c in own.comparisons} == {c.label for c in its.comparisons}


@pytest.mark.parametrize("way", COPY)
def test_a_copy_in_the_midst_of_a_fit(way, tmp_path):
    """As a callback that stores the state of a training makes one."""
    model, x, y = models.mlp()
    check = gradhooks.GradientCheck(x, y, samples=4, freq=1, log_dir=tmp_path)
    twins = []

    def store(batch, logs):
        twins.append(COPY[way](check))

    fit(model, x, y, check, keras.callbacks.LambdaCallback(on_train_batch_end=store))
    assert [r.step for r in check.reports] == [0, 1, 2, 3, 4]
    assert stored(tmp_path) == [0, 1, 2, 3, 4]
    assert [len(twin.reports) for twin in twins] == [1, 2, 3, 4]
    twin = twins[0]
    twin.set_model(model)
    twin.on_epoch_end(0)
    assert [r.step for r in twin.reports] == [0, 1]
    assert stored(tmp_path) == [0, 1, 2, 3, 4, 1]
