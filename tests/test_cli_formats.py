"""`gradhooks judge` for CI: annotations of GitHub, and JUnit XML."""

import dataclasses
import re
from xml.etree import ElementTree

import pytest

from gradhooks.cli import formats
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.message import failure_message
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.sinks.jsonl import FILE_NAME
from tests.test_cli import HOSTILE, UNDECIDED, gradhooks, report, store
from tests.test_cli_fits import FIRST, SECOND

pytestmark = pytest.mark.system

COMMAND = re.compile(r"::(error|warning|notice) (.*?)::(.*)")
BROKEN = CheckReport(4, Verdict.INCONCLUSIVE, Reason.ERROR, {}, error="OSError: no\nmore")


def placed(step, source, path="net/swish"):
    """A failed report that knows the line of the error."""
    place = Culprit(
        "layer", path, source=source, sentence=f"the backward pass of `{path}` is wrong"
    )
    return dataclasses.replace(report(step, gap=0.5), culprit=place)


def annotations(*arguments, **environ):
    """Returns the status, (level, properties, message) of every annotation, and other lines."""
    done = gradhooks("judge", *arguments, "--format", "github", **environ)
    found, others = [], []
    for line in done.stdout.splitlines():
        command = COMMAND.fullmatch(line)
        if command is None:
            others.append(line)
            continue
        level, listed, message = command.groups()
        properties = dict(pair.split("=", 1) for pair in listed.split(","))
        found.append((level, {k: unescaped(v) for k, v in properties.items()}, unescaped(message)))
    return done.returncode, found, others


