"""What was tried on whole training runs, and what happened: the table in README, from the tests and their results.

python -m tests.runs.table [results.xml]

Without a file, the tests of this folder are run; with one, that `pytest --junitxml` wrote, it is read.
"""

import pathlib
import subprocess
import sys
import tempfile
from xml.etree import ElementTree

FOLDER = pathlib.Path(__file__).parent


def results():
    """Runs the tests of this folder; returns what `grouped` makes of them."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "results.xml")
        command = [sys.executable, "-m", "pytest", "-q", str(FOLDER), f"--junitxml={path}"]
        subprocess.run(command, stdout=sys.stderr, check=False)
        return grouped(ElementTree.parse(path).iter("testcase"))


def grouped(cases):
    """Groups tests by what happened.

    Args:
        cases: `testcase` elements of pytest's XML.

    Returns:
        dict from outcome to a sorted list of names, as words; the common outcome first.
    """
    found = {}
    for case in cases:
        told = {p.get("name"): p.get("value") for p in case.iter("property")}.get("outcome")
        if told is None:
            continue
        if case.find("failure") is not None or case.find("error") is not None:
            told = f"THE TEST FAILED; {told}"
        found.setdefault(told, set()).add(words(case.get("name")))
    return {
        told: sorted(found[told])
        for told in sorted(found, key=lambda told: (-len(found[told]), told))
    }


def words(name):
    """Returns the name of a test as words; what it is parametrized with stays, in brackets."""
    name, _, parameters = name.removeprefix("test_").partition("[")
    return name.replace("_", " ") + (f" ({parameters[:-1]})" if parameters else "")


def merged(names):
    """Joins names that differ in the parameters alone."""
    kinds = {}
    for name in names:
        base, _, parameters = name.partition(" (")
        kinds.setdefault(base, []).append(parameters[:-1])
    return "; ".join(
        base + (f" ({', '.join(filter(None, p))})" if any(p) else "") for base, p in kinds.items()
    )


def table(found):
    """Returns the Markdown table."""
    rows = [f"| {told} | {merged(names)} |" for told, names in found.items()]
    return "\n".join(["| what happens | what was tried |", "| --- | --- |", *rows])


if __name__ == "__main__":
    print(
        table(
            grouped(ElementTree.parse(sys.argv[1]).iter("testcase")) if sys.argv[1:] else results()
        )
    )
