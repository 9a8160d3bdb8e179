"""Stored reports survive a killed process and a full disk: event files and JSON lines."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison
from gradhooks.reports.report import CheckReport
from gradhooks.sinks.jsonl import FILE_NAME, JsonLinesSink, read_reports
from gradhooks.sinks.tensorboard import TensorBoardSink

pytestmark = pytest.mark.system

ROOT = pathlib.Path(__file__).parents[2]
# Smaller than the buffers of Python and of the system, and larger than both.
SIZES = (1, 300)


def report(step, size):
    compared = DerivativeComparison(
        "dense/kernel", (3, 4), "total", 0.5, 1.0, 1e-9, 1e-4, 1 / 3, Verdict.FAIL, Reason.MISMATCH
    )
    return CheckReport(
        step, Verdict.FAIL, Reason.MISMATCH, {"total": 1 / 3}, (compared,) * size, threshold=1e-6
    )


def lines(log_dir):
    """Steps of the reports in the JSON lines, and the number of damaged lines."""
    reports, damaged = read_reports(log_dir / "gradcheck" / FILE_NAME)
    return [r.step for r in reports], damaged


def event_file(log_dir):
    return next(path for path in (log_dir / "gradcheck").iterdir() if "tfevents" in path.name)


def events(log_dir):
    """Steps of the reports in the event file, as TensorBoard reads it."""
    return [
        e.step for e in EventFileLoader(str(event_file(log_dir))).Load() if e.HasField("summary")
    ]


def python(code, *arguments):
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)


WRITE_FOREVER = """
import itertools, sys
from gradhooks.sinks.jsonl import JsonLinesSink
from gradhooks.sinks.tensorboard import TensorBoardSink
from tests.sinks.test_survival import report

sinks = [TensorBoardSink(sys.argv[1]), JsonLinesSink(sys.argv[1])]
for step in itertools.count(1):
    for sink in sinks:
        sink.write(report(step, 300))
    print(step, flush=True)
"""


@pytest.mark.parametrize("count", [1, 5, 12])
def test_a_killed_writer_leaves_every_report_readable(tmp_path, count):
    process = python(WRITE_FOREVER, tmp_path)
    for _ in range(count):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    # What the process had told about was written; of the report it was busy with, all or nothing is
    # read.
    last = int((told.split() or [count])[-1])
    stored, damaged = lines(tmp_path)
    assert stored in ([*range(1, last + 1)], [*range(1, last + 2)])
    assert damaged <= 1
    assert events(tmp_path) in ([*range(1, last + 1)], [*range(1, last + 2)])
    JsonLinesSink(tmp_path).write(report(0, 1))
    assert lines(tmp_path) == ([*stored, 0], damaged)


def test_both_are_readable_while_they_are_written(tmp_path):
    process = python(WRITE_FOREVER, tmp_path)
    try:
        for _ in range(8):
            told = int(process.stdout.readline())
            stored, damaged = lines(tmp_path)
            assert stored[:told] == [*range(1, told + 1)]
            assert damaged <= 1
            assert events(tmp_path)[:told] == [*range(1, told + 1)]
    finally:
        process.kill()
        process.communicate(timeout=60)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_an_event_file_cut_off_within_its_last_record_keeps_the_others(tmp_path, share):
    sink, ends = TensorBoardSink(tmp_path), []
    for step in (1, 2, 3):
        sink.write(report(step, 1))
        ends.append(event_file(tmp_path).stat().st_size)
    sink.close()
    os.truncate(event_file(tmp_path), ends[1] + int(share * (ends[2] - ends[1])))
    assert events(tmp_path) == [1, 2]


# A limit on the size of files stands for a full disk: the system takes what still fits, and refuses
# the rest.
FILL_UP = """
import os, resource, signal, sys
from gradhooks.sinks.jsonl import JsonLinesSink
from gradhooks.sinks.tensorboard import TensorBoardSink
from tests.sinks.test_survival import report

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
directory, size, more, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
sink = (TensorBoardSink, JsonLinesSink)[number](directory)
sink.write(report(1, size))
file = os.path.join(directory, "gradcheck", os.listdir(os.path.join(directory, "gradcheck"))[0])
limit = os.path.getsize(file) + more
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
for step in (2, 3):
    try:
        sink.write(report(step, size))
    except OSError as error:
        print(error.errno, os.path.getsize(file) - limit + more)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.write(report(4, size))
sink.write(report(5, size))
sink.close()
"""


@pytest.mark.parametrize("number", [0, 1], ids=["events", "lines"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("more", [0, 1, 700])
def test_a_disk_that_fills_up_within_a_report_leaves_no_part_of_it(tmp_path, more, size, number):
    process = python(FILL_UP, tmp_path, size, more, number)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    # Twice the error of a file too large, and twice nothing of the report in the file.
    assert told == "27 0\n27 0\n"
    assert (events(tmp_path) if number == 0 else lines(tmp_path)) == (
        [1, 4, 5] if number == 0 else ([1, 4, 5], 0)
    )
