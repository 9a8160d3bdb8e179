"""What `gradhooks judge` writes for programs: annotations of GitHub, and JUnit XML."""

import math
import os
import re
from collections.abc import Sequence
from xml.etree import ElementTree

from gradhooks.cli.reading import Fit, count_of, describe_left_out
from gradhooks.reports.answer import describe_finding
from gradhooks.reports.message import failure_message
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.reports.table import headline
from gradhooks.reports.text import moment, printable

# A line of code in a report, "file:line".
_SOURCE = re.compile(r"(.+):(\d+)")


def list_annotations(
    fits: Sequence[Fit], is_strict: bool, workspace: str | None = None
) -> list[str]:
    """Returns workflow commands, which GitHub shows at the lines of code that they name.

    GitHub shows ten errors and ten warnings of a step, so that checks which found the
    same are one annotation, with the words of the latest. The rules for escaping are
    those of `@actions/core`, the toolkit's `command.ts`.

    Args:
        fits: Judged fits.
        is_strict: Whether what is not decided, or damaged, is an error.
        workspace: Directory of the checked-out repository, to which GitHub's paths
            are relative. Defaults to `GITHUB_WORKSPACE`, else to the current one.
    """
    workspace = workspace or os.environ.get("GITHUB_WORKSPACE") or os.getcwd()
    level = "error" if is_strict else "warning"
    lines: list[str] = []
    for fit in fits:
        for reports in _group_by_finding(fit.reports):
            latest = reports[-1]
            is_failure = latest.verdict is Verdict.FAIL
            checks = count_of(len(reports), "check")
            told = "failed" if is_failure else "undecided"
            properties = {"title": f"Gradient check {told}: {fit.title}, {checks}"}
            if is_failure:
                properties = {**_locate(latest, workspace), **properties}
            lines.append(_command("error" if is_failure else level, properties, _describe(latest)))
        title = {"title": f"Gradient checks: {fit.title}"}
        if fit.damaged and fit.number == fit.count:
            lines.append(_command(level, title, f"{count_of(fit.damaged, 'damaged line')} skipped"))
        if fit.left_out:
            lines.append(_command("notice", title, describe_left_out(fit)))
    return lines


def build_junit(fits: Sequence[Fit], is_strict: bool) -> str:
    """Returns JUnit XML in ASCII: a suite for each run, a test case for each report.

    What is not decided is skipped, or a failure if `is_strict`; a check that an error
    ended is an error.

    Args:
        fits: Judged fits.
        is_strict: Whether what is not decided, or damaged, is a failure.
    """
    root = ElementTree.Element("testsuites", name="gradhooks")
    by_run: dict[str, list[Fit]] = {}
    for fit in fits:
        by_run.setdefault(fit.run, []).append(fit)
    for run, of_run in by_run.items():
        suite = ElementTree.SubElement(root, "testsuite", name=run)
        for fit in of_run:
            for report in fit.reports:
                _add_case(suite, fit, report, is_strict)
        damaged = of_run[0].damaged
        if damaged and is_strict:
            case = ElementTree.SubElement(suite, "testcase", classname=run, name="stored lines")
            _add_result(case, "failure", f"{count_of(damaged, 'damaged line')} skipped", "")
        for word, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
            suite.set(word, str(len(list(suite.iter(tag)))))
        suite.set("errors", str(len(list(suite.iter("error")))))
        begun = moment(of_run[0].reports[0].origin.time) if of_run[0].reports else ""
        if begun:
            suite.set("timestamp", begun)
        left_out = [describe_left_out(fit) for fit in of_run if fit.left_out]
        if left_out:
            ElementTree.SubElement(suite, "system-out").text = "\n".join(left_out)
    ElementTree.indent(root)
    return ElementTree.tostring(root, "us-ascii", xml_declaration=True).decode("ascii")


def _add_case(suite: ElementTree.Element, fit: Fit, report: CheckReport, is_strict: bool) -> None:
    which = f"fit {fit.number}, " if fit.count > 1 else ""
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=fit.run,
        name=f"{which}step {report.step}",
        time=f"{report.seconds if math.isfinite(report.seconds) else 0.0:.3f}",
    )
    if report.verdict is Verdict.PASS:
        return
    kind = "failure"
    if report.verdict is Verdict.INCONCLUSIVE and not is_strict:
        kind = "error" if report.error else "skipped"
    message = describe_finding(report) if report.verdict is Verdict.FAIL else headline(report)
    _add_result(case, kind, message, _describe(report))


def _add_result(case: ElementTree.Element, kind: str, message: str, text: str) -> None:
    result = ElementTree.SubElement(case, kind, message=printable(message))
    result.text = text


def _describe(report: CheckReport) -> str:
    """What a report that does not pass says, in lines without control characters."""
    if report.verdict is Verdict.FAIL:
        return "\n".join(printable(line) for line in failure_message(report).split("\n"))
    return printable(report.error) or f"{report.reason}: {report.reason.explanation}"


def _group_by_finding(reports: Sequence[CheckReport]) -> list[list[CheckReport]]:
    """The reports that do not pass, those together that name the same place and reason."""
    groups: dict[tuple[object, ...], list[CheckReport]] = {}
    for report in reports:
        found = report.culprit
        place = (found.kind, found.path, found.call) if found else (report.reason,)
        if report.verdict is not Verdict.PASS:
            groups.setdefault((report.verdict, *place), []).append(report)
    return list(groups.values())


def _locate(report: CheckReport, workspace: str) -> dict[str, str]:
    """File and line of the culprit as properties of an annotation; empty if they are not known."""
    source = _SOURCE.fullmatch(report.culprit.source) if report.culprit else None
    if source is None:
        return {}
    file, line = source.groups()
    relative = os.path.relpath(file, workspace) if os.path.isabs(file) else file
    is_outside = relative.split(os.sep)[0] == os.pardir
    return {"file": (file if is_outside else relative).replace(os.sep, "/"), "line": line}


def _command(name: str, properties: dict[str, str], message: str) -> str:
    pairs: list[str] = []
    for key, value in properties.items():
        escaped = _escape(printable(value)).replace(":", "%3A").replace(",", "%2C")
        pairs.append(f"{key}={escaped}")
    return f"::{name} {','.join(pairs)}::{_escape(message)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
