"""`gradhooks explain`: every word of a report can be looked up."""

import re
import typing

import pytest

from gradhooks import cli
from gradhooks.reports.actions import LOOK_FOR
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.explanations import KINDS, explain_kind, explain_reason
from gradhooks.reports.reasons import Reason
from tests.test_cli import MODULE, gradhooks

WORDS = [str(reason) for reason in Reason] + list(KINDS)


def explained(capsys, *arguments):
    status = cli.main(["explain", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def in_one_line(text):
    return " ".join(text.split())


def test_every_kind_of_culprit_is_explained():
    assert set(KINDS) == set(typing.get_args(Culprit.__annotations__["kind"]))


def test_no_word_has_two_meanings():
    assert len(set(WORDS)) == len(WORDS)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_explained_within_100_columns(capsys, word):
    status, out, err = explained(capsys, word)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == word
    assert max(map(len, out.splitlines())) <= 100
    found = explain_kind(word) if word in KINDS else explain_reason(Reason[word.upper()])
    assert found.meaning in in_one_line(out)
    for action in found.actions:
        assert in_one_line(action) in in_one_line(out)
    assert ("What to do:" in out) == bool(found.actions)


def test_what_a_reason_says_is_what_reports_say(capsys):
    _, out, _ = explained(capsys, "blocked")
    assert Reason.BLOCKED.explanation in in_one_line(out)
    assert LOOK_FOR[Reason.BLOCKED] in in_one_line(out)
    assert out.endswith("  if it is meant: expect={'path/of/the/variable': 'blocked'}\n")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_declared_for_a_kind_is_a_declaration(kind):
    line = explain_kind(kind).actions[-1]
    assert re.fullmatch(r"if it is meant: expect=\{'\S+': '(mismatch|untrained)'\}", line)


def test_without_a_word_all_are_listed(capsys):
    status, out, _ = explained(capsys)
    assert status == 0
    assert re.findall(r"^  (\w+)  ", out, re.MULTILINE) == WORDS
    assert Reason.KINK.headline in in_one_line(out)
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("word", ["MISMATCH", " mismatch ", "non-finite-gradient", "Train_Step"])
def test_case_and_hyphens_do_not_matter(capsys, word):
    assert explained(capsys, word)[0] == 0


@pytest.mark.parametrize(
    ("word", "tried"),
    [
        ("mismatched", "mismatch"),
        ("undeflow", "underflow"),
        ("layers", "layer"),
        ("zebra", "gradhooks explain"),
        ("\x1b[31m", "gradhooks explain"),
    ],
)
def test_an_unknown_word_is_an_error_with_what_is_near(capsys, word, tried):
    status, out, err = explained(capsys, word)
    assert (status, out) == (2, "")
    assert re.search(r"no reason and no kind.* Received: .* Expected .* Try ", err)
    assert tried in err.partition(" Try ")[2]
    assert "\x1b" not in err


@pytest.mark.system
def test_it_loads_no_framework_and_no_report():
    code = (
        "import sys; from gradhooks.cli import main; main(['explain', 'kink'])\n"
        "print({'keras', 'tensorflow', 'tensorboard', 'rich'} & set(sys.modules))"
    )
    done = gradhooks(command=(MODULE[0], "-c", code))
    assert done.stdout.splitlines()[-1] == "set()"
