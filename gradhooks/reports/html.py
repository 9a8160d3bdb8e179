"""A report as HTML: what a notebook shows for it.

It says what `print(report)` says, in the same order, but with all comparisons, folded,
and with more digits. Nothing is loaded from elsewhere and nothing runs. Where the style
is taken away, as in a notebook that is not trusted, the words and their order remain.
"""

import html
import math
from collections.abc import Iterable, Iterator

from gradhooks.reports.actions import advice, reproduction, reproduction_line
from gradhooks.reports.answer import describe_finding
from gradhooks.reports.brief import count_comparisons
from gradhooks.reports.evidence import DIGITS
from gradhooks.reports.reasons import Verdict
from gradhooks.reports.records import Comparison, Report
from gradhooks.reports.table import (
    ACTIONS,
    HEADER,
    cells,
    circumstances,
    differences,
    headline,
    legend,
    list_evidence,
    remarks,
    worst_first,
)
from gradhooks.reports.text import omission, printable

# Rows of the table: a free choice; so many take about 150 kB of a notebook's file.
MOST_ROWS = 500
_ALLOWED = HEADER.index("allowed")
# The marks of the text become words, and what is allowed stands beside the gap that it limits.
COLUMNS = ("verdict", *HEADER[1:_ALLOWED], "gap", *HEADER[_ALLOWED:])
_FIRST_NUMBER, _LAST_NUMBER = COLUMNS.index("analytic") + 1, COLUMNS.index("rel.diff") + 1

# How a notebook says that it is light or dark: Jupyter, VS Code, Colab, pages made of notebooks.
_LIGHT = "[data-jp-theme-light=true], .vscode-light, [theme=light], [data-theme=light]"
_DARK = "[data-jp-theme-light=false], .vscode-dark, [theme=dark], [data-theme=dark]"

# Text, lines and background are those of the notebook, whatever its theme. A verdict has a colour
# of its own on both sides, so that it can be read on any. Only scroll bars have to know whether it
# is light or dark: what the notebook says comes behind what the system says. The class stands
# twice, so that these rules win against those that a notebook has for all tables.
_STYLE = f"""
.gh-report {{ color-scheme: light; }}
@media (prefers-color-scheme: dark) {{ .gh-report {{ color-scheme: dark; }} }}
:is({_LIGHT}) .gh-report {{ color-scheme: light; }}
:is({_DARK}) .gh-report {{ color-scheme: dark; }}
.gh-report.gh-report {{ color: inherit; line-height: 1.45; overflow-wrap: anywhere; }}
.gh-report.gh-report p {{ margin: 0 0 .5em; text-align: left; }}
.gh-report.gh-report ul {{ margin: 0 0 .5em; padding-left: 1.6em; list-style: disc; }}
.gh-report.gh-report .gh-finding {{ font-weight: 600; }}
.gh-report.gh-report .gh-small {{ font-size: .85em; opacity: .8; }}
.gh-report.gh-report code {{ background: none; color: inherit; padding: 0; white-space: pre-wrap;
  font-size: .92em; }}
.gh-report.gh-report .gh-verdict {{ padding: .1em .45em; border-radius: .25em; font-weight: 700;
  white-space: nowrap; }}
.gh-report.gh-report .gh-fail {{ background: #b3261e; color: #fff; }}
.gh-report.gh-report .gh-inconclusive {{ background: #f2c14e; color: #000; }}
.gh-report.gh-report .gh-pass {{ background: #1b6e3a; color: #fff; }}
.gh-report.gh-report details {{ margin: 0 0 .5em; }}
.gh-report.gh-report summary {{ cursor: pointer; display: list-item; }}
.gh-report.gh-report .gh-scroll {{ overflow: auto; max-height: 32em; margin: .4em 0; }}
.gh-report.gh-report table {{ border-collapse: collapse; margin: 0; font-size: .8em;
  table-layout: auto; color: inherit; }}
.gh-report.gh-report :is(tr, th, td) {{ background: none; color: inherit; border: 0;
  font-weight: inherit; text-align: left; vertical-align: baseline; }}
.gh-report.gh-report :is(th, td) {{ padding: .15em .5em; white-space: nowrap;
  border-bottom: 1px solid rgba(128, 128, 128, .35); }}
.gh-report.gh-report thead th {{ font-weight: 600; }}
.gh-report.gh-report tbody th {{ min-width: 16em; white-space: normal; }}
.gh-report.gh-report table .gh-pass {{ background: none; color: inherit; font-weight: 400; }}
.gh-report.gh-report :is(th, td):nth-child(n + {_FIRST_NUMBER}):nth-child(-n + {_LAST_NUMBER}) {{
  text-align: right; font-variant-numeric: tabular-nums; }}
"""


