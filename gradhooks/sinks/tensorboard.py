"""A report as TensorBoard sees it: scalars to plot, a text to read, the whole of it as JSON.

Event files are written directly: `tf.summary` would need TensorFlow, and would
silently drop points if another callback left a `record_if` behind.
"""

import dataclasses
import math
import os
import re
import socket
import time
from collections.abc import Sequence

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from gradhooks.reports.actions import advice, reproduction_line
from gradhooks.reports.answer import describe_finding, list_evidence_of_place
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.report import CheckReport
from gradhooks.reports.table import (
    DIGITS,
    HEADER,
    ROWS,
    cells,
    circumstances,
    differences,
    headline,
    legend,
    remarks,
    worst_first,
)
from gradhooks.reports.text import describe_origin, omission, printable
from gradhooks.sinks import histograms
from gradhooks.sinks.appending import WholeWrites

PLUGIN_NAME = "gradhooks"
# Plotted in place of zero, which has no logarithm: a free choice below 1e-16, the smallest relative
# difference that float64 can resolve.
SMALLEST_DIFFERENCE = 1e-18


class TensorBoardSink:
    """Writes reports into a TensorBoard run of their own, `<log_dir>/<name>`.

    The first `write()` opens the event file and every one flushes it, so that a
    report survives whatever ends the training. A sink goes on with the same file
    if it is written to after `close()`.

    Args:
        log_dir: Local directory that `tensorboard --logdir` is given.
        name: Name of the run and prefix of all tags. No other writer may
            use the run.
        histograms: Whether to write histograms of gradients too. Defaults to
            False.

    Raises:
        ValueError: If `log_dir` is a URL.

    Example:

    >>> import tempfile
    >>> from gradhooks.reports.reasons import Reason, Verdict
    >>> from gradhooks.reports.report import CheckReport
    >>> sink = TensorBoardSink(tempfile.mkdtemp())
    >>> sink.write(CheckReport(7, Verdict.PASS, Reason.AGREES, {"total": 3e-10}))
    >>> sink.close()
    """

    def __init__(self, log_dir, name="gradcheck", histograms=False):
        # open() would take a URL for a relative path and hide the events in a local folder.
        if "://" in os.fspath(log_dir):
            raise ValueError(
                "TensorBoardSink writes to a local directory. "
                f"Received: log_dir={log_dir!r}. Expected a path without '://'. "
                "Try a local directory, and copy or mount it to where TensorBoard runs."
            )
        self.log_dir = log_dir
        self.name = name
        self.histograms = histograms
        self._path = None
        self._writer = None

    def write(self, report, shown=None):
        """Appends a report at `report.step` and flushes it to the file.

        Args:
            report: A `CheckReport`.
            shown: The gradient to show beside it, a `GradientSnapshot`; None
                shows none.
        """
        if self._writer is None:
            self._open()
        content = summary(report, self.name, shown, self.histograms)
        event = event_pb2.Event(step=int(report.step), wall_time=time.time(), summary=content)
        self._writer.write(event.SerializeToString())
        self._writer.flush()

    def close(self):
        """Closes the event file, if one is open."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self):
        directory = os.path.join(self.log_dir, self.name)
        os.makedirs(directory, exist_ok=True)
        if self._path is None:
            unique = f"{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
            self._path = os.path.join(directory, f"events.out.tfevents.{unique}.gradhooks")
        file = open(self._path, "ab", buffering=0)  # noqa: SIM115 (open until close())
        # TensorBoard reads nothing behind half a record.
        writer = RecordWriter(WholeWrites(file))
        if file.tell() == 0:
            version = event_pb2.Event(file_version="brain.Event:2", wall_time=time.time())
            writer.write(version.SerializeToString())
        self._writer = writer


def summary(report, name, shown=None, with_histograms=False):
    """Returns a report as one `Summary` protobuf.

    Args:
        report: A `CheckReport`.
        name: Prefix of the tags.
        shown: A `GradientSnapshot` to show beside it, or None.
        with_histograms: Whether to add histograms of the gradient.
    """
    result = summary_pb2.Summary()
    if shown is not None:
        result.MergeFrom(histograms.summary(shown, name, with_histograms))
        # The dashboards show a selection; the report says so.
        unseen = histograms.omission_note(shown, with_histograms)
        if unseen:
            report = dataclasses.replace(report, notes=(*report.notes, unseen))
    for tag, number in scalars(report).items():
        result.MergeFrom(scalar_pb(f"{name}/{tag}", number))
    result.MergeFrom(text_pb(f"{name}/report", markdown(report)))
    result.MergeFrom(_json_pb(f"{name}/report_json", report))
    return result


def scalars(report: CheckReport) -> dict[str, float]:
    """Returns the numbers to plot: tag without prefix -> number, without unknown ones."""
    numbers = {}
    for term, difference in report.relative_difference.items():
        numbers[f"relative_difference/{term}"] = difference
    numbers |= {
        "log10_relative_difference": _log10(report.relative_difference.get("total")),
        "threshold": report.threshold,
        "failures": len(report.failures),
        "inconclusive": len(report.inconclusive),
        "coverage": report.coverage.share,
        "seconds": report.seconds,
        "overhead": report.overhead,
    }
    # TensorBoard draws NaN as a point at zero, where it looks like a perfect gradient.
    return {tag: n for tag, n in numbers.items() if n is not None and math.isfinite(n)}


def markdown(report: CheckReport) -> str:
    """Returns the report for TensorBoard's text dashboard."""
    worst = worst_first(report.comparisons)
    table = ""
    if worst:
        # TensorBoard breaks words rather than scroll, so that the fewest digits are shown.
        lines = [_table_row(HEADER), _table_row(["---"] * len(HEADER))]
        for c in worst[:ROWS]:
            lines.append(_table_row([inert(cell) for cell in cells(c, DIGITS[-1])]))
        table = "\n".join(lines)
    is_failure = report.verdict is Verdict.FAIL
    paragraphs = (
        f"**{inert(headline(report))}**",
        f"**{inert(describe_finding(report))}**" if is_failure else "",
        _bullets(list_evidence_of_place(report)) if is_failure else "",
        inert(differences(report)),
        table,
        inert(omission(len(worst) - ROWS, "comparisons")),
        inert(legend(worst[:ROWS])),
        _bullets([*advice(report), reproduction_line(report), *remarks(report)]),
        inert(circumstances(report)),
        inert(describe_origin(report.origin)),
    )
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def inert(text: str) -> str:
    """Returns text without any markup of Markdown or HTML; a layer may have any name.

    Example:

    >>> inert("<b>_x_")
    '&#60;b&#62;&#95;x&#95;'
    """
    return re.sub(r"[^a-zA-Z0-9 /,]", lambda found: f"&#{ord(found[0])};", printable(text))


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"* {inert(line)}" for line in lines)


def _table_row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _log10(difference: float | None) -> float | None:
    """The logarithm, in which TensorBoard's smoothing and outlier filter do not hide a spike."""
    if difference is None:
        return None
    return math.log10(max(difference, SMALLEST_DIFFERENCE))


def _json_pb(tag: str, report: CheckReport) -> summary_pb2.Summary:
    # TensorBoard lists tensors of unknown plugins only if they have a data class.
    metadata = summary_pb2.SummaryMetadata(
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME),
        data_class=summary_pb2.DATA_CLASS_TENSOR,
    )
    result = text_pb(tag, report.to_json())
    result.value[0].metadata.CopyFrom(metadata)
    return result