def unescaped(text):
    """As GitHub reads it; the percent sign comes last."""
    for escaped, plain in (("%0A", "\n"), ("%0D", "\r"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(escaped, plain)
    return text


def test_a_failure_is_an_annotation_at_its_line(tmp_path):
    told = placed(7, str(tmp_path / "src" / "net.py") + ":12")
    store(tmp_path / "logs", report(3), told)
    status, found, others = annotations(tmp_path / "logs", GITHUB_WORKSPACE=str(tmp_path))
    assert status == 1
    properties = {
        "file": "src/net.py",
        "line": "12",
        "title": "Gradient check failed: gradcheck, 1 check",
    }
    assert found == [("error", properties, failure_message(told))]
    assert others == ["FAIL: 1 of 2 reports"]


SOURCES = [
    ("/builds/src/net.py:12", {"file": "src/net.py", "line": "12"}),
    ("/elsewhere/net.py:12", {"file": "/elsewhere/net.py", "line": "12"}),
    ("/builds/..net.py:3", {"file": "..net.py", "line": "3"}),
    ("net.py:12", {"file": "net.py", "line": "12"}),
    ("<ipython-input-1>:3", {"file": "<ipython-input-1>", "line": "3"}),
    ("/builds/a:b,c%.py:1", {"file": "a%3Ab%2Cc%25.py", "line": "1"}),
    ("net.py", {}),
    ("", {}),
]


@pytest.mark.parametrize(("source", "expected"), SOURCES)
def test_the_file_is_relative_to_the_workspace(source, expected):
    fit = formats.Fit("run", (placed(1, source),))
    (line,) = formats.list_annotations([fit], False, "/builds")
    properties = dict(pair.split("=", 1) for pair in COMMAND.fullmatch(line)[2].split(","))
    assert {k: v for k, v in properties.items() if k != "title"} == expected


def test_checks_that_found_the_same_are_one_annotation(tmp_path):
    many = [placed(step, "net.py:1") for step in range(30)]
    store(tmp_path, *many, placed(30, "net.py:9", "net/other"), report(31, gap=0.5), UNDECIDED)
    _, found, _ = annotations(tmp_path)
    titles = [properties["title"] for _, properties, _ in found]
    assert titles == [
        "Gradient check failed: gradcheck, 30 checks",
        "Gradient check failed: gradcheck, 1 check",
        "Gradient check failed: gradcheck, 1 check",
        "Gradient check undecided: gradcheck, 1 check",
    ]
    assert "at step 29 " in found[0][2]


@pytest.mark.parametrize(("options", "level"), [([], "warning"), (["--strict"], "error")])
def test_what_is_not_decided_is_a_warning_and_strictly_an_error(tmp_path, options, level):
    with store(tmp_path, UNDECIDED, BROKEN).open("a") as file:
        file.write("{")
    status, found, _ = annotations(tmp_path, *options)
    assert status == (level == "error")
    assert [(each, text) for each, _, text in found] == [
        (level, f"not_deterministic: {Reason.NOT_DETERMINISTIC.explanation}"),
        (level, r"OSError: no\nmore"),
        (level, "1 damaged line skipped"),
    ]


def test_a_healthy_run_has_no_annotation_but_that_of_what_is_left_out(tmp_path):
    store(tmp_path, *FIRST, *SECOND)
    status, found, others = annotations(tmp_path)
    assert (status, others) == (0, ["PASS: 3 reports"])
    left_out = "1 earlier fit left out, with failed checks; see --all-fits"
    assert found == [("notice", {"title": "Gradient checks: gradcheck"}, left_out)]


def test_no_name_from_a_file_begins_a_command(tmp_path):
    hostile = f"::error::x\n::stop-commands::y\r\n{HOSTILE}::,=%0A"
    store(tmp_path, placed(1, f"{hostile}.py:3", hostile), name="::set-env name=a::b,c")
    done = gradhooks("judge", tmp_path, "--format", "github")
    assert len(done.stdout.splitlines()) == 2
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", done.stdout)
    _, [(_, properties, message)], _ = annotations(tmp_path)
    assert properties["title"] == "Gradient check failed: ::set-env name=a::b,c, 1 check"
    assert r"::error::x\n::stop-commands::y\r\n" in message


def junit(*arguments):
    done = gradhooks("judge", *arguments, "--format", "junit")
    return done.returncode, ElementTree.fromstring(done.stdout)


def test_junit_has_a_suite_for_each_run_and_a_case_for_each_report(tmp_path):
    failed = placed(7, "net.py:1")
    store(tmp_path / "a", report(3), failed, UNDECIDED, BROKEN)
    store(tmp_path / "b", *FIRST, *SECOND)
    status, root = junit(tmp_path)
    assert status == 1
    one, two = root.findall("testsuite")
    assert one.attrib == {
        "name": "a/gradcheck", "tests": "4", "failures": "1", "skipped": "1", "errors": "1",
    }  # fmt: skip
    assert [(c.get("classname"), c.get("name")) for c in one.iter("testcase")] == [
        ("a/gradcheck", f"step {step}") for step in (3, 7, 3, 4)
    ]
    (failure,) = one.iter("failure")
    assert failure.get("message") == failed.culprit.sentence
    assert failure.text == failure_message(failed)
    assert [e.tag for c in one.iter("testcase") for e in c] == ["failure", "skipped", "error"]
    assert (two.get("tests"), two.get("timestamp")) == ("3", "2001-09-09T01:48:20Z")
    assert "1 earlier fit left out" in two.find("system-out").text


def test_junit_is_as_strict_as_the_status(tmp_path):
    with store(tmp_path, UNDECIDED, BROKEN).open("a") as file:
        file.write("{")
    status, root = junit(tmp_path, "--strict")
    (suite,) = root
    assert (status, suite.get("tests"), suite.get("failures")) == (1, "3", "3")
    status, root = junit(tmp_path)
    (suite,) = root
    assert (status, suite.get("tests"), suite.get("failures")) == (0, "2", "0")


def test_junit_of_every_fit_is_one_suite(tmp_path):
    store(tmp_path, *FIRST, *SECOND)
    _, root = junit(tmp_path, "--all-fits")
    (suite,) = root
    names = [case.get("name") for case in suite.iter("testcase")]
    assert names == [
        f"fit {n}, step {step}" for n, step in ((1, 1), (1, 2), (2, 1), (2, 2), (2, 3))
    ]


def test_junit_holds_any_name(tmp_path):
    told = dataclasses.replace(placed(1, "net.py:1", f"{HOSTILE}<&]]>\x00"), seconds=float("inf"))
    store(tmp_path, told, name="<run> & \x1b")
    _, root = junit(tmp_path)
    assert root[0].get("name") == r"<run> & \x1b"
    assert r"<&]]>\x00" in root[0][0][0].get("message")


@pytest.mark.parametrize("form", ["text", "json", "github", "junit"])
@pytest.mark.parametrize("gap", [0.0, 0.5])
def test_the_status_does_not_depend_on_the_format(tmp_path, form, gap):
    store(tmp_path, report(1, gap=gap))
    assert gradhooks("judge", tmp_path, "--format", form).returncode == (gap > 0)
    assert gradhooks("judge", tmp_path / "nothing", "--format", form).returncode == 2


def test_json_is_a_format_with_an_option_of_its_own(tmp_path):
    store(tmp_path, report(1), report(2, gap=0.5))
    one, other = (gradhooks("judge", tmp_path, *o) for o in (["--json"], ["--format", "json"]))
    assert one.stdout == other.stdout
    assert len(one.stdout.splitlines()) == 2


def test_a_file_of_damaged_lines_alone_can_be_written_beside_others(tmp_path):
    store(tmp_path / "good", report(1))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / FILE_NAME).write_text("{}\n")
    _, root = junit(tmp_path)
    assert [suite.get("tests") for suite in root] == ["0", "1"]
    assert annotations(tmp_path)[0] == 0
