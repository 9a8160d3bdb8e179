"""What is published: the package is built, its page is valid, and it runs where nothing else is."""

import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest

import gradhooks

pytestmark = pytest.mark.system

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(*command, **options):
    """Runs a command without this copy of the code on its path; returns what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=environment, **options
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wheel and the source distribution."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return folder


def test_the_page_of_the_package_is_valid(built):
    pytest.importorskip("twine")
    files = sorted(map(str, built.iterdir()))
    assert len(files) == 2
    run(sys.executable, "-m", "twine", "check", "--strict", *files)


def test_the_wheel_has_the_package_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"gradhooks", f"gradhooks-{gradhooks.__version__}.dist-info"}
    assert "gradhooks/py.typed" in names
    shipped = {name for name in names if name.startswith("gradhooks/")}
    kept = run("git", "ls-files", "gradhooks", cwd=ROOT).split()
    assert shipped == set(kept)


def test_the_source_has_the_tests_and_the_documentation(built):
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert names >= {"tests/test_package.py", "docs/conf.py", "CITATION.cff", "LICENSE"}


USE = """
import gradhooks
import numpy as np
report = gradhooks.check_function(lambda w: np.sum(w**3), lambda w: 3 * w**2, np.array([1.0, 2.0]))
print(gradhooks.__file__, gradhooks.__version__, report.verdict)
"""


def test_the_wheel_runs_in_an_empty_environment(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path)
    python = tmp_path / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", wheel)
    path, version, verdict = run(python, "-I", "-c", USE, cwd=tmp_path).split()
    assert path.startswith(str(tmp_path))
    assert (version, verdict) == (gradhooks.__version__, "PASS")
    shown = run(tmp_path / "bin" / "gradhooks", "--version", cwd=tmp_path)
    assert shown == f"gradhooks {gradhooks.__version__}\n"


def test_the_citation_is_of_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^([a-z-]+): (.+)$", text, re.MULTILINE))
    assert fields["version"] == gradhooks.__version__
    assert fields["license"] == PROJECT["license"]
    assert fields["abstract"] == f"{PROJECT['description']}."


def test_the_versions_of_python_agree():
    named = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python :: 3." in c}
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert min(named, key=lambda version: int(version.partition(".")[2])) == lowest
