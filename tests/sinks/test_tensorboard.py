"""What TensorBoard's own readers, and a running TensorBoard, see of a written report."""

import contextlib
import copy
import html
import html.parser
import json
import math
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from tensorboard import context, plugin_util
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.compat.proto import summary_pb2

from gradhooks.reports.circumstances import Coverage
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison, Diagnosis, GradientComparison
from gradhooks.reports.report import CheckReport
from gradhooks.reports.text import printable
from gradhooks.sinks.tensorboard import TensorBoardSink, inert, markdown

HOSTILE = "<img src=x onerror=alert(1)>|`_a_`|![b](http://c/d.png)\n# e"


def report(step=0, **changes):
    wrong = DerivativeComparison(
        HOSTILE,
        (3, 4),
        "total",
        0.5,
        1.0,
        1e-9,
        1e-4,
        1 / 3,
        Verdict.FAIL,
        Reason.MISMATCH,
        1.0,
        1.0,
    )
    settings = {
        "comparisons": (wrong,),
        "diagnoses": (Diagnosis(HOSTILE, "a factor 2 is missing", ("total",), 0.5, 1.0),),
        "threshold": 1e-6,
        "coverage": Coverage(3, 4, 32, 1000),
        "seconds": 1.5,
        **changes,
    }
    differences = settings.pop(
        "relative_difference", {"total": 0.25, "data": 0.5, "penalty": 0.0, "trained": 1e-3}
    )
    return CheckReport(step, Verdict.FAIL, Reason.MISMATCH, differences, **settings)


def write(directory, *reports, **settings):
    sink = TensorBoardSink(directory, **settings)
    for each in reports:
        sink.write(each)
    sink.close()


def event_files(directory):
    return sorted(file for file in directory.rglob("*") if file.is_file())


def events(file):
    return list(EventFileLoader(str(file)).Load())


def accumulated(directory):
    accumulator = EventAccumulator(str(directory))
    accumulator.Reload()
    return accumulator


def points(directory):
    """Every scalar as TensorBoard reads it: tag -> [(step, value), ...]."""
    read = accumulated(directory)
    tags = (
        t
        for t in read.Tags()["tensors"]
        if read.SummaryMetadata(t).plugin_data.plugin_name == "scalars"
    )
    return {tag: [(e.step, e.tensor_proto.float_val[0]) for e in read.Tensors(tag)] for tag in tags}


def stored_reports(directory):
    stored = accumulated(directory).Tensors("gradcheck/report_json")
    return [CheckReport.from_json(e.tensor_proto.string_val[0].decode()) for e in stored]


def test_every_scalar_is_read_back(tmp_path):
    write(tmp_path, report(step=7))
    expected = {
        "relative_difference/total": 0.25,
        "relative_difference/data": 0.5,
        "relative_difference/penalty": 0.0,
        "relative_difference/trained": 1e-3,
        "log10_relative_difference": math.log10(0.25),
        "threshold": 1e-6,
        "failures": 1,
        "inconclusive": 0,
        "coverage": 0.75,
        "seconds": 1.5,
    }
    assert points(tmp_path / "gradcheck") == {
        f"gradcheck/{t}": [(7, np.float32(v))] for t, v in expected.items()
    }


def test_reports_follow_each_other_at_their_steps_and_times(tmp_path):
    before = time.time()
    write(
        tmp_path,
        report(),
        report(step=100),
        report(step=10**10, relative_difference={"total": 0.0}),
    )
    assert [step for step, _ in points(tmp_path / "gradcheck")["gradcheck/failures"]] == [
        0,
        100,
        10**10,
    ]
    assert points(tmp_path / "gradcheck")["gradcheck/log10_relative_difference"][-1] == (
        10**10,
        -18.0,
    )
    version, *rest = events(*event_files(tmp_path))
    assert version.file_version == "brain.Event:2"
    assert before <= version.wall_time <= rest[0].wall_time <= rest[-1].wall_time <= time.time()


