"""The command line as people and CI meet it: real processes, pipes and terminals."""

import contextlib
import json
import os
import pathlib
import pty
import re
import resource
import statistics
import subprocess
import sys
import time
import tomllib

import hypothesis
import pytest

from gradhooks import cli
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison
from gradhooks.reports.report import CheckReport
from gradhooks.sinks.jsonl import FILE_NAME, JsonLinesSink
from gradhooks.sinks.stored import find_runs
from tests.arbitrary import REPORTS
from tests.reports import old_report

pytestmark = pytest.mark.system

ROOT = pathlib.Path(__file__).parents[1]
HOSTILE = "\x1b[31mred\x1b]0;title\x07\n[bold]\u202ename\ud800"
ESCAPED = r"\x1b[31mred\x1b]0;title\x07\n[bold]\u202ename\ud800"
ENVIRON = {
    name: value
    for name, value in os.environ.items()
    if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")
}
ENVIRON |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
MODULE = (sys.executable, "-m", "gradhooks")


def report(step=0, gap=0.0, threshold=1e-6, path="dense/kernel"):
    """A report whose only comparison is off by a share `gap`."""
    is_wrong = 2 * threshold < gap
    judged, reason = (Verdict.FAIL, Reason.MISMATCH) if is_wrong else (Verdict.PASS, Reason.AGREES)
    compared = DerivativeComparison(
        path,
        (3, 4),
        "total",
        1.0,
        1.0 + gap,
        1e-12,
        1e-4,
        gap / 2,
        judged,
        reason,
        1.0 + gap,
        1.0 + gap,
    )
    return CheckReport(step, judged, reason, {"total": gap / 2}, (compared,), threshold=threshold)


UNDECIDED = CheckReport(3, Verdict.INCONCLUSIVE, Reason.NOT_DETERMINISTIC, {}, threshold=1e-6)


def store(directory, *reports, name="gradcheck"):
    sink = JsonLinesSink(directory, name)
    for each in reports:
        sink.write(each)
    return pathlib.Path(sink.path)


def gradhooks(*arguments, command=MODULE, **environ):
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRON | environ,
        timeout=60,
        check=False,
    )


