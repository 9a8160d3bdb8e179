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
  0  show, explain: done; judge: no check failed
  1  judge: a check failed; with --strict also if one is undecided or a line is damaged
  2  wrong usage, no stored report found, or something could not be read
"""
COLOUR = "Output to a terminal is coloured; set NO_COLOR=1 to turn that off."
SHOWING = """Shows what gradient checks found while a model trained.

By default, that is the last report of each run. If a model was trained several
times with the same log directory, only its latest training is shown."""
JUDGING = """Tells whether any stored gradient check failed, for use in CI.

With --threshold, the stored measurements are compared again, without the model.
The threshold affects only gradients that agreed or disagreed with the measurement.
Kinks, noise, blocked gradients, expected mismatches and the gradient that the
optimizer received keep their verdicts.

A check measures no more precisely than its own threshold requires. If a smaller
threshold makes it fail, run the check again with that threshold before you trust
the result.

If a model was trained several times with the same log directory, only its latest
training is judged, so that a model you have fixed passes."""
EXPLAINING = """Explains a word used in reports: what it means and what to do about it.

The word is a reason, such as mismatch or kink, or the kind of place where an error
was found, such as layer. Without a word, all of them are listed."""

_Texts = dict[str, Any]


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser; `command` of what it parses is the function to call with it."""
    texts: _Texts = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "epilog": f"{STATUSES}\n{COLOUR}",
    }
    parser = argparse.ArgumentParser(
        "gradhooks", description="Reads the reports of gradient checks.", **texts
    )
    parser.add_argument("--version", action="version", version=f"gradhooks {gradhooks.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_show, _add_judge, _add_explain):
        add(commands, texts)
    return parser


def _add_show(commands: Any, texts: _Texts) -> None:
    show_parser = commands.add_parser(
        "show", help="show stored reports", description=SHOWING, **texts
    )
    show_parser.add_argument(
        "--all", action="store_true", help="show every report, not only the last one"
    )
    _add_log_dir(show_parser)
    show_parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object per report, each on a line of its own",
    )
    show_parser.set_defaults(command=show)


def _add_judge(commands: Any, texts: _Texts) -> None:
    judge_parser = commands.add_parser(
        "judge", help="tell whether a stored check failed", description=JUDGING, **texts
    )
    judge_parser.add_argument(
        "--threshold",
        type=_threshold,
        metavar="T",
        help="largest relative difference that passes (default: that of each check)",
    )
    judge_parser.add_argument(
        "--strict",
        action="store_true",
        help="treat undecided checks and damaged lines as failures",
    )
    _add_log_dir(judge_parser)
    judge_parser.add_argument(
        "--format",
        choices=("text", "json", "github", "junit"),
        default="text",
        help="text (default), JSON lines, annotations for GitHub Actions, or JUnit XML",
    )
    judge_parser.add_argument(
        "--json", action="store_const", const="json", dest="format", help="same as --format json"
    )
    judge_parser.set_defaults(command=judge)


def _add_explain(commands: Any, texts: _Texts) -> None:
    explain_parser = commands.add_parser(
        "explain", help="explain a word used in reports", description=EXPLAINING, **texts
    )
    explain_parser.add_argument(
        "word", metavar="WORD", nargs="?", help="the word to explain (default: list all)"
    )
    explain_parser.set_defaults(command=explain)


def _add_log_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "log_dir",
        metavar="LOG_DIR",
        help=f"directory to search; every {FILE_NAME} in it or below it is one run",
    )
    parser.add_argument(
        "--all-fits", action="store_true", help="include earlier trainings of each run"
    )


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
