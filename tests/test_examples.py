"""Every example runs as it stands and says what it promises."""

import functools
import pathlib
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.system

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
README = EXAMPLES.parent / "README.md"
PAGE = EXAMPLES.parent / "docs" / "guides" / "messages.md"

# (arguments, lines or parts of lines that it must print, in this order)
PROMISES = {
    "digits.py": ([], ["PASS (agrees)", "tensorboard --logdir"]),
    "distributed.py": (
        [],
        ["worker 0, step 0: PASS", "Written, by the first worker alone: 2 files"],
    ),
    "find_the_bug.py": (
        [],
        [
            "GradientMismatchWarning",
            "one over the batch",
            "FAIL (mismatch)",
            "The error is made in: digits/scale",
        ],
    ),
    "custom_train_step.py": (
        ["--epochs", "1"],
        [
            "Keras' own train_step: PASS",
            "the hand-written train_step: FAIL",
            "train_step drops the regularization",
            "add `sum(self.losses)` to the loss",
        ],
    ),
    "mixed_precision.py": (
        [],
        [
            "without loss scaling: FAIL (underflow)",
            "network/first/kernel",
            "use loss scaling",
            "with loss scaling: PASS",
        ],
    ),
    "numpy_backprop.py": (
        [],
        ["PASS (agrees)", "With an error in W2:", "FAIL (mismatch)", "W2: the gradient is 2 times"],
    ),
    "remat_dropout.py": ([], ["loss without and with keras.remat", "off by"]),
}


def test_every_example_is_tested():
    assert sorted(PROMISES) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@functools.cache
def printed(name, *arguments):
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=EXAMPLES)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", PROMISES)
def test_an_example_runs_and_keeps_its_promise(name):
    arguments, promises = PROMISES[name]
    text = printed(name, *arguments)
    at = 0
    for promise in promises:
        assert promise in text[at:], text
        at = text.index(promise, at) + len(promise)
    if name == "remat_dropout.py":
        # Either this Keras has the defect and it is named, or it is said to be gone.
        is_named = "draws another mask than the forward pass" in text
        assert is_named != ("the defect is gone" in text), text


# The examples with a failure, in the order in which the page has what they say.
FAILING = ("find_the_bug.py", "custom_train_step.py", "mixed_precision.py", "remat_dropout.py")
NUMBER = re.compile(r"(?<![\w.])(\+- |step |allowed )?-?\d[\d.]*e[+-]\d+")
# What training computes in float16: other processors add up in another order.
HALF = re.compile(r"^ *(?:\|\|received\|\| .*\(float16\)|distance .*)$", re.M)


def messages(text):
    """Returns the messages in a text, without folders; numbers have three digits, or one."""
    found = re.findall(r"^[^\n]*gradient check failed.*?^Reproduce [^\n]*$", text, re.S | re.M)
    short = [re.sub(r"[\w/.-]*/examples/", "examples/", message) for message in found]
    short = [re.sub(r"\bkeras [\d.]+", "keras", message) for message in short]
    short = [HALF.sub(with_one_digit, message) for message in short]
    return [NUMBER.sub(round_number, message) for message in short]


def with_one_digit(line):
    """A line with its numbers of one digit."""
    return NUMBER.sub(lambda found: round_number(found, 1), line[0])


def round_number(found, digits_shown=3):
    """A number with some digits; those that depend on how it was measured are left out."""
    prefix, digits = found[1] or "", found[0].removeprefix(found[1] or "")
    return prefix if prefix else f"{float(digits):.{digits_shown - 1}e}"


def pasted_in(path):
    return messages(path.read_text(encoding="utf-8"))


def test_documents_have_what_the_examples_say():
    pasted = pasted_in(PAGE)
    said = [messages(printed(name, *PROMISES[name][0])) for name in FAILING]
    is_gone = "the defect is gone" in printed("remat_dropout.py")
    assert len(pasted) == len(FAILING)
    for name, one, others in zip(FAILING, pasted, said, strict=True):
        if name != "remat_dropout.py" or not is_gone:
            assert [one] == others


def test_readme_has_the_first_of_these_messages():
    assert pasted_in(README) == pasted_in(PAGE)[:1]
