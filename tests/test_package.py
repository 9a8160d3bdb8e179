"""What importing costs, and which names are public."""

import ast
import importlib.metadata
import pathlib
import subprocess
import sys
import tomllib
import typing

import pytest

import gradhooks

pytestmark = pytest.mark.lowest

FRAMEWORKS = (
    "[m for m in ('keras', 'tensorflow', 'jax', 'torch', 'tensorboard', 'matplotlib') "
    "if m in sys.modules]"
)


def loaded_by(statement):
    code = f"import sys; {statement}; print({FRAMEWORKS})"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_an_oracle_of_functions_loads_no_framework():
    assert loaded_by("from gradhooks.checking.function_oracle import FunctionOracle") == "[]"


def test_importing_loads_no_framework():
    assert loaded_by("import gradhooks") == "[]"


def test_the_test_above_can_fail():
    assert "keras" in loaded_by("import gradhooks; gradhooks.GradientCheck")


@pytest.mark.parametrize(
    "name", ["Verdict", "Reason", "BadInputError", "CheckReport", "GradientMismatchError"]
)
def test_records_load_no_framework(name):
    assert loaded_by(f"import gradhooks; gradhooks.{name}") == "[]"


def imports_for_type_checkers():
    """Returns {name: module} of the imports under `if TYPE_CHECKING:` in `__init__`."""
    tree = ast.parse(pathlib.Path(gradhooks.__file__).read_text(encoding="utf-8"))
    (block,) = (
        n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"
    )
    modules = {}
    for statement in block.body:
        modules |= {alias.name: statement.module for alias in statement.names}
    return modules


def test_type_checkers_see_what_is_loaded_on_first_use():
    modules = imports_for_type_checkers()
    assert modules.pop("testing") == "gradhooks"
    assert modules == gradhooks._HOMES
    for name, module in modules.items():
        assert getattr(gradhooks, name) is getattr(sys.modules[module], name)


def test_public_names():
    assert gradhooks.__all__ == sorted(
        [
            "BadInputError",
            "CheckReport",
            "Comparison",
            "DerivativeComparison",
            "GradientCheck",
            "GradientCheckWarning",
            "GradientComparison",
            "GradientMismatchError",
            "GradientMismatchWarning",
            "Reason",
            "Verdict",
            "__version__",
            "check_function",
            "check_gradients",
            "replay",
        ]
    )
    assert all(hasattr(gradhooks, name) for name in gradhooks.__all__)
    assert set(dir(gradhooks)) == {*gradhooks.__all__, "testing"}
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        gradhooks.nothing_of_the_kind  # noqa: B018


def test_a_comparison_is_of_one_of_two_kinds():
    import gradhooks

    kinds = gradhooks.DerivativeComparison, gradhooks.GradientComparison
    assert typing.get_args(gradhooks.Comparison) == kinds
    compared = gradhooks.GradientComparison(
        "w", 1.0, 1.0, 0.0, 0.0, gradhooks.Verdict.PASS, gradhooks.Reason.AGREES
    )
    assert isinstance(compared, gradhooks.Comparison)
    assert not isinstance(compared, gradhooks.DerivativeComparison)


def test_the_version_is_that_of_the_metadata():
    declared = tomllib.loads((pathlib.Path(__file__).parents[1] / "pyproject.toml").read_text())[
        "project"
    ]["version"]
    assert gradhooks.__version__ == declared
    try:
        assert importlib.metadata.version("gradhooks") == declared
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("gradhooks is not installed here")
