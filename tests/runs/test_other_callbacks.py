"""The callback beside everything else that `fit()` can be asked for, in both orders where the
order matters.
"""

import concurrent.futures
import copy

import keras
import pytest

import gradhooks
from tests import needs
from tests.runs import training
from tests.runs.training import PASS, At, check_of, plotted, small, stored

pytestmark = pytest.mark.system

KEY = "gradcheck_relative_difference"
ORDERS = {
    "before the check": lambda *others: (list(others), []),
    "behind the check": lambda *others: ([], list(others)),
}


def in_order(order, *makers):
    """Returns a function that makes the callbacks anew for every run."""
    return lambda: ORDERS[order](*(make() for make in makers))


def ema():
    return keras.optimizers.Adam(use_ema=True, ema_momentum=0.5)


COMPILED = {
    "steps_per_execution": ({"steps_per_execution": 2}, [0, 2, 4]),
    "gradient_accumulation_steps": (
        {"optimizer": lambda: keras.optimizers.Adam(gradient_accumulation_steps=2)},
        [0, 1, 2, 3, 4],
    ),
    "jit_compile": ({"jit_compile": True}, [0, 1, 2, 3, 4]),
    "run_eagerly": ({"run_eagerly": True}, [0, 1, 2, 3, 4]),
}


@pytest.mark.parametrize("name", COMPILED)
def test_ways_of_compiling(name):
    options, steps = COMPILED[name]

    def build():
        return small(
            **{key: value() if callable(value) else value for key, value in options.items()}
        )

    checked = training.with_and_without(build)
    assert [r.step for r in checked.reports] == steps
    assert checked.verdicts == {PASS}
    assert not checked.complaints


def test_a_callback_without_a_list():
    model, x, y = small()
    check = check_of(x, y)
    model.fit(x, y, batch_size=32, verbose=0, callbacks=check)
    assert [r.verdict for r in check.reports] == [PASS] * 3