def on_a_terminal(*arguments, columns=120, **environ):
    """What a process writes to a terminal."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [*MODULE, *map(str, arguments)], stdout=theirs, env=ENVIRON | environ
    )
    os.close(theirs)
    told = b""
    with contextlib.suppress(OSError):  # the other end closes when the process is done
        while part := os.read(ours, 65536):
            told += part
    os.close(ours)
    assert process.wait(60) == 0
    return told.decode().replace("\r\n", "\n")


def without_colour(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


# Show


def test_the_last_report_of_each_run_is_shown(tmp_path):
    store(tmp_path, report(1), report(2, gap=0.5))
    store(tmp_path / "other" / "deep", report(3), name="second")
    done = gradhooks("show", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    expected = (
        f"gradcheck: the last of 2 reports\n{report(2, gap=0.5)}\n\n"
        f"other/deep/second: 1 report\n{report(3)}\n\n"
    )
    assert done.stdout == expected


def test_a_report_stored_before_the_comparisons_were_of_two_kinds_is_shown(tmp_path):
    (tmp_path / FILE_NAME).write_text(f"{old_report.OLD_LINE}\n")
    done = gradhooks("show", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.partition("\n")[2] == f"{old_report.REPORT}\n\n"


def test_all_reports_are_shown_on_request(tmp_path):
    store(tmp_path, report(1), report(2))
    assert (
        gradhooks("show", "--all", tmp_path).stdout
        == f"gradcheck: 2 reports\n{report(1)}\n\n{report(2)}\n\n"
    )


def test_json_is_what_from_json_reads_with_the_name_of_the_run(tmp_path):
    told = report(1, path=HOSTILE), report(2)
    store(tmp_path / "a", *told)
    stdout = gradhooks("show", tmp_path, "--all", "--json").stdout
    read = [CheckReport.from_json(line) for line in stdout.splitlines()]
    assert repr([vars(r) for r in read]) == repr([vars(r) for r in told])
    assert {json.loads(line)["run"] for line in stdout.splitlines()} == {"a/gradcheck"}
    assert len(gradhooks("show", tmp_path, "--json").stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("below", "name"),
    [("", "a/gradcheck"), ("a", "gradcheck"), ("a/gradcheck", "gradcheck"), (None, "gradcheck")],
)
def test_a_directory_above_a_run_the_run_itself_or_its_file(tmp_path, below, name):
    path = store(tmp_path / "a", report(1))
    runs, unreadable = find_runs(path if below is None else tmp_path / below)
    assert [(run.name, len(run.reports)) for run in runs] == [(name, 1)]
    assert unreadable == []


def test_a_directory_may_be_relative_or_a_link(tmp_path, monkeypatch):
    store(tmp_path / "logs", report(1))
    (tmp_path / "latest").symlink_to(tmp_path / "logs")
    monkeypatch.chdir(tmp_path / "logs" / "gradcheck")
    assert [[run.name for run in find_runs(d)[0]] for d in (".", "..", "../../latest")] == [
        ["gradcheck"]
    ] * 3


def test_what_only_has_the_name_of_a_file_is_passed_over(tmp_path):
    store(tmp_path, report(1))
    (tmp_path / "directory" / FILE_NAME).mkdir(parents=True)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / FILE_NAME)
    (tmp_path / "dangling").mkdir()
    (tmp_path / "dangling" / FILE_NAME).symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to(tmp_path)
    assert [run.name for run in find_runs(tmp_path)[0]] == ["gradcheck"]


@pytest.mark.parametrize(
    "command", [["show"], ["show", "--json"], ["judge", "--threshold", "1e-3"]]
)
def test_without_stored_reports_the_status_is_2_and_says_what_to_try(tmp_path, command):
    for directory in (tmp_path, tmp_path / "missing"):
        done = gradhooks(*command, directory)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.search(
            rf"no stored report was found\. Received: {directory}\. Expected .* Try ", done.stderr
        )
    assert "No such file or directory" in done.stderr


def test_damaged_lines_are_told_apart_from_the_reports(tmp_path):
    path = store(tmp_path, report(1))
    with path.open("ab") as file:
        file.write(b"{}\n\xff\n" + b"[" * 10**5)
    for command in (["show"], ["judge"]):
        done = gradhooks(*command, tmp_path)
        assert (done.returncode, done.stderr) == (
            0,
            f"gradhooks: {path}: 3 damaged lines skipped\n",
        )
    path.write_text("{}")
    done = gradhooks("show", tmp_path)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        f"gradhooks: {path}: 1 damaged line skipped",
    )


@pytest.mark.skipif(
    not os.path.exists("/proc/self/mem"), reason="needs a file that can be opened, but not read"
)
def test_what_cannot_be_read_is_named_and_the_status_is_2(tmp_path):
    store(tmp_path, report(1))
    (tmp_path / "unreadable").mkdir()
    (tmp_path / "unreadable" / FILE_NAME).symlink_to("/proc/self/mem")
    for command, told in ((["show"], "gradcheck: 1 report\n"), (["judge"], "PASS: 1 report\n")):
        done = gradhooks(*command, tmp_path)
        assert (done.returncode, "Input/output error" in done.stderr, told in done.stdout) == (
            2,
            True,
            True,
        )


# Names from a file


@pytest.mark.parametrize("command", [["show"], ["judge"], ["judge", "--threshold", "1e-9"]])
def test_names_from_a_file_come_out_inert(tmp_path, command):
    told = report(1, gap=0.5, path=HOSTILE)
    store(tmp_path, told, name="\x1b[31mrun[bold]")
    done = gradhooks(*command, tmp_path)
    assert (
        ESCAPED if command[0] == "judge" else r" \x1b[31mred"
    ) in done.stdout  # the table has little room
    assert r"\x1b[31mrun[bold]" in done.stdout
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", done.stdout + done.stderr)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_report_is_told_in_any_encoding(tmp_path, encoding):
    store(tmp_path, report(1, path="двойной/ядро\ud800"))
    done = subprocess.run(
        [*MODULE, "show", tmp_path],
        capture_output=True,
        env=ENVIRON | {"PYTHONIOENCODING": encoding},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (
        "двойной" if encoding == "utf-8" else r"\u0434\u0432\u043e\u0439\u043d\u043e\u0439"
    ) in done.stdout.decode()


@hypothesis.given(REPORTS)
@hypothesis.settings(max_examples=40)
def test_any_stored_report_can_be_shown_and_judged(tmp_path_factory, told):
    directory = tmp_path_factory.mktemp("logs")
    store(directory, told)
    with open(directory / "out", "w", encoding="ascii") as out, contextlib.redirect_stdout(out):
        assert cli.main(["show", str(directory)]) == 0
        assert cli.main(["judge", str(directory), "--threshold", "1e-3"]) in (0, 1)
        assert cli.main(["judge", str(directory), "--json"]) == int(told.verdict is Verdict.FAIL)
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", (directory / "out").read_text())


# Judge

JUDGED = [
    # name, reports, options, status, last line
    ("all pass", [report(1), report(2, gap=1e-7)], [], 0, "PASS: 2 reports"),
    ("one fails", [report(1), report(2, gap=1e-3), report(3)], [], 1, "FAIL: 1 of 3 reports"),
    ("forgiven", [report(1), report(2, gap=1e-3)], ["--threshold", "0.01"], 0, "PASS: 2 reports"),
    (
        "not forgiven",
        [report(1), report(2, gap=1e-3)],
        ["--threshold", "1e-5"],
        1,
        "FAIL: 1 of 2 reports",
    ),
    (
        "accused",
        [report(1), report(2, gap=1e-7)],
        ["--threshold", "1e-9"],
        1,
        "FAIL: 1 of 2 reports",
    ),
    (
        "undecided",
        [report(1), UNDECIDED],
        [],
        0,
        "INCONCLUSIVE: nothing fails, but 1 of 2 reports could not be decided",
    ),
    (
        "undecided under any threshold",
        [UNDECIDED],
        ["--threshold", "0.5"],
        0,
        "INCONCLUSIVE: nothing fails, but 1 of 1 report could not be decided",
    ),
    (
        "undecided, strictly",
        [report(1), UNDECIDED],
        ["--strict"],
        1,
        "INCONCLUSIVE: nothing fails, but 1 of 2 reports could not be decided",
    ),
    ("all pass, strictly", [report(1)], ["--strict"], 0, "PASS: 1 report"),
]


@pytest.mark.parametrize(
    ("reports", "options", "status", "summary"), [j[1:] for j in JUDGED], ids=[j[0] for j in JUDGED]
)
def test_the_exit_status_is_the_verdict(tmp_path, reports, options, status, summary):
    store(tmp_path, *reports)
    done = gradhooks("judge", tmp_path, *options)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (status, summary)
    assert gradhooks("judge", tmp_path, *options, "--json").returncode == status


def test_a_damaged_line_is_a_failure_under_strict(tmp_path):
    with store(tmp_path, report(1)).open("a") as file:
        file.write("{")
    assert [
        gradhooks("judge", tmp_path, *options).returncode for options in ([], ["--strict"])
    ] == [0, 1]


def test_judge_names_what_fails_and_what_it_was_before(tmp_path):
    store(tmp_path, report(1), report(2, gap=1e-3), report(3, gap=0.5))
    lines = gradhooks("judge", tmp_path, "--threshold", "0.01").stdout.splitlines()
    assert lines == [
        "gradcheck: 3 reports: 2 PASS, 1 FAIL",
        "PASS (agrees) at step 2, gradcheck; threshold 1.0e-02; FAIL under 1.0e-06",
        "FAIL (mismatch) at step 3, gradcheck; threshold 1.0e-02; 1 failure, "
        "the worst: dense/kernel[3, 4], term total, relative difference 2.5e-01, "
        "gap 5.0e-01, allowed 2.5e-02",
        "FAIL: 1 of 3 reports",
    ]


def test_of_many_failures_the_latest_are_named(tmp_path):
    store(tmp_path, *(report(step, gap=0.5) for step in range(40)))
    lines = gradhooks("judge", tmp_path).stdout.splitlines()
    assert lines[:2] == ["gradcheck: 40 reports: 40 FAIL", "... and 28 more before these"]
    assert [
        f"step {step}," in line for step, line in zip(range(28, 40), lines[2:-1], strict=True)
    ] == [True] * 12


def test_judged_json_carries_the_new_verdict(tmp_path):
    store(tmp_path, report(1), report(2, gap=1e-3))
    told = gradhooks("judge", tmp_path, "--threshold", "0.01", "--json").stdout.splitlines()
    assert [CheckReport.from_json(line).verdict for line in told] == [Verdict.PASS, Verdict.PASS]
    assert {CheckReport.from_json(line).threshold for line in told} == {0.01}


def test_an_accusation_by_coarse_numbers_says_that_it_is_one(tmp_path):
    store(tmp_path, report(1), report(2, gap=1e-7))
    said = "1 report with new failures under a threshold smaller than that of the check"
    assert said in gradhooks("judge", tmp_path, "--threshold", "1e-9").stderr
    assert gradhooks("judge", tmp_path, "--threshold", "1e-5").stderr == ""


# Usage

MISUSE = [
    ([], "required: COMMAND"),
    (["show"], "required: LOG_DIR"),
    (["paint", "logs"], "invalid choice: 'paint'"),
    (["judge", "logs", "--threshold"], "expected one argument"),
    *(
        (
            ["judge", "logs", f"--threshold={value}"],
            f"Received: {value}. Expected a number above 0. Try 1e-6.",
        )
        for value in ("small", "0", "-1e-6", "nan", "inf")
    ),
]


@pytest.mark.parametrize(
    ("arguments", "said"), MISUSE, ids=[" ".join(m[0]) or "nothing" for m in MISUSE]
)
def test_bad_usage_ends_with_status_2_and_the_usage(arguments, said):
    done = gradhooks(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: gradhooks")
    assert said in done.stderr


@pytest.mark.parametrize("command", [[], ["show"], ["judge"], ["explain"]])
def test_help_tells_the_exit_statuses(command):
    done = gradhooks(*command, "--help")
    assert done.returncode == 0
    assert cli.STATUSES in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_the_version_is_told():
    import gradhooks as package

    assert gradhooks("--version").stdout == f"gradhooks {package.__version__}\n"


def test_the_console_script_is_the_same_program(tmp_path):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert declared == {"gradhooks": "gradhooks.cli:main"}
    script = pathlib.Path(sys.executable).with_name("gradhooks")
    if not script.exists():
        pytest.skip("gradhooks is not installed here")
    store(tmp_path, report(1, gap=0.5))
    for arguments in (
        ["show", tmp_path],
        ["judge", tmp_path],
        ["judge", tmp_path, "--threshold", "0"],
    ):
        one, other = gradhooks(*arguments, command=(script,)), gradhooks(*arguments)
        assert (one.returncode, one.stdout, one.stderr) == (
            other.returncode,
            other.stdout,
            other.stderr,
        )


# Pipes and terminals


@pytest.mark.parametrize(("command", "status"), [(["show", "--all"], 0), (["judge", "--json"], 1)])
def test_a_reader_that_has_seen_enough_ends_it_without_a_word(tmp_path, command, status):
    store(tmp_path, *(report(step, gap=0.5) for step in range(300)))
    shell = f"{' '.join(MODULE)} {' '.join(command)} {tmp_path} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, env=ENVIRON, timeout=60, check=False
    )
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (status, "", 1)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_no_verdict(tmp_path):
    store(tmp_path, report(1, gap=0.5))
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*MODULE, "judge", tmp_path],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRON,
        )
    assert (done.returncode, done.stderr) == (2, "gradhooks: [Errno 28] No space left on device\n")


def test_colour_is_for_terminals(tmp_path):
    store(tmp_path, report(1, gap=0.5, path="[bold]long/" * 5))
    told = on_a_terminal("show", tmp_path, columns=160)
    assert "\x1b[1;31mFAIL" in told
    assert "[bold]long/" * 5 + "[3, 4]" in without_colour(told)
    assert "\x1b" not in gradhooks("show", tmp_path).stdout
    told = on_a_terminal("judge", tmp_path, "--threshold", "0.9")
    assert "\x1b[1;32mPASS" in told


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_colour_can_be_declined(tmp_path, environ):
    store(tmp_path, report(1, gap=0.5))
    assert on_a_terminal("show", tmp_path, **environ) == gradhooks("show", tmp_path).stdout


@pytest.mark.parametrize("columns", [20, 80, 120])
def test_names_from_a_file_come_out_inert_on_a_terminal(tmp_path, columns):
    store(tmp_path, report(1, gap=0.5, path=HOSTILE), name="\x1b[31mrun[bold]")
    told = without_colour(on_a_terminal("show", tmp_path, columns=columns))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", told)
    assert (ESCAPED in told and r"\x1b[31mrun[bold]: 1 report" in told) or columns < 120
    assert max(map(len, told.splitlines())) <= columns


def test_a_narrow_terminal_gets_the_names_rather_than_the_digits(tmp_path):
    store(tmp_path, report(1, gap=0.5, path="encoder/block_11/dense/kernel"))
    narrow, wide = (without_colour(on_a_terminal("show", tmp_path, columns=c)) for c in (80, 100))
    assert all(
        "encoder/block_11/dense/kernel[3, 4]" in told and "mismatch" in told
        for told in (narrow, wide)
    )
    assert ("1.500" in narrow, "1.500" in wide) == (False, True)
    assert all(" allowed " in told for told in (narrow, wide))


# What starting costs


def test_no_framework_is_loaded(tmp_path):
    store(tmp_path, report(1))
    code = (
        "import sys; from gradhooks.cli import main\n"
        "shown = main(['show', sys.argv[1]])\n"
        "judged = main(['judge', sys.argv[1], '--threshold', '1e-3'])\n"
        "heavy = {'keras', 'tensorflow', 'tensorboard', 'jax', 'torch'}\n"
        "heavy |= {'google', 'rich', 'scipy'}\n"
        "statuses = [shown, judged]\n"
        "print(statuses, sorted(heavy & set(sys.modules)))"
    )
    assert (
        gradhooks(tmp_path, command=(sys.executable, "-c", code)).stdout.splitlines()[-1]
        == "[0, 0] []"
    )


def seconds(command):
    """Wall and processor time of a process."""
    used, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=ENVIRON, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def test_it_starts_in_half_a_second(tmp_path):
    store(tmp_path, *(report(step) for step in range(20)))
    runs = [
        (seconds([*MODULE, "show", tmp_path]), seconds([sys.executable, "-c", "import numpy"]))
        for _ in range(5)
    ]
    show, bare = (
        [statistics.median(kind) for kind in zip(*(run[k] for run in runs), strict=True)]
        for k in (0, 1)
    )
    print(
        f"\nshow: {show[0]:.3f} s wall, {show[1]:.3f} s processor; "
        f"numpy alone: {bare[0]:.3f} s, {bare[1]:.3f} s"
    )
    assert show[1] < 0.5
    # The clock on the wall counts the machine's other work as well, which NumPy alone shows.
    assert show[0] < max(0.5, 3 * bare[0])
