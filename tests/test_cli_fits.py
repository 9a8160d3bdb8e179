"""Fits that follow each other in one directory: the latest counts, as after a repair."""

import dataclasses
import json
import math

import keras
import pytest
import tensorflow as tf

from gradhooks import GradientCheck, GradientMismatchWarning
from gradhooks.reports.circumstances import Origin
from gradhooks.reports.fits import order_fits
from tests import models
from tests.test_cli import gradhooks, report, store

pytestmark = pytest.mark.system

BAD = 0.5


def of_fit(fit, time, *reports):
    """Reports as a fit writes them, a second apart."""
    return [
        dataclasses.replace(each, origin=Origin(time=time + k, fit=fit))
        for k, each in enumerate(reports)
    ]


FIRST = of_fit("a", 1_000_000_000.0, report(1, gap=BAD), report(2, gap=BAD))
SECOND = of_fit("b", 1_000_000_100.0, report(1), report(2), report(3))
ORDERS = {
    # name: (marks, the fits by age)
    "one": ([("a", 5.0), ("a", 6.0)], [[0, 1]]),
    "one after the other": ([("b", 1.0), ("a", 2.0)], [[0], [1]]),
    "written beside each other": ([("b", 1.0), ("a", 2.0), ("b", 3.0)], [[0, 2], [1]]),
    "files put together backwards": ([("b", 9.0), ("a", 2.0)], [[1], [0]]),
    "without an id, so older": ([("a", 5.0), ("", 0.0), ("", 0.0)], [[1, 2], [0]]),
    "without a time, by position": ([("b", 0.0), ("a", 0.0)], [[0], [1]]),
    "times that are none": ([("b", math.nan), ("a", math.inf), ("c", 1.0)], [[0], [1], [2]]),
    "nothing": ([], []),
}


@pytest.mark.parametrize(("marks", "fits"), ORDERS.values(), ids=ORDERS)
def test_fits_are_told_apart_by_id_and_ordered_by_time(marks, fits):
    assert order_fits(marks) == fits


def test_after_a_repair_the_status_is_0(tmp_path):
    store(tmp_path, *FIRST)
    assert gradhooks("judge", tmp_path).returncode == 1
    store(tmp_path, *SECOND)
    done = gradhooks("judge", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "gradcheck: 3 reports: 3 PASS",
        "1 earlier fit left out, with failed checks; see --all-fits",
        "PASS: 3 reports",
    ]


def test_a_repair_that_breaks_again_fails(tmp_path):
    store(tmp_path, *FIRST, *SECOND, *of_fit("c", 1_000_000_200.0, report(1, gap=BAD)))
    done = gradhooks("judge", tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "FAIL: 1 of 1 report")
    assert "2 earlier fits left out, 1 of them with failed checks" in done.stdout


def test_all_fits_are_judged_on_request(tmp_path):
    store(tmp_path, *FIRST, *SECOND)
    done = gradhooks("judge", tmp_path, "--all-fits")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "gradcheck, fit 1 of 2 (2001-09-09T01:46:40Z): 2 reports: 2 FAIL"
    assert lines[-2:] == [
        "gradcheck, fit 2 of 2 (2001-09-09T01:48:20Z): 3 reports: 3 PASS",
        "FAIL: 2 of 5 reports",
    ]
    assert "left out" not in done.stdout


def test_each_run_has_a_latest_fit_of_its_own(tmp_path):
    store(tmp_path / "one", *FIRST, *SECOND)
    store(tmp_path / "two", *FIRST)
    done = gradhooks("judge", tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "FAIL: 2 of 5 reports")


def test_reports_of_older_versions_are_one_fit_that_came_first(tmp_path):
    store(tmp_path, report(1, gap=BAD), report(2))
    assert gradhooks("judge", tmp_path).returncode == 1
    store(tmp_path, *SECOND)
    done = gradhooks("judge", tmp_path)
    assert (done.returncode, "1 earlier fit left out" in done.stdout) == (0, True)


def test_the_latest_fit_is_shown(tmp_path):
    store(tmp_path, *SECOND, *FIRST)  # by time, not by position
    done = gradhooks("show", tmp_path)
    assert done.stdout == (
        "gradcheck: the last of 3 reports\n"
        "1 earlier fit left out, with failed checks; see --all-fits\n"
        f"{SECOND[-1]}\n\n"
    )
    shown = gradhooks("show", tmp_path, "--all-fits").stdout
    assert shown == (
        f"gradcheck, fit 1 of 2 (2001-09-09T01:46:40Z): the last of 2 reports\n{FIRST[-1]}\n\n"
        f"gradcheck, fit 2 of 2 (2001-09-09T01:48:20Z): the last of 3 reports\n{SECOND[-1]}\n\n"
    )


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        (["show"], [3]),
        (["show", "--all"], [1, 2, 3]),
        (["show", "--all-fits"], [2, 3]),
        (["show", "--all", "--all-fits"], [1, 2, 1, 2, 3]),
        (["judge"], [1, 2, 3]),
        (["judge", "--all-fits"], [1, 2, 1, 2, 3]),
    ],
)
def test_json_holds_the_chosen_fits_and_what_is_left_out_is_told_beside_it(
    tmp_path, arguments, steps
):
    store(tmp_path, *FIRST, *SECOND)
    done = gradhooks(*arguments, tmp_path, "--json")
    assert [json.loads(line)["step"] for line in done.stdout.splitlines()] == steps
    is_all = "--all-fits" in arguments
    assert ("gradhooks: gradcheck: 1 earlier fit left out" in done.stderr) != is_all


@tf.custom_gradient
def halved(x):
    return x * 1.0, lambda g: 0.5 * g


def test_a_model_is_trained_repaired_and_trained_again_in_one_directory(tmp_path):
    def train(activation):
        keras.utils.set_random_seed(0)
        model, x, y = models.mlp(middle=[keras.layers.Lambda(activation)])
        check = GradientCheck(x, y, log_dir=tmp_path, samples=8)
        model.fit(x, y, batch_size=16, verbose=0, callbacks=[check])

    with pytest.warns(GradientMismatchWarning):
        train(halved)
    assert gradhooks("judge", tmp_path).returncode == 1
    train(tf.identity)
    done = gradhooks("judge", tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 earlier fit left out, with failed checks" in done.stdout
    assert gradhooks("judge", tmp_path, "--all-fits").returncode == 1