@pytest.mark.parametrize("unknown", [math.nan, math.inf, None])
def test_an_unknown_number_is_not_plotted(tmp_path, unknown):
    write(tmp_path, report(relative_difference={"total": unknown, "data": 0.5}, threshold=math.nan))
    tags = {tag.removeprefix("gradcheck/") for tag in points(tmp_path / "gradcheck")}
    assert tags == {"relative_difference/data", "failures", "inconclusive", "coverage", "seconds"}


def test_the_whole_report_is_stored_where_a_plugin_can_list_it(tmp_path):
    told = report(step=7, threshold=math.nan, notes=("ünï",))
    write(tmp_path, told)
    assert [r.to_json() for r in stored_reports(tmp_path / "gradcheck")] == [told.to_json()]

    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(tmp_path))
    listed = provider.list_tensors(
        context.RequestContext(), experiment_id="", plugin_name="gradhooks"
    )
    assert {run: list(tags) for run, tags in listed.items()} == {
        "gradcheck": ["gradcheck/report_json"]
    }
    metadata = accumulated(tmp_path / "gradcheck").SummaryMetadata("gradcheck/report_json")
    assert metadata.data_class == summary_pb2.DATA_CLASS_TENSOR


def test_every_report_is_on_disk_before_the_next_check(tmp_path):
    sink = TensorBoardSink(tmp_path)
    for count in (1, 2):
        sink.write(report(step=count))
        assert len(events(*event_files(tmp_path))) == 1 + count
    sink.close()


def test_the_constructor_opens_nothing_and_copies_write_their_own_files(tmp_path):
    original = TensorBoardSink(tmp_path)
    copies = [copy.deepcopy(original) for _ in range(2)]
    original.close()
    assert event_files(tmp_path) == []
    for each in copies:
        each.write(report())
        each.close()
        each.close()
    files = event_files(tmp_path / "gradcheck")
    assert len(files) == 2
    assert all("tfevents" in file.name for file in files)


def test_a_closed_sink_goes_on_in_the_same_file(tmp_path):
    sink = TensorBoardSink(tmp_path)
    for step in (1, 2):
        sink.write(report(step=step))
        sink.close()
    assert [e.step for e in events(*event_files(tmp_path))] == [0, 1, 2]


def test_the_name_is_run_and_prefix(tmp_path):
    write(tmp_path, report(), name="second")
    assert all(
        tag.startswith("second/") for tag in accumulated(tmp_path / "second").Tags()["tensors"]
    )


def test_a_url_is_refused_before_training_starts():
    with pytest.raises(ValueError, match=r"local directory.*Received: log_dir='gs://bucket/logs'"):
        TensorBoardSink("gs://bucket/logs")


