"""Asks every checker about every function: `python -m tools.checkers [--write FILE]`.

Prints the table. With `--write` it also replaces, in a page, what lies between
the two marks. The other checkers are no dependencies of gradhooks; without one
of them the table has no column for it, and nothing is written.
"""

import argparse
import datetime
import pathlib
import platform
import sys

import numpy as np

from tools.checkers import answers, table
from tools.checkers.cases import CASES

BEGIN = "<!-- python -m tools.checkers writes from here -->"
END = "<!-- to here -->"


def judge_all(checkers):
    """Returns the cells of each column, by checker."""
    columns = {}
    for name, (_, ask) in checkers.items():
        columns[name] = [table.judge(case, answers.answer(ask, case)) for case in CASES]
    return columns


def render():
    """Returns (the tables as Markdown, names of packages that are not installed)."""
    packages = [package for package, _ in answers.CHECKERS.values()]
    missing = [package for package in packages if not answers.is_installed(package)]

    def select(checkers):
        return {name: entry for name, entry in checkers.items() if entry[0] not in missing}

    versions = [answers.version(package) for package in packages if package not in missing]
    parts = [
        f"{datetime.date.today():%-d %B %Y}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, {', '.join(versions)}:",
        table.draw(CASES, judge_all(select(answers.CHECKERS))),
    ]
    readings = judge_all(select(answers.OTHER_READINGS))
    if readings:
        parts.append(table.draw_readings(readings))
    return "\n\n".join(parts), missing


def write(page, text):
    """Replaces what lies between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{page} must have the lines {BEGIN!r} and {END!r}.")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(prog="python -m tools.checkers")
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE")
    page = parser.parse_args().write
    text, missing = render()
    print(text)
    if missing:
        print(
            f"\nNot installed: {', '.join(missing)}. "
            f"Try: python -m pip install {' '.join(missing)}",
            file=sys.stderr,
        )
    elif page:
        write(page, text)
    return int(bool(missing and page))


if __name__ == "__main__":
    sys.exit(main())
