"""Reports as JSON lines: what is written is read back, and damage stays where it is."""

import copy
import json
import os
import threading

import hypothesis
import hypothesis.strategies as st
import pytest

from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison
from gradhooks.reports.report import CheckReport
from gradhooks.sinks.jsonl import FILE_NAME, JsonLinesSink, read_reports
from tests.arbitrary import REPORTS


def report(step=0, size=1):
    compared = DerivativeComparison(
        "dense/kernel", (3, 4), "total", 0.5, 1.0, 1e-9, 1e-4, 1 / 3, Verdict.FAIL, Reason.MISMATCH
    )
    return CheckReport(
        step, Verdict.FAIL, Reason.MISMATCH, {"total": 1 / 3}, (compared,) * size, threshold=1e-6
    )


def steps(path):
    reports, damaged = read_reports(path)
    return [r.step for r in reports], damaged


@hypothesis.given(st.lists(REPORTS, max_size=3))
def test_what_is_written_is_read_back(tmp_path_factory, reports):
    sink = JsonLinesSink(tmp_path_factory.mktemp("logs"))
    sink.write(report())
    for each in reports:
        sink.write(each)
    stored, damaged = read_reports(sink.path)
    assert repr([vars(r) for r in stored[1:]]) == repr([vars(r) for r in reports])
    assert damaged == 0


def test_a_line_is_a_json_object_for_any_program(tmp_path):
    sink = JsonLinesSink(tmp_path)
    for step in (1, 2):
        sink.write(report(step))
    lines = (tmp_path / "gradcheck" / FILE_NAME).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_the_name_is_the_run(tmp_path):
    sink = JsonLinesSink(tmp_path, name="second")
    sink.write(report())
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.jsonl")] == [
        f"second/{FILE_NAME}"
    ]
    assert sink.path == str(tmp_path / "second" / FILE_NAME)


def test_a_url_is_refused_before_training_starts():
    with pytest.raises(
        ValueError, match=r"local directory.*Received: log_dir='gs://bucket/logs'.*Try "
    ):
        JsonLinesSink("gs://bucket/logs")


def test_the_constructor_opens_nothing_and_copies_write_on(tmp_path):
    original = JsonLinesSink(tmp_path)
    copies = [copy.deepcopy(original) for _ in range(2)]
    original.close()
    assert list(tmp_path.iterdir()) == []
    for step, each in enumerate(copies):
        each.write(report(step))
        copy.deepcopy(each).write(report(step + 10))
        each.close()
        each.close()
    assert steps(original.path) == ([0, 10, 1, 11], 0)


def test_a_resumed_run_appends_also_after_close(tmp_path):
    for step in (1, 2):
        sink = JsonLinesSink(tmp_path)
        sink.write(report(step))
        sink.close()
        sink.write(report(step + 10))
    assert steps(sink.path) == ([1, 11, 2, 12], 0)


def test_nothing_is_held_open_between_two_writes(tmp_path):
    sink = JsonLinesSink(tmp_path)
    before = os.listdir("/proc/self/fd")
    sink.write(report())
    assert os.listdir("/proc/self/fd") == before
    (tmp_path / "gradcheck").rename(tmp_path / "old")
    sink.write(report(1))
    assert steps(sink.path) == ([1], 0)


def test_a_report_that_cannot_be_written_down_leaves_nothing_behind(tmp_path):
    with pytest.raises(TypeError):
        JsonLinesSink(tmp_path).write(
            CheckReport(1, Verdict.PASS, Reason.AGREES, {"total": object()})
        )
    assert list(tmp_path.iterdir()) == []


DAMAGE = [
    # name, what stands in the file after the first report, number of damaged lines
    ("nothing", b"", 0),
    ("an empty line", b"\n\r\n", 0),
    ("a torn line", b'{"step":1,"verd', 1),
    ("a torn character", '{"name":"é'.encode()[:-1], 1),
    ("zeros", b"\0" * 4096, 1),
    ("words", b"hello\n", 1),
    ("several", b"[]\nnull\n\n{}\n" + b"[" * 10**5 + b"\n\xff\xfe\n", 5),
]


@pytest.mark.parametrize(("rest", "count"), [d[1:] for d in DAMAGE], ids=[d[0] for d in DAMAGE])
def test_damage_is_skipped_counted_and_written_past(tmp_path, rest, count):
    sink = JsonLinesSink(tmp_path)
    sink.write(report(1))
    with open(sink.path, "ab") as file:
        file.write(rest)
    assert steps(sink.path) == ([1], count)
    sink.write(report(2))
    sink.write(report(3))
    assert steps(sink.path) == ([1, 2, 3], count)


@hypothesis.given(st.integers(0, 2000))
@hypothesis.settings(max_examples=50)
def test_a_file_cut_off_anywhere_keeps_the_reports_before_and_takes_new_ones(tmp_path_factory, end):
    sink = JsonLinesSink(tmp_path_factory.mktemp("logs"))
    for step in range(3):
        sink.write(report(step))
    with open(sink.path, "rb") as file:
        lines = file.read().splitlines(keepends=True)
    kept = b"".join(lines)[:end]
    with open(sink.path, "wb") as file:
        file.write(kept)
    # A line without its end of line is a whole one.
    whole = kept.count(b"\n") + (kept.rpartition(b"\n")[2] in {line.rstrip() for line in lines})
    is_torn = whole < len(kept.splitlines())
    assert steps(sink.path) == (list(range(whole)), int(is_torn))
    sink.write(report(9))
    assert steps(sink.path) == ([*range(whole), 9], int(is_torn))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_raises_and_the_next_report_is_written_when_there_is_space(tmp_path):
    sink = JsonLinesSink(tmp_path)
    os.mkdir(tmp_path / "gradcheck")
    os.symlink("/dev/full", sink.path)
    with pytest.raises(OSError, match="No space left"):
        sink.write(report(1))
    os.remove(sink.path)
    sink.write(report(2))
    assert steps(sink.path) == ([2], 0)


def test_lines_of_several_writers_do_not_mix(tmp_path):
    sink = JsonLinesSink(tmp_path)
    threads = [
        threading.Thread(
            target=lambda k=k: [sink.write(report(100 * k + i, 50)) for i in range(20)]
        )
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found, damaged = steps(sink.path)
    assert (sorted(found), damaged) == ([100 * k + i for k in range(4) for i in range(20)], 0)