class Page(html.parser.HTMLParser):
    """The tags and the visible text of what TensorBoard makes of a Markdown source."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text = set(), ""
        self.feed(plugin_util.markdown_to_safe_html(source))
        self.close()
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


def test_hostile_names_are_shown_and_do_nothing():
    page = Page(markdown(report(error=HOSTILE, name=HOSTILE, trail=(HOSTILE,), notes=(HOSTILE,))))
    assert page.tags == {"p", "strong", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    assert page.text.count(printable(HOSTILE)) == 6
    assert "a factor 2 is missing" in page.text
    assert Reason.MISMATCH.explanation in page.text
    assert "gradhooks.check_gradients(model, x, y, " in page.text


def test_the_text_has_what_was_allowed_and_what_was_received():
    received = GradientComparison(
        "w",
        analytic_norm=3.0,
        received_norm=1.0,
        distance=2.0,
        relative_difference=0.5,
        verdict=Verdict.FAIL,
        reason=Reason.UNTRAINED,
        allowed=4.8e-4,
        dtype="bfloat16",
    )
    source = markdown(
        report(comparisons=(received,), threshold=math.nan, relative_difference={"total": math.nan})
    )
    header, _, row = (line for line in source.splitlines() if line.startswith("|"))
    told = dict(zip(header.split(" | "), map(html.unescape, row.split(" | ")), strict=True))
    assert (told["analytic"], told["numeric"], told["allowed"]) == (
        "3.000e+00",
        "1.000e+00",
        "4.8e-04",
    )
    text = Page(source).text
    explanation = (
        "trained: norms of the gradient by backpropagation "
        "and of what the optimizer receives (bfloat16)"
    )
    assert explanation in text
    assert "relative difference not measured" in text
    assert not re.search(r"\bnan\b", text)


@hypothesis.given(
    st.text(st.characters(), max_size=60) | st.text("<>&#;|*_`[]()!\\~-+=: \n1", max_size=60)
)
def test_inert(name):
    page = Page(f"* name: {inert(name)}\n\n| column |\n| --- |\n| name: {inert(name)} |")
    assert page.tags <= {"ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
    shown = " ".join(f"name: {printable(name)}".split())
    assert page.text == f"{shown} column {shown}"


def test_a_report_without_anything_in_it_is_written(tmp_path):
    write(
        tmp_path,
        CheckReport(0, Verdict.INCONCLUSIVE, Reason.ERROR, {}, error="ValueError: no loss"),
    )
    text = (
        accumulated(tmp_path / "gradcheck")
        .Tensors("gradcheck/report")[0]
        .tensor_proto.string_val[0]
        .decode()
    )
    assert "error: ValueError: no loss" in Page(text).text


WRITE_WITHOUT_A_FRAMEWORK = """
import sys
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.sinks.tensorboard import TensorBoardSink

sink = TensorBoardSink(sys.argv[1])
sink.write(CheckReport(7, Verdict.PASS, Reason.AGREES, {"total": 1e-9}))
sink.close()
print(sorted({"tensorflow", "keras", "jax", "torch"} & set(sys.modules)))
"""


def test_writing_imports_no_framework(tmp_path):
    command = [sys.executable, "-c", WRITE_WITHOUT_A_FRAMEWORK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert len(stored_reports(tmp_path / "gradcheck")) == 1


@contextlib.contextmanager
def served(log_dir, log_file, load_fast):
    """The address of a real TensorBoard process on `log_dir`."""
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(log_dir),
        "--host",
        "127.0.0.1",
    ]
    options = ["--port", "0", "--load_fast", load_fast, "--reload_interval", "1"]
    with log_file.open("w") as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log, cwd=log_dir)
    try:
        yield eventually(lambda: re.search(r"http://127\.0\.0\.1:\d+/", log_file.read_text())[0])
    finally:
        process.terminate()
        process.wait(30)


def eventually(attempt, seconds=90):
    """What `attempt` returns once it neither fails for want of an answer nor returns nothing."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, TypeError):
            if result := attempt():
                return result
        time.sleep(0.2)
    raise AssertionError("TensorBoard does not answer")


def fetch(address, route, **query):
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url = f"{address}data/plugin/{route}?{urllib.parse.urlencode(query)}"
    with direct.open(url, timeout=10) as response:
        return json.load(response)


@pytest.mark.system
@pytest.mark.parametrize("load_fast", ["false", "true"])
def test_a_running_tensorboard_serves_scalars_and_text(tmp_path, load_fast):
    log_dir = tmp_path / "logs"
    write(log_dir, report(step=7), report(step=8))
    with served(log_dir, tmp_path / "tensorboard.log", load_fast) as address:
        tags = eventually(lambda: fetch(address, "scalars/tags"))
        assert set(tags["gradcheck"]) == set(points(log_dir / "gradcheck"))
        tag = "gradcheck/relative_difference/total"
        scalars = fetch(address, "scalars/scalars", run="gradcheck", tag=tag)
        assert [(step, value) for _, step, value in scalars] == [(7, 0.25), (8, 0.25)]
        assert fetch(address, "text/tags") == {"gradcheck": ["gradcheck/report"]}
        texts = fetch(address, "text/text", run="gradcheck", tag="gradcheck/report")
        assert [text["step"] for text in texts] == [7, 8]
        assert "<table>" in texts[0]["text"]
        assert "<img" not in texts[0]["text"]
