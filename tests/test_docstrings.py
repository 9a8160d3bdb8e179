"""Every example in the docstrings of the package runs, and prints what it says."""

import ast
import doctest
import importlib
import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import gradhooks

PACKAGE = Path(gradhooks.__file__).parent
PROMPT = ">>> "
FENCE = "```python\n"
FENCED = re.compile(re.escape(FENCE) + r"(.*?)```", re.DOTALL)


def list_modules(marker):
    """Names of the modules with a marker in their text; collecting tests imports none of them."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if marker in path.read_text(encoding="utf-8"):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            names.append(".".join(parts).removesuffix(".__init__"))
    return names


def find_docstrings(module):
    """The docstrings of a module and of everything that its source defines, cleaned."""
    docstrings = []
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstrings.append(ast.get_docstring(node) or "")
    return docstrings


def make_names():
    """The names that fenced examples use without defining them: imports, data, a model."""
    import keras

    x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return {
        "gradhooks": gradhooks,
        "keras": keras,
        "np": np,
        "model": model,
        "x_train": x,
        "y_train": y,
    }


def has_behaviour(value):
    """Whether a public value is a function, or a class that has functions or properties."""
    if inspect.isfunction(value):
        return True
    if not inspect.isclass(value):
        return False
    return any(inspect.isfunction(m) or isinstance(m, property) for m in vars(value).values())


@pytest.mark.parametrize("name", list_modules(PROMPT))
def test_examples_print_what_they_say(name):
    module = importlib.import_module(name)
    if "keras" in sys.modules:
        # Layers are numbered anew, as in a session of one's own.
        sys.modules["keras"].utils.clear_session()
    tests = doctest.DocTestFinder().find(module)
    # DocTestFinder passes over what it takes for the work of another module, such as a
    # function behind a decorator.
    written = sum(text.count(PROMPT) for text in find_docstrings(module))
    assert sum(len(test.examples) for test in tests) == written
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    lines = []
    for test in tests:
        runner.run(test, out=lines.append)
    assert not runner.failures, "".join(lines)


@pytest.mark.parametrize("name", list_modules(FENCE))
def test_fenced_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    for docstring in find_docstrings(module):
        for example in FENCED.findall(docstring):
            exec(compile(example, f"<example of {name}>", "exec"), make_names())


@pytest.mark.parametrize("name", gradhooks.__all__)
def test_a_public_name_with_behaviour_has_an_example(name):
    value = getattr(gradhooks, name)
    if has_behaviour(value):
        docstring = inspect.getdoc(value)
        assert PROMPT in docstring or FENCE in docstring
