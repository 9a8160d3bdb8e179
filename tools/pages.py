"""Runs the Python of the documentation's pages and compares what it prints with what they say.

python -m tools.pages            # names the pages that say something else
python -m tools.pages --write    # and puts there what was printed

A fenced `python` block is run, all blocks of a page as one script, and so is a script that a page
includes. A fenced `text` block right below one is what that block prints. What numbers are depends
on the machine, so that numbers do not count in the comparison.
"""

import argparse
import ast
import contextlib
import dataclasses
import importlib.util
import io
import os
import pathlib
import re
import sys
import tempfile
import warnings

ROOT = pathlib.Path(__file__).parents[1]
# Where the script of a page lies, as far as its readers see.
HOME = "/home/you"
SCRIPT = "example.py"

BLOCK = re.compile(
    r"^```(?:python\n(?P<code>.*?)|\{literalinclude\} (?P<file>\S+)\n:language: python\n)^```\n"
    r"(?:\n```text\n(?P<printed>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
# Numbers, and what stands in place of one that is not known.
NUMBER = re.compile(r"[-+]?\b\d+(?:\.\d+)*(?:e[-+]?\d+)?|\bNaN\b|\binf\b")
# When a report was made, whose hour no boundary of a word sets apart from the T before it.
MOMENT = re.compile(r"\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
# The backend of Keras and its device, once their numbers are gone.
BACKEND = re.compile(r"\b(?:[CcGg][Pp][Uu]:#|tensorflow #|jax #|torch #)")


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of Python on a page.

    Args:
        code: The lines of Python.
        printed: What the page says that it prints; None where it says nothing.
        span: Where `printed` stands in the text of the page.
    """

    code: str
    printed: str | None
    span: tuple[int, int]


def find_blocks(text):
    """Returns the blocks of Python in the text of a page."""
    blocks = []
    for found in BLOCK.finditer(text):
        # A page at the top of docs includes scripts of the examples.
        code = found["code"] or (ROOT / "docs" / found["file"]).read_text(encoding="utf-8")
        blocks.append(Block(code, found["printed"], found.span("printed")))
    return blocks


def list_pages():
    """Returns the paths of all pages with Python in them, README first."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path for path in paths if find_blocks(path.read_text(encoding="utf-8"))]


def find_missing(blocks):
    """Returns the packages that the blocks import and that are not installed."""
    names = set()
    for block in blocks:
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.partition(".")[0])
    return sorted(name for name in names if importlib.util.find_spec(name) is None)


def run(blocks, folder):
    """Runs the blocks of one page in a folder; returns what each of them prints."""
    script = pathlib.Path(folder, SCRIPT)
    script.write_text("\n".join(block.code for block in blocks), encoding="utf-8")
    names = {"__name__": "__main__", "__file__": str(script)}
    printed, line = [], 0
    with fresh_session(), contextlib.chdir(folder):
        for block in blocks:
            out = io.StringIO()
            # A block keeps its line in the script, so that reports name the right ones.
            code = compile("\n" * line + block.code, str(script), "exec", dont_inherit=True)
            with contextlib.redirect_stdout(out), show_warnings():
                exec(code, names)
            printed.append(as_read(out.getvalue(), folder))
            line += block.code.count("\n") + 1
    return printed


@contextlib.contextmanager
def fresh_session():
    """Layers are numbered anew, and what a page sets is put back."""
    import keras

    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    environment = dict(os.environ)
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)


@contextlib.contextmanager
def show_warnings():
    """Warnings of gradhooks are printed, as a terminal would show them; others are left out."""

    def show(message, category, *_, **__):
        if category.__module__.startswith("gradhooks"):
            print(f"{category.__name__}: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield


def as_read(printed, folder):
    """What was printed, with the place of the script as its readers see it."""
    # `print` of a report breaks lines by their length, so that a long folder breaks them elsewhere.
    lines = printed.replace(str(folder), HOME).splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def without_numbers(text):
    """Returns the words of a text: each number is a #, and line breaks do not count.

    What agrees is sorted by differences that are rounding, so that these rows do not count. The
    backend and its device may be others.
    """
    lines = [line for line in text.splitlines() if not line.startswith("ok ")]
    words = NUMBER.sub("#", MOMENT.sub("#", "\n".join(lines)))
    return BACKEND.sub("#", re.sub(r"\s+", " ", words).strip())


def differs(block, printed):
    """Whether the page says something else than was printed."""
    return block.printed is not None and without_numbers(block.printed) != without_numbers(printed)


def corrected(text, blocks, printed):
    """Returns the text of a page with what was printed wherever it says something else."""
    for block, found in reversed(list(zip(blocks, printed, strict=True))):
        if differs(block, found):
            start, stop = block.span
            text = text[:start] + found + text[stop:]
    return text


def main():
    """Compares pages with what their Python prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=pathlib.Path, help="by default all of them")
    parser.add_argument("--write", action="store_true", help="correct the pages")
    options = parser.parse_args()
    status = 0
    for path in options.pages or list_pages():
        text = path.read_text(encoding="utf-8")
        blocks = find_blocks(text)
        if missing := find_missing(blocks):
            print(f"{path}: not run, it needs {', '.join(missing)}")
            continue
        # A short name, for the reason given at `as_read`.
        with tempfile.TemporaryDirectory(dir="/tmp", prefix="p") as folder:
            printed = run(blocks, folder)
        if any(map(differs, blocks, printed)):
            status = 1
            print(f"{path}: says something else")
            if options.write:
                path.write_text(corrected(text, blocks, printed), encoding="utf-8")
    sys.exit(0 if options.write else status)


if __name__ == "__main__":
    main()
