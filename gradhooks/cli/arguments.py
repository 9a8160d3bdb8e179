"""What the command line understands, and how it explains itself."""

import argparse
import math
from typing import Any

import gradhooks
from gradhooks.cli.explaining import explain
from gradhooks.cli.judging import judge
from gradhooks.cli.showing import show
from gradhooks.reports.text import printable
from gradhooks.sinks.jsonl import FILE_NAME

STATUSES = """exit status:
  0  show: reports were shown; judge: no report fails; explain: the word is known
  1  judge: a report fails; with --strict also: one is not decided, or a line is damaged
  2  bad usage, no stored report was found, or something could not be read
"""
COLOUR = "Colour on a terminal needs rich: pip install 'gradhooks[cli]'. NO_COLOR=1 turns it off."
SHOWING = """Shows what gradient checks found while a model trained.

That is the last report of each run, or all of them. Of a run that holds several
fits, the latest one is shown."""
JUDGING = """Judges all stored reports under another threshold, by their own numbers.

Agreements and mismatches are judged anew. Kinks, noise, blocked gradients,
declared mismatches and what the optimizer received do not depend on the
threshold and stay as they are. Under a threshold smaller than that of the check,
a failure may be due to the measurement: check again before you trust it."""

EXPLAINING = """Explains a word of a report: what it means, and what to do.

That is a reason, such as mismatch or kink, or a kind of culprit, such as layer."""


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser; `command` of what it parses is the function to call with it."""
    texts: dict[str, Any] = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "epilog": f"{STATUSES}\n{COLOUR}",
    }
    parser = argparse.ArgumentParser(
        "gradhooks", description="What gradient checks found, without the model.", **texts
    )
    parser.add_argument("--version", action="version", version=f"gradhooks {gradhooks.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    showing = commands.add_parser("show", help="show stored reports", description=SHOWING, **texts)
    showing.add_argument(
        "--all", action="store_true", help="show every report, not only the last one of each fit"
    )
    showing.add_argument(
        "--json", action="store_true", help="one JSON object a line, with the name of its run"
    )
    showing.set_defaults(command=show)
    judging = commands.add_parser(
        "judge", help="judge stored reports again", description=JUDGING, **texts
    )
    judging.add_argument(
        "--threshold",
        type=_threshold,
        metavar="T",
        help="relative difference; default: each report's",
    )
    judging.add_argument(
        "--strict", action="store_true", help="what is not decided, or damaged, is a failure"
    )
    judging.add_argument(
        "--format",
        choices=("text", "json", "github", "junit"),
        default="text",
        help="text (default); json; github: annotations of GitHub Actions; junit: JUnit XML",
    )
    judging.add_argument(
        "--json", action="store_const", const="json", dest="format", help="same as --format json"
    )
    judging.set_defaults(command=judge)
    for command in (showing, judging):
        command.add_argument(
            "log_dir", metavar="LOG_DIR", help=f"every {FILE_NAME} in it and below is a run"
        )
        command.add_argument(
            "--all-fits", action="store_true", help="take every fit, not only the latest of a run"
        )
    explaining = commands.add_parser(
        "explain", help="explain a word of a report", description=EXPLAINING, **texts
    )
    explaining.add_argument(
        "word", metavar="WORD", nargs="?", help="a reason or a kind of culprit; none lists all"
    )
    explaining.set_defaults(command=explain)
    return parser


def _threshold(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number <= 0:
        raise argparse.ArgumentTypeError(
            f"it is a relative difference. Received: {printable(text)}. "
            "Expected a number above 0. Try 1e-6."
        )
    return number
