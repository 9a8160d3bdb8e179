"""The annotations as a type checker sees them: the package, README, and misuses to report."""

import json
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("basedpyright", reason="the type checker is part of the extra `test`")

ROOT = pathlib.Path(__file__).parents[2]
MISUSE = pathlib.Path(__file__).with_name("misuse.py")
# Longer than any of the runs takes beside others; one that hangs must end.
TIMEOUT = 300


def run_checker(project):
    """Returns the diagnostics of all files of a project: dicts, as the checker prints them."""
    command = [sys.executable, "-m", "basedpyright", "--outputjson"]
    command += ["--project", str(project), "--pythonpath", sys.executable]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr  # 1: there are errors
    answer = json.loads(ran.stdout)
    assert answer["summary"]["filesAnalyzed"] > 0
    return answer["generalDiagnostics"]


def check_text(folder, text):
    """Returns the diagnostics of one Python file that imports this package, as a user's would."""
    folder.joinpath("example.py").write_text(text, encoding="utf-8")
    settings = {"typeCheckingMode": "basic", "pythonVersion": "3.11", "extraPaths": [str(ROOT)]}
    folder.joinpath("pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    return run_checker(folder)


def describe_errors(diagnostics):
    """Returns `file:line: message` of each error."""
    described = []
    for found in diagnostics:
        if found["severity"] == "error":
            line = found["range"]["start"]["line"] + 1
            described.append(f"{found['file']}:{line}: {found['message']}")
    return described


def extract_python(document):
    """Returns the Python blocks of a document; other lines become empty, so that numbers agree."""
    lines, is_inside = [], False
    for line in document.splitlines():
        if line.startswith("```"):
            is_inside = line == "```python"
            lines.append("")
        else:
            lines.append(line if is_inside else "")
    return "\n".join(lines) + "\n"


def test_the_package_has_no_type_errors():
    errors = describe_errors(run_checker(ROOT))
    assert not errors, "\n".join(errors[:40])


def test_examples_in_the_readme_have_no_type_errors(tmp_path):
    text = extract_python((ROOT / "README.md").read_text(encoding="utf-8"))
    assert "GradientCheck(" in text
    errors = describe_errors(check_text(tmp_path, text))
    assert not errors, "\n".join(errors)


def test_every_misuse_is_reported_and_nothing_else(tmp_path):
    text = MISUSE.read_text(encoding="utf-8")
    expected = set()
    for number, line in enumerate(text.splitlines(), start=1):
        if "# error" in line:
            expected.add(number)
    diagnostics = check_text(tmp_path, text)
    reported = set()
    for found in diagnostics:
        if found["severity"] == "error":
            reported.add(found["range"]["start"]["line"] + 1)
    assert len(expected) > 30
    assert reported == expected, "\n".join(describe_errors(diagnostics))


def test_public_names_are_known_by_their_own_types(tmp_path):
    revealed = {
        "gradhooks.GradientCheck": "type[GradientCheck]",
        "gradhooks.Verdict": "type[Verdict]",
        "gradhooks.CheckReport": "type[CheckReport]",
        "gradhooks.GradientCheck(1).reports[0]": "CheckReport",
        "gradhooks.testing": 'Module("gradhooks.testing")',
    }
    lines = ["import gradhooks", *(f"reveal_type({name})" for name in revealed)]
    lines += ["reveal_type(gradhooks.check_gradients)"]
    messages = [found["message"] for found in check_text(tmp_path, "\n".join(lines) + "\n")]
    for name, expected in revealed.items():
        assert f'Type of "{name}" is "{expected}"' in messages
    assert "samples: int = 32" in messages[-1]
    assert messages[-1].endswith('-> CheckReport"')
