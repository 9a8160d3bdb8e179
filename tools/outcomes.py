"""The table of training runs in docs/training_runs.md.

Run `python -m tools.outcomes [results.xml]`.

The table is made from the names and the results of the tests in `tests/runs`. Without
an argument these tests are run; with one, a file that `pytest --junitxml` wrote is read.
"""

import pathlib
import subprocess
import sys
import tempfile
from xml.etree import ElementTree

FOLDER = pathlib.Path(__file__).parents[1] / "tests" / "runs"


def run_tests():
    """Runs the tests of `tests/runs`.

    Returns their names by outcome, as `group_by_outcome` does.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "results.xml")
        command = [sys.executable, "-m", "pytest", "-q", str(FOLDER), f"--junitxml={path}"]
        subprocess.run(command, stdout=sys.stderr, check=False)
        return group_by_outcome(ElementTree.parse(path).iter("testcase"))


def group_by_outcome(cases):
    """Groups tests by what happened.

    Args:
        cases: `testcase` elements of pytest's XML.

    Returns:
        dict from outcome to a sorted list of names, as words; the common outcome first.
    """
    names = {}
    for case in cases:
        properties = {p.get("name"): p.get("value") for p in case.iter("property")}
        outcome = properties.get("outcome")
        if outcome is None:
            continue
        if case.find("failure") is not None or case.find("error") is not None:
            outcome = f"THE TEST FAILED; {outcome}"
        names.setdefault(outcome, set()).add(words(case.get("name")))
    most_common_first = sorted(names, key=lambda outcome: (-len(names[outcome]), outcome))
    return {outcome: sorted(names[outcome]) for outcome in most_common_first}


def words(name):
    """Returns the name of a test as words; what it is parametrized with stays, in brackets."""
    name, _, parameters = name.removeprefix("test_").partition("[")
    return name.replace("_", " ") + (f" ({parameters[:-1]})" if parameters else "")


def join_names(names):
    """Joins the names of tests; names that differ only in their parameters are joined into one."""
    parameters_by_name = {}
    for name in names:
        base, _, parameters = name.partition(" (")
        parameters_by_name.setdefault(base, []).append(parameters[:-1])
    joined = []
    for base, parameters in parameters_by_name.items():
        given = [p for p in parameters if p]
        joined.append(f"{base} ({', '.join(given)})" if given else base)
    return "; ".join(joined)


def format_table(names_by_outcome):
    """Returns the Markdown table."""
    rows = ["| what happens | what was tried |", "| --- | --- |"]
    for outcome, names in names_by_outcome.items():
        rows.append(f"| {outcome} | {join_names(names)} |")
    return "\n".join(rows)


def main():
    if len(sys.argv) > 1:
        cases = ElementTree.parse(sys.argv[1]).iter("testcase")
        print(format_table(group_by_outcome(cases)))
    else:
        print(format_table(run_tests()))


if __name__ == "__main__":
    main()