def render_html(report: Report) -> str:
    """Returns a report as a piece of HTML that stands by itself.

    Args:
        report: A `CheckReport`.

    Returns:
        str, one `section` element. Whatever comes from the report is printable
        and escaped.

    Example:

    >>> from gradhooks.reports.reasons import Reason
    >>> report = Report(7, Verdict.PASS, Reason.AGREES, {"total": 3e-10}, name="<b>")
    >>> "at step 7, &lt;b&gt;" in render_html(report)
    True
    """
    words = headline(report).removeprefix(str(report.verdict))
    parts = [
        f"<style>{_STYLE}</style>",
        f"<p>{_mark(report.verdict)}{_escape(words)}</p>",
        *_list_finding(report),
        _paragraph(differences(report)),
        *_fold_comparisons(report),
        *_list_actions(report),
        *_bullets(remarks(report)),
        _paragraph(circumstances(report), "gh-small"),
    ]
    return f'<section class="gh-report" aria-label="gradient check">{"".join(parts)}</section>'


def _list_finding(report: Report) -> Iterator[str]:
    """What is wrong and where, and what was measured there; nothing without a failure."""
    if report.verdict is Verdict.FAIL:
        yield _paragraph(describe_finding(report), "gh-finding")
        for heading, *lines in filter(None, [list_evidence(report)]):
            yield _paragraph(heading)
            yield from _bullets(lines)


def _list_actions(report: Report) -> Iterator[str]:
    """What to do, and the line that repeats the check; nothing without a failure."""
    if report.verdict is Verdict.FAIL:
        code = reproduction(report)
        words = reproduction_line(report).removesuffix(code)
        yield _paragraph(ACTIONS)
        yield from _bullets(advice(report))
        yield f"<p>{_escape(words)}<code>{_escape(code)}</code></p>"


def _fold_comparisons(report: Report) -> Iterator[str]:
    """The comparisons as a table that a click opens; nothing without any."""
    if not report.comparisons:
        return
    comparisons = worst_first(report.comparisons)
    shown = comparisons[:MOST_ROWS]
    heads = "".join(f'<th scope="col">{_escape(name)}</th>' for name in COLUMNS)
    yield f"<details><summary>{_escape(count_comparisons(report))}</summary>"
    # In focus, a keyboard scrolls it.
    yield '<div class="gh-scroll" tabindex="0" role="group" aria-label="comparisons">'
    yield f"<table><thead><tr>{heads}</tr></thead><tbody>"
    yield from map(_row, shown)
    yield "</tbody></table></div>"
    rest = omission(len(comparisons) - MOST_ROWS, "in report.comparisons")
    yield from (_paragraph(text, "gh-small") for text in (rest, legend(shown)) if text)
    yield "</details>"


def _row(comparison: Comparison) -> str:
    _, label, *others = cells(comparison, DIGITS)
    gap = "-" if math.isnan(comparison.gap) else f"{comparison.gap:.1e}"
    at = _ALLOWED - 2  # the mark and the label are not among the others
    data = "".join(f"<td>{_escape(text)}</td>" for text in [*others[:at], gap, *others[at:]])
    # A long path is broken between its parts.
    label = f'<th scope="row">{_escape(label).replace("/", "/<wbr>")}</th>'
    return f"<tr><td>{_mark(comparison.verdict)}</td>{label}{data}</tr>"


def _mark(verdict: Verdict) -> str:
    return f'<strong class="gh-verdict gh-{verdict.value}">{verdict}</strong>'


def _bullets(lines: Iterable[str]) -> list[str]:
    items = [f"<li>{_escape(line.strip())}</li>" for line in lines]
    return ["<ul>", *items, "</ul>"] if items else []


def _paragraph(text: str, kind: str = "") -> str:
    of_kind = f' class="{kind}"' if kind else ""
    return f"<p{of_kind}>{_escape(text)}</p>"


def _escape(text: str) -> str:
    return html.escape(printable(text))
