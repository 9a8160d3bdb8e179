"""Which folder may import which, imports inside functions included."""

import ast
import pathlib
import subprocess
import sys

import pytest

import gradhooks

ROOT = pathlib.Path(gradhooks.__file__).parent
# Each folder and the folders below it that it may import. A file beside the folders counts as one.
ARROWS = {
    "_types": set(),
    "schedule": {"_types"},
    "isolation": set(),
    "reports": {"_types"},
    "numerics": {"_types"},
    "backends": {"_types", "isolation", "reports"},
    "verdicts": {"_types", "numerics", "reports"},
    "checking": {"_types", "numerics", "reports", "verdicts"},
    "model": {"_types", "backends", "isolation", "numerics", "reports"},
    "sinks": {"_types", "numerics", "reports"},
    "tensorboard_plugin": {"_types", "reports"},
    "arguments": {"_types", "reports"},
    "validation": {"_types", "arguments", "reports", "verdicts"},
    "failures": {
        "_types", "arguments", "backends", "checking", "model", "reports", "validation",
    },
    "checker": {
        "_types", "checking", "failures", "model", "reports", "validation", "verdicts",
    },
    "check": {"_types", "backends", "checker", "reports", "sinks", "validation"},
    "replaying": {
        "_types", "arguments", "backends", "checker", "failures", "model", "reports", "validation",
    },
    "callback": {
        "_types", "backends", "checker", "model", "numerics", "reports", "schedule", "sinks",
        "validation",
    },
    "function": {"_types", "checking", "numerics", "reports", "validation"},
    "testing": {
        "_types", "arguments", "check", "checking", "function", "model", "reports", "validation",
    },
    "pytest_plugin": {"testing"},
    "cli": {"reports", "sinks", "verdicts"},
    "__init__": {"callback", "check", "function", "replaying", "reports", "testing"},
    "__main__": {"cli"},
}  # fmt: skip
PURE_ROOMS = ("numerics", "reports", "verdicts")
# What pure rooms may import from outside; `ml_dtypes` has the limits of the 16-bit formats.
PURE = {
    "__future__", "bisect", "collections", "dataclasses", "enum", "fnmatch", "functools", "html",
    "json", "math", "ml_dtypes", "numpy", "re", "textwrap", "types", "typing",
}  # fmt: skip
# Who may import matplotlib: the figure, which is imported late, and type checkers elsewhere.
DRAWING = {
    "reports.figure": {"io", "matplotlib"},
    "reports.plot": {"matplotlib"},
    "reports.report": {"matplotlib"},
}
# The reasons for imports inside functions: a faster start, or a package that is optional.
LATE = {
    "__init__": "public names are loaded on first use",
    "tensorboard_plugin.loader": "TensorBoard starts without the plugin's modules",
    "sinks.progress": "most checks never need rich",
    "reports.plot": "matplotlib is optional",
    "sinks.console": "a pipe does not wait for rich",
    "backends": "only the backend in use is loaded",
    "backends.jax.containment": "a pipeline of `tf.data` is the one thing of TensorFlow's on JAX",
    "pytest_plugin": "pytest starts without a framework",
}
FILES = sorted(ROOT.rglob("*.py"))


def module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1]) if len(parts) > 1 and parts[-1] == "__init__" else ".".join(parts)


def room(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(path):
    """Yields (dotted name, whether inside a function) of every import in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.Lambda))]
    inside = {id(n) for f in functions for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in inside
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = node.module if node.module != "gradhooks" else f"gradhooks.{alias.name}"
                yield name, id(node) in inside


def own_modules():
    return {f"gradhooks.{module(p)}": p for p in FILES}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_arrows_point_down(path):
    own = room(path)
    asked = {n.split(".")[1] for n, _ in imports(path) if n.startswith("gradhooks.")} - {own}
    assert asked <= ARROWS[own], f"{own} may not import {sorted(asked - ARROWS[own])}"


def test_the_table_has_no_circle_and_names_every_folder():
    left = {name: set(below) for name, below in ARROWS.items()}
    while left:
        ground = [name for name, below in left.items() if not below & left.keys()]
        assert ground, f"a circle among {sorted(left)}"
        for name in ground:
            del left[name]
    assert ARROWS.keys() == {room(p) for p in FILES}


def edges():
    """Maps each module to the modules that it imports, late imports counted."""
    modules, found = own_modules(), {}
    for name, path in modules.items():
        targets = set()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gradhooks"):
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    targets.add(full if full in modules else node.module)
        found[name] = {t for t in targets if t in modules and t != name}
    return found


def test_no_module_imports_itself_in_a_circle():
    left = edges()
    while left:
        ground = [name for name, below in left.items() if not below & left.keys()]
        assert ground, f"a circle among {sorted(left)}"
        for name in ground:
            del left[name]


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_late_import_has_a_reason(path):
    late = [name for name, is_late in imports(path) if is_late]
    assert not late or module(path) in LATE, late


@pytest.mark.parametrize("path", [p for p in FILES if room(p) in PURE_ROOMS], ids=module)
def test_a_pure_room_imports_only_pure_modules(path):
    outside = {n.split(".")[0] for n, _ in imports(path)} - {"gradhooks"}
    assert outside <= PURE | DRAWING.get(module(path), set())


@pytest.mark.parametrize("path", [p for p in FILES if room(p) in PURE_ROOMS], ids=module)
def test_every_generator_is_seeded(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("default_rng"):
            assert node.args, f"line {node.lineno} draws from the operating system"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np.random":
            assert node.attr in {"default_rng", "Generator"}, f"line {node.lineno}"


def test_pure_rooms_load_no_framework():
    names = [f"gradhooks.{module(p)}" for p in FILES if room(p) in PURE_ROOMS]
    script = (
        f"import importlib, sys\nfor name in {names}:\n    importlib.import_module(name)\n"
        "found = {'keras', 'tensorflow', 'tensorboard', 'jax', 'torch'} & set(sys.modules)\n"
        "assert not found, found"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
