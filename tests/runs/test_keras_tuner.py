"""Executions of a hyperparameter search: beside TensorBoard's logs, or told apart by their fits."""

import copy
import pathlib

import keras
import pytest

import gradhooks
from gradhooks import cli
from gradhooks.sinks.jsonl import FILE_NAME, read_reports
from gradhooks.sinks.stored import find_runs
from tests import models, needs

needs_keras_tensorboard = needs.tensorflow("Keras' own TensorBoard callback")


def names_of_runs(directory):
    return [run.name for run in find_runs(directory)[0]]


@needs_keras_tensorboard
def test_reports_go_beside_the_logs_of_a_tensorboard_callback(tmp_path):
    model, x, y = models.mlp()
    board = keras.callbacks.TensorBoard(tmp_path / "first")
    check = gradhooks.GradientCheck(x, y, samples=4, log_dir=board)
    for name in ("first", "second"):
        board.log_dir = str(tmp_path / name)
        model.fit(x, y, verbose=0, callbacks=[board, check])
    assert names_of_runs(tmp_path) == ["first/gradcheck", "second/gradcheck"]


@needs_keras_tensorboard
def test_copies_made_together_stay_together(tmp_path):
    model, x, y = models.mlp()
    board = keras.callbacks.TensorBoard(tmp_path / "original")
    check = gradhooks.GradientCheck(x, y, samples=4, log_dir=board)
    copied_board, copied_check = copy.deepcopy([board, check])
    copied_board.log_dir = str(tmp_path / "copy")
    model.fit(x, y, verbose=0, callbacks=[copied_board, copied_check])
    assert names_of_runs(tmp_path) == ["copy/gradcheck"]


def test_a_log_dir_that_is_no_path_is_refused():
    class Strange:
        log_dir = 3

    _, x, y = models.mlp()
    with pytest.raises(gradhooks.BadInputError, match=r"a path or a keras\.callbacks\.TensorBoard"):
        gradhooks.GradientCheck(x, y, log_dir=Strange())


def search(directory, callbacks):
    """Searches among two models, each trained twice."""
    keras_tuner = pytest.importorskip("keras_tuner")

    def build(parameters):
        model, *_ = models.mlp()
        model.compile(keras.optimizers.SGD(parameters.Choice("rate", [0.01, 0.1])), "mse")
        return model

    tuner = keras_tuner.GridSearch(
        build, "loss", executions_per_trial=2, directory=directory, project_name="search"
    )
    _, x, y = models.mlp()
    tuner.search(x, y, epochs=1, verbose=0, callbacks=callbacks)


@needs_keras_tensorboard
@pytest.mark.system
def test_each_execution_of_a_search_has_a_directory_of_its_own(tmp_path):
    _, x, y = models.mlp()
    board = keras.callbacks.TensorBoard(tmp_path / "logs")
    check = gradhooks.GradientCheck(x, y, samples=4, log_dir=board)
    search(tmp_path, [board, check])
    assert names_of_runs(tmp_path / "logs") == [
        f"{trial}/execution{number}/gradcheck" for trial in ("0000", "0001") for number in (0, 1)
    ]
    for run in find_runs(tmp_path / "logs")[0]:
        assert [report.step for report in run.reports] == [0, 2]
        assert list(pathlib.Path(run.path).parents[1].glob("train/events.*"))


@pytest.mark.system
def test_executions_in_one_directory_are_fits_that_are_told_apart(tmp_path, capsys):
    _, x, y = models.mlp()
    search(tmp_path, [gradhooks.GradientCheck(x, y, samples=4, log_dir=tmp_path / "logs")])
    reports, _ = read_reports(tmp_path / "logs" / "gradcheck" / FILE_NAME)
    assert [report.step for report in reports] == [0, 2] * 4
    assert len({report.origin.fit for report in reports}) == 4
    capsys.readouterr()
    assert cli.main(["judge", str(tmp_path / "logs"), "--all-fits"]) == 0
    assert "gradcheck, fit 4 of 4" in capsys.readouterr().out
