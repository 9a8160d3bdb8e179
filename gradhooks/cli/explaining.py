"""`gradhooks explain`: what a word of a report means, and what to do."""

import argparse
import difflib
import functools
import sys
import textwrap

from gradhooks.cli.reading import PASSED, UNUSABLE, warn
from gradhooks.cli.showing import Outcome
from gradhooks.reports.explanations import KINDS, Explanation, explain_kind, explain_reason
from gradhooks.reports.reasons import Reason
from gradhooks.reports.table import ACTIONS, WIDTH
from gradhooks.reports.text import printable
from gradhooks.sinks.console import console


def explain(options: argparse.Namespace) -> Outcome:
    """Returns the exit status, and a function that prints the explanation, or the list of words."""
    reasons = [explain_reason(reason) for reason in Reason]
    kinds = [explain_kind(kind) for kind in KINDS]
    if options.word is None:
        return PASSED, functools.partial(_print_words, reasons, kinds)
    known = {explanation.word: explanation for explanation in (*reasons, *kinds)}
    word = options.word.strip().lower().replace("-", "_")
    if word in known:
        return PASSED, functools.partial(_print_explanation, known[word])
    near = difflib.get_close_matches(word, known) or ["gradhooks explain"]
    warn(
        [
            "there is no reason and no kind of culprit of this name. "
            f"Received: {printable(options.word)}. Expected one of the words that `gradhooks "
            f"explain` lists. Try {' or '.join(near)}."
        ]
    )
    return UNUSABLE, lambda: None


def _print_words(reasons: list[Explanation], kinds: list[Explanation]) -> None:
    out = console(sys.stdout)
    width = max(len(each.word) for each in (*reasons, *kinds))
    for heading, explanations in (
        ("Reasons of a verdict, and of single comparisons:", reasons),
        ("Kinds of culprits, the places where errors are made:", kinds),
    ):
        out.heading(heading)
        for each in explanations:
            indent = " " * (width + 4)
            line = f"  {each.word.ljust(width)}  {each.summary}"
            out.line(textwrap.fill(line, WIDTH, subsequent_indent=indent))


def _print_explanation(found: Explanation) -> None:
    out = console(sys.stdout)
    out.heading(found.word)
    for paragraph in (found.meaning, *((ACTIONS,) if found.actions else ())):
        out.line(textwrap.fill(paragraph, WIDTH))
    for action in found.actions:
        out.line(textwrap.fill(action, WIDTH, initial_indent="  ", subsequent_indent="    "))
