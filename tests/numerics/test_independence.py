"""The numerics are pure: no framework, no file, no clock, no hidden randomness."""

import ast
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import gradhooks.numerics

MODULES = sorted(
    m.name for m in pkgutil.iter_modules(gradhooks.numerics.__path__, "gradhooks.numerics.")
)
FRAMEWORKS = ("keras", "tensorflow", "tensorboard", "jax", "torch")
UPPER_FLOORS = (
    "gradhooks.model",
    "gradhooks.backends",
    "gradhooks.reporting",
    "gradhooks.callback",
)
# What the modules may import when they are loaded, besides each other.
PURE = {
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "fnmatch",
    "functools",
    "json",
    "math",
    "numpy",
}

IMPORT_ALL = """
import importlib, sys
for name in {modules}:
    importlib.import_module(name)
found = [n for n in {forbidden} if n in sys.modules]
assert not found, found
"""


def test_there_are_modules_to_look_at():
    assert len(MODULES) >= 9


def test_importing_everything_loads_no_framework_and_no_upper_floor():
    script = IMPORT_ALL.format(modules=MODULES, forbidden=FRAMEWORKS + UPPER_FLOORS)
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def imported(tree):
    """Names of the modules that a syntax tree's import statements ask for."""
    for node in tree.body if isinstance(tree, ast.Module) else [tree]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def source(module):
    spec = pkgutil.resolve_name(module).__spec__
    return ast.parse(pathlib.Path(spec.origin).read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_loads_only_what_is_pure_and_on_its_own_floor(module):
    names = set(imported(source(module)))
    assert names <= PURE | {n for n in names if n.startswith("gradhooks.numerics")}


@pytest.mark.parametrize("module", MODULES)
def test_no_function_reaches_for_a_clock_or_a_framework_later(module):
    nested = {name for node in ast.walk(source(module)) for name in imported(node)}
    assert not {
        n
        for n in nested
        if n.split(".")[0] in {*FRAMEWORKS, "time", "datetime", "os", "random", "secrets"}
    }


@pytest.mark.parametrize("module", MODULES)
def test_every_generator_is_seeded(module):
    for node in ast.walk(source(module)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("default_rng"):
            assert node.args, f"line {node.lineno} draws from the operating system"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {
            "np.random",
            "numpy.random",
        }:
            assert node.attr in {"default_rng", "Generator"}, (
                f"line {node.lineno} uses the global generator"
            )
