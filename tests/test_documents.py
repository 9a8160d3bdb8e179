"""What the documents name exists."""

import importlib
import pathlib
import re

import pytest

from tests import frameworks
from tests.floors.test_arrows import ARROWS

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
)
DOTTED = re.compile(r"`(gradhooks(?:\.\w+)+)`")
COMMAND = re.compile(r"python -m ((?:tools|gradhooks)[\w.]*)")
PATH = re.compile(r"`((?:\.ci|docs|examples|gradhooks|tests|tools)/[\w./-]+)`")
FLOOR = re.compile(r"^\| `(\w+)` \| .* \| (.*) \|$", re.MULTILINE)


def find_names(pattern):
    """Returns the names in all documents, as parameters of a test."""
    names = []
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        for name in sorted(set(pattern.findall(text))):
            names.append(pytest.param(name, id=f"{document}: {name}"))
    return names


def resolve(dotted):
    """Returns a module or an attribute of one by its dotted name."""
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError:
        parent, _, name = dotted.rpartition(".")
        return getattr(resolve(parent), name)


@pytest.mark.parametrize("dotted", find_names(DOTTED))
def test_a_name_exists(dotted):
    *_, backend = dotted.removeprefix("gradhooks.backends.").partition(".")[:1]
    if backend in frameworks.FRAMEWORKS and backend != frameworks.BACKEND:
        pytest.skip(f"{backend} is not the backend of Keras")
    resolve(dotted)


@pytest.mark.parametrize("module", find_names(COMMAND))
def test_a_command_exists(module):
    assert importlib.util.find_spec(module)


@pytest.mark.parametrize("path", [p for p in find_names(PATH) if "NAME" not in p.values[0]])
def test_a_path_exists(path):
    assert (ROOT / path).exists()


def test_the_table_of_floors_is_the_tested_one():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    floors = {name: set(re.findall(r"`(\w+)`", below)) for name, below in FLOOR.findall(text)}
    for name, below in ARROWS.items():
        if name != "_types":
            assert floors[name] == below - {"_types"}, name
