"""Fits that follow each other in one run of TensorBoard: which checks stand, and what is told."""

import dataclasses
import time

import pytest

from gradhooks.reports.circumstances import Origin
from gradhooks.tensorboard_plugin import overview, reduction
from gradhooks.tensorboard_plugin.archive import _drop_repeated
from tests.tensorboard_plugin import logs
from tests.tensorboard_plugin.browser import needs_browser
from tests.tensorboard_plugin.serving import eventually, fetch, series, served
from tests.tensorboard_plugin.test_reduction import column, stored


def of_fit(fit, told):
    """A report of a fit; an empty id is that of an older version."""
    return dataclasses.replace(told, origin=Origin(fit=fit))


def view_of(*checks):
    """The overview of checks (fit, step, whether it fails), in the order of their making."""
    columns = []
    for wall_time, (fit, step, is_bad) in enumerate(checks):
        told = (logs.placed if is_bad else logs.report)(step)
        columns.append(column(of_fit(fit, told), wall_time=wall_time + 1.0))
    return overview.build_overview(columns)


BAD, GOOD = True, False
COURSES = {
    # name: (checks, steps that are shown, what is told of the fits)
    "one fit": (
        [("a", 0, BAD), ("a", 10, GOOD)],
        [0, 10],
        {"earlier": 0, "failed": 0, "first": 0, "is_repaired": False},
    ),
    "begun anew, and shorter": (
        [("a", 0, BAD), ("a", 10, BAD), ("a", 20, BAD), ("b", 0, GOOD), ("b", 10, GOOD)],
        [0, 10],
        {"earlier": 1, "failed": 1, "first": 0, "is_repaired": True},
    ),
    "gone on where the other ended": (
        [("a", 0, BAD), ("a", 10, BAD), ("b", 10, GOOD), ("b", 20, GOOD)],
        [0, 10, 20],
        {"earlier": 1, "failed": 1, "first": 1, "is_repaired": True},
    ),
    "still bad": (
        [("a", 0, BAD), ("b", 10, BAD), ("b", 20, GOOD)],
        [0, 10, 20],
        {"earlier": 1, "failed": 1, "first": 1, "is_repaired": False},
    ),
    "never bad": (
        [("a", 0, GOOD), ("b", 0, GOOD)],
        [0],
        {"earlier": 1, "failed": 0, "first": 0, "is_repaired": False},
    ),
    "three": (
        [("a", 0, BAD), ("a", 9, BAD), ("b", 5, GOOD), ("b", 15, GOOD), ("c", 7, GOOD)],
        [0, 5, 7],
        {"earlier": 2, "failed": 1, "first": 2, "is_repaired": True},
    ),
    "beside each other": (
        [("a", 0, BAD), ("b", 0, GOOD), ("a", 10, BAD), ("b", 10, GOOD)],
        [0, 10],
        {"earlier": 1, "failed": 1, "first": 0, "is_repaired": True},
    ),
    "older versions tell no fits apart": (
        [("", 0, BAD), ("", 10, BAD), ("", 0, GOOD)],
        [0, 10],
        {"earlier": 0, "failed": 0, "first": 0, "is_repaired": False},
    ),
    "after an older version": (
        [("", 0, BAD), ("", 10, BAD), ("b", 0, GOOD)],
        [0],
        {"earlier": 1, "failed": 1, "first": 0, "is_repaired": True},
    ),
}


@pytest.mark.parametrize(("checks", "steps", "fits"), COURSES.values(), ids=COURSES)
def test_what_a_later_fit_repeats_is_left_out(checks, steps, fits):
    view = view_of(*checks)
    assert [check["step"] for check in view["checks"]] == steps
    assert view["fits"] == fits


def test_the_answer_of_an_earlier_fit_that_the_latest_goes_on_from_is_over():
    view = view_of(("a", 0, BAD), ("b", 10, GOOD))
    assert [answer["is_over"] for answer in view["answers"]] == [True]
    assert view_of(("a", 0, BAD), ("b", 0, GOOD))["answers"] == []


def test_what_cannot_be_read_is_of_the_fit_around_it():
    unreadable = [reduction.reduce_report(step, 0.5 + step, stored("{")) for step in (0, 5)]
    told = [column(of_fit("a", logs.report(step)), wall_time=1.0 + step) for step in (1, 9)]
    view = overview.build_overview([*unreadable, *told])
    assert [check["step"] for check in view["checks"]] == [0, 1, 5, 9]
    assert view["fits"]["earlier"] == 0
    alone = overview.build_overview(unreadable)
    assert alone["fits"] == {"earlier": 0, "failed": 0, "first": 0, "is_repaired": False}


@pytest.mark.parametrize(
    ("steps", "kept"),
    [([0, 10, 20, 0, 10], [0, 10]), ([0, 10, 10, 20], [0, 10, 20]), ([0, 5, 3], [0, 3]), ([], [])],
)
def test_of_the_scalars_those_before_a_new_beginning_are_left_out(steps, kept):
    points = [(step, float(k)) for k, step in enumerate(steps)]
    assert [step for step, _ in _drop_repeated(points)] == kept


def write_fits(directory, *fits):
    """Writes fits, each with an event file of its own."""
    for fit, *reports in fits:
        logs.write(directory, *(of_fit(fit, each) for each in reports))
        time.sleep(0.02)  # file names hold the time


@pytest.mark.system
@pytest.mark.parametrize("options", [(), ("--load_fast=false",)], ids=str)
def test_tensorboard_shows_the_latest_fit(tmp_path, options):
    bad, good = [logs.placed(s) for s in (0, 10, 20)], [logs.report(s) for s in (0, 10)]
    write_fits(tmp_path / "anew", ("a", *bad), ("b", *good))
    write_fits(tmp_path / "on", ("a", *bad), ("b", *(logs.report(s) for s in (30, 40))))
    with served(tmp_path, tmp_path / "process", *options) as address:

        def views():
            found = [fetch(address, "overview", id=each["id"]) for each in series(address, 2)]
            return found if found[1]["checks_written"] == 5 else None

        anew, on = eventually(views)
    assert [(c["step"], c["verdict"]) for c in anew["checks"]] == [(0, "PASS"), (10, "PASS")]
    assert anew["checks_written"] == 2
    assert [c["step"] for c in on["checks"]] == [0, 10, 20, 30, 40]
    assert on["fits"] == {"earlier": 1, "failed": 1, "first": 3, "is_repaired": True}
    # TensorBoard's own reader has forgotten the earlier fit by the time that the tab asks.
    assert anew["fits"]["is_repaired"] == bool(options)


@needs_browser
@pytest.mark.system
def test_a_repaired_run_is_marked(tab, tmp_path):
    write_fits(tmp_path / "logs", ("a", logs.placed(0)), ("b", logs.report(10), logs.report(20)))
    with served(tmp_path / "logs", tmp_path / "process") as address:
        series(address)
        tab.open(address)
        tab.until("document.querySelector('.run .facts')?.textContent.startsWith('3 checks')")
        assert tab.text(".run .badge") == "PASS, repaired"
        assert "1 earlier fit, 1 with failed checks" in tab.text(".run .facts")
        assert "repaired" in tab.text(".filter")
        assert "FAIL" not in tab.text(".filter")
        assert tab.text(".summary") == "2 checks, none failed"
        assert "earlier fit" in tab.text(".failures")
        assert tab.severe() == []
