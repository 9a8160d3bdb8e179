"""From verdicts to words, and to a Markdown table."""

from collections.abc import Sequence

from gradhooks import Verdict
from tools.checkers.case import Case

RIGHT = "right"
FALSE_ALARM = "false alarm"
MISSED = "missed"
UNDECIDED = "cannot say"
ERROR = "error"


def judge(case: Case, verdict: Verdict | None) -> str:
    """Returns what a cell says of a checker's verdict on a function.

    Where there is no derivative, "cannot say" is right; where the gradient is
    wrong, it has missed the error.
    """
    if verdict is None:
        return ERROR
    if not case.is_right:
        return RIGHT if verdict is Verdict.FAIL else MISSED
    if verdict is Verdict.FAIL:
        return FALSE_ALARM
    if verdict is Verdict.PASS or case.is_kinked:
        return RIGHT
    return UNDECIDED


def draw(cases: Sequence[Case], columns: dict[str, list[str]]) -> str:
    """Returns the table; `columns` holds one cell for each case, by checker."""
    lines = [_row(["function", "its gradient", *columns])]
    lines.append(_row(["---"] * (2 + len(columns))))
    kinds = dict.fromkeys(case.kind for case in cases)
    for kind in kinds:
        numbers = [number for number, case in enumerate(cases) if case.kind == kind]
        for number in numbers:
            case = cases[number]
            cells = [cells[number] for cells in columns.values()]
            lines.append(_row([case.name, "right" if case.is_right else "wrong", *cells]))
        lines.append(_total(f"{kind}: right of {len(numbers)}", RIGHT, columns, numbers))
    every = range(len(cases))
    healthy = sum(case.is_right for case in cases)
    lines.append(_total(f"false alarms of {healthy}", FALSE_ALARM, columns, every))
    lines.append(_total(f"missed of {len(cases) - healthy}", MISSED, columns, every))
    lines.append(_total(f"right of {len(cases)}", RIGHT, columns, every))
    return "\n".join(lines)


def draw_readings(columns: dict[str, list[str]]) -> str:
    """Returns a table of the totals alone, one row for each reading."""
    words = (RIGHT, FALSE_ALARM, MISSED, ERROR)
    lines = [_row(["other reading", *words]), _row(["---"] * 5)]
    for name, cells in columns.items():
        counts = [str(cells.count(word)) for word in words]
        lines.append(_row([name, *counts]))
    return "\n".join(lines)


def _total(name, word, columns, numbers):
    counts = []
    for cells in columns.values():
        count = sum(cells[number] == word for number in numbers)
        counts.append(f"**{count}**")
    return _row([f"**{name}**", "", *counts])


def _row(cells):
    return f"| {' | '.join(cells)} |"