def test_training_in_another_thread():
    """What Keras counts and draws is kept per thread."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        checked = pool.submit(training.with_and_without, small).result()
    assert checked.verdicts == {PASS}
    assert not checked.complaints


def of_unknown_length():
    import tensorflow as tf

    model, x, y = small()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(32).filter(lambda x, y: True)
    assert data.cardinality() == tf.data.UNKNOWN_CARDINALITY
    return model, data, None


@needs.tensorflow("tf.data")
def test_an_epoch_of_unknown_length(tmp_path):
    checked = training.with_and_without(
        of_unknown_length, lambda x, y: check_of(x, y, log_dir=tmp_path), batch_size=None, epochs=3
    )
    assert [r.step for r in checked.reports] == [0, 1, 2, 3, 4, 5, 6]
    assert checked.verdicts == {PASS}
    assert stored(tmp_path) == plotted(tmp_path) == [0, 1, 2, 3, 4, 5, 6]


def test_a_later_initial_epoch_and_a_second_fit(tmp_path):
    checked = training.with_and_without(
        small,
        lambda x, y: check_of(x, y, log_dir=tmp_path, freq="epoch"),
        initial_epoch=1,
        epochs=3,
        between=lambda model: None,
    )
    assert [r.step for r in checked.reports] == [4, 6, 8]
    assert stored(tmp_path) == plotted(tmp_path) == [0, 2, 4, 4, 6, 8]


def drawn(reports):
    return {
        r.step: tuple((c.path, c.index, c.term) for c in r.comparisons if c.index is not None)
        for r in reports
    }


class PowerCutError(Exception):
    """Ends a run without warning."""


def cut(model):
    raise PowerCutError


@pytest.mark.parametrize(
    ("order", "freq"), [("before the check", "epoch"), ("behind the check", 1)]
)
def test_a_run_resumed_from_a_backup(tmp_path, order, freq):
    """The axis goes on, with the samples that the uninterrupted run draws, whoever comes first
    in the list.
    """

    def fit(log_dir, *others):
        def backup():
            return keras.callbacks.BackupAndRestore(
                tmp_path / f"backup-{log_dir.name}", delete_checkpoint=False
            )

        return training.run(
            # Keras' backup leaves out the states of dropout, so after it the noise is another.
            lambda: small("adam", rate=0.0),
            lambda x, y: check_of(x, y, log_dir=log_dir, freq=freq),
            others=in_order(order, backup, *others),
            epochs=4,
            shuffle=False,
        )

    whole = fit(tmp_path / "whole")
    broken = fit(tmp_path / "parts", lambda: At(5, cut))
    assert isinstance(broken.error, PowerCutError)
    resumed = fit(tmp_path / "parts")
    assert resumed.error is None
    assert resumed.reports[0].step == 4
    ends = range(0, 9, 2) if freq == "epoch" else range(9)
    assert drawn(whole.reports).keys() == set(ends)
    assert drawn(resumed.reports).items() <= drawn(whole.reports).items()
    assert resumed.reports[0].loss == next(r for r in whole.reports if r.step == 4).loss
    before = [s for s in ends if s <= (4 if order == "before the check" else 5)]
    steps = [*before, *(s for s in ends if s >= 4)]
    assert stored(tmp_path / "parts") == steps
    assert set(plotted(tmp_path / "parts")) == set(ends)


@pytest.mark.parametrize("order", ORDERS)
def test_model_checkpoint(tmp_path, order):
    """Behind the check, it sees the key of the same epoch.

    Before it, Keras says that there is none.
    """
    path = tmp_path / "best.keras"

    def checkpoint():
        return keras.callbacks.ModelCheckpoint(path, monitor=KEY, mode="min", save_best_only=True)

    # One epoch: saving a model takes names, and which of two epochs is the better one differs
    # without the check.
    checked = training.with_and_without(
        lambda: small("adam"), others=in_order(order, checkpoint), epochs=1
    )
    assert checked.verdicts == {PASS}
    assert path.exists() or order == "before the check"
    if path.exists():
        x, y = small()[1:]
        assert (
            gradhooks.check_gradients(keras.models.load_model(path), x, y, samples=4).verdict
            is PASS
        )


@pytest.mark.parametrize("order", ORDERS)
def test_early_stopping(order):
    def stopping():
        return keras.callbacks.EarlyStopping(monitor=KEY, mode="min", min_delta=1.0, patience=1)

    checked = training.run(small, check_of, others=in_order(order, stopping), epochs=5)
    assert checked.verdicts == {PASS}
    # No epoch is better than the first by 1.0, so the second is the last.
    assert len(checked.history["loss"].split(",")) == (2 if order == "behind the check" else 5)


def test_csv_logger_behind_the_check(tmp_path):
    training.run(
        small, check_of, others=lambda: ([], [keras.callbacks.CSVLogger(tmp_path / "log.csv")])
    )
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    column = header.split(",").index(KEY)
    assert len(rows) == 2
    assert all(0 <= float(row.split(",")[column]) < 1e-6 for row in rows)


@pytest.mark.parametrize("order", ORDERS)
def test_swapped_averages(order):
    """The averages stand in for the weights at the end of an epoch.

    The check takes what is there.
    """
    checked = training.with_and_without(
        lambda: small(optimizer=ema()),
        others=in_order(order, lambda: keras.callbacks.SwapEMAWeights(swap_on_epoch=True)),
    )
    assert checked.verdicts == {PASS}


@pytest.mark.parametrize("order", ORDERS)
def test_the_learning_rate_is_reduced(order):
    checked = training.with_and_without(
        small,
        others=in_order(
            order, lambda: keras.callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=10.0)
        ),
    )
    assert checked.verdicts == {PASS}
    assert not checked.complaints


def test_a_copy_per_trial(tmp_path):
    """As KerasTuner does it.

    The callbacks are copied for every trial, and never trained with themselves.
    """
    _, x, y = small()
    original = check_of(x, y, log_dir=tmp_path)
    for trial in range(2):
        (mine,) = copy.deepcopy([original])
        model, *_ = small()
        model.fit(x, y, batch_size=32, verbose=0, callbacks=[mine])
        assert [r.step for r in mine.reports] == [0, 1, 2]
        assert stored(tmp_path) == [0, 1, 2] * (trial + 1)
    assert original.reports == []
