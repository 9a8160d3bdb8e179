"""The documentation is built, and whatever is broken in it ends the build."""

import pathlib
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.system

ROOT = pathlib.Path(__file__).parents[1]


def build(source, target):
    """Builds the documentation as .ci/run does; returns the finished process."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", source, target]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT)


@pytest.fixture(autouse=True)
def require_sphinx():
    for package in ("sphinx", "myst_parser", "pydata_sphinx_theme"):
        pytest.importorskip(package)


def test_the_documentation_is_built_without_a_warning(tmp_path):
    done = build("docs", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {path.relative_to(tmp_path).with_suffix("") for path in tmp_path.rglob("*.html")}
    written = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    assert pages >= {path.with_suffix("") for path in written}


# What is added to the start page -> a part of what the build says
BROKEN = {
    "a page that does not exist": ("[x](nowhere.md)", "nowhere.md"),
    "a heading that does not exist": ("[x](faq.md#nowhere)", "nowhere"),
    "a picture that does not exist": ("![x](pictures/nowhere.png)", "nowhere.png"),
    "a name that does not exist": ("{py:class}`gradhooks.Nowhere`", "gradhooks.Nowhere"),
}


def test_what_is_broken_ends_the_build(tmp_path):
    source = tmp_path / "docs"
    shutil.copytree(ROOT / "docs", source)
    for folder in ("examples", "CHANGELOG.md"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    with (source / "index.md").open("a") as page:
        page.write("\n" + "\n\n".join(text for text, _ in BROKEN.values()) + "\n")
    (source / "orphan.md").write_text("# In no table of contents\n")
    done = build(source, tmp_path / "site")
    assert done.returncode != 0
    for case, (_, said) in BROKEN.items():
        assert said in done.stderr, case
    assert "orphan.md" in done.stderr
