"""A real TensorBoard process: both loaders, a path prefix, no framework, a damaged installation."""

import json
import shutil
import subprocess
import sys

import pytest
from tensorboard.util import tensor_util

from tests.tensorboard_plugin import browser, logs
from tests.tensorboard_plugin.serving import REPOSITORY, eventually, fetch, get, series, served

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    wrong = logs.comparison(verdict=logs.Verdict.FAIL, reason=logs.Reason.MISMATCH, numeric=2.0)
    return logs.write(tmp_path_factory.mktemp("logs"), logs.report(0), logs.report(7, wrong))


@pytest.mark.parametrize("prefix", ["", "/tb"])
@pytest.mark.parametrize("load_fast", ["true", "false"])
def test_both_loaders_with_and_without_a_prefix(log_dir, tmp_path, load_fast, prefix):
    with served(
        log_dir, tmp_path, f"--load_fast={load_fast}", f"--path_prefix={prefix}"
    ) as address:
        [found] = series(address)
        overview = fetch(address, "overview", id=found["id"])
        assert [check["verdict"] for check in overview["checks"]] == ["PASS", "FAIL"]
        check = fetch(address, "check", id=found["id"], step=7, variable="dense/kernel")
        assert check["comparisons"][0]["verdict"] == "FAIL"
        status, headers, body = get(f"{address}data/plugin_entry.html?name=gradhooks")
        assert (status, b"index.js" in body) == (200, True)
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        for path in (
            "plugin.py",
            "../plugin.py",
            "..%2fplugin.py",
            "static/../../plugin.py",
            "/etc/passwd",
        ):
            assert get(f"{address}data/plugin/gradhooks/{path}")[0] == 404
        assert get(f"{address}data/plugin/gradhooks/runs", method="POST")[0] == 405
        assert get(f"{address}data/plugin/gradhooks/overview?id=" + "a" * 60_000)[0] in (400, 414)
    assert "Traceback" not in (tmp_path / "tensorboard.log").read_text()


@pytest.mark.parametrize("load_fast", ["true", "false"])
def test_hostile_tensors_are_cards_under_both_loaders(tmp_path, load_fast):
    cut_off = logs.tensor(b"x" * 100)
    cut_off.tensor_shape.dim.add(size=50)
    vast = logs.tensor(1.5)
    vast.tensor_shape.dim.add(size=2**62)
    garbage = tensor_util.make_tensor_proto(b"\\xff" * 10)
    good = logs.report(9).to_json()
    big = json.dumps({**json.loads(good), "notes": ["x" * 50_000_000]})
    hostile = {
        "not_json": "{",
        "deep": "[" * 10**6,
        "shape": cut_off,
        "vast": vast,
        "bytes": garbage,
        "big": big,
    }
    for name, value in hostile.items():
        logs.write_tensors(tmp_path / "logs" / name, (3, value))
    logs.write(tmp_path / "logs" / "good", logs.report(9))
    with served(tmp_path / "logs", tmp_path / "process", f"--load_fast={load_fast}") as address:
        # The Rust loader drops what it cannot keep as a tensor; nothing must be lost beside it.
        found = {each["run"].split("/")[0]: each["id"] for each in series(address, 5)}
        eventually(lambda: fetch(address, "overview", id=found["good"])["checks"])
        for name, identity in found.items():
            overview = fetch(address, "overview", id=identity)
            if name == "good":
                assert [check["verdict"] for check in overview["checks"]] == ["PASS"]
            else:
                assert overview.get("error") or [c["verdict"] for c in overview["checks"]] == [
                    "UNREADABLE"
                ], name


def damaged(directory, damage):
    """A copy of the package with something broken in its plugin."""
    copy = directory / "broken" / "gradhooks"
    shutil.copytree(REPOSITORY / "gradhooks", copy)
    damage(copy / "tensorboard_plugin")
    return copy.parent


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (
            "plugin.py",
            lambda plugin: (plugin / "plugin.py").write_text("import nothing_of_this_name"),
        ),
        ("reduction.py", lambda plugin: (plugin / "reduction.py").write_text("def (")),
        ("static", lambda plugin: shutil.rmtree(plugin / "static")),
        ("index.js", lambda plugin: (plugin / "static" / "index.js").write_bytes(b"\xff\x00}{")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_installation_does_not_stop_tensorboard(log_dir, tmp_path, name, damage):
    copy = damaged(tmp_path, damage)
    with served(log_dir, tmp_path / "process", python=[copy]) as address:
        listing = json.loads(eventually(lambda: get(f"{address}data/plugins_listing")[2]))
        assert "scalars" in listing
        assert ("gradhooks" in listing) == (name in ("static", "index.js"))


@pytest.mark.versions
def test_the_oldest_tensorboard_that_is_supported(log_dir, tmp_path):
    """TensorBoard 2.18 in an environment of its own, without Keras or a framework."""
    python = tmp_path / "environment" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "environment"], check=True)
    pip = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "tensorboard==2.18.*", "setuptools<82"], check=True)
    subprocess.run([*pip, "--no-deps", REPOSITORY], check=True)
    for load_fast in ("true", "false"):
        with served(
            log_dir,
            tmp_path / load_fast,
            f"--load_fast={load_fast}",
            "--path_prefix=/tb",
            executable=python,
        ) as address:
            [found] = series(address)
            overview = fetch(address, "overview", id=found["id"])
            assert [check["verdict"] for check in overview["checks"]] == ["PASS", "FAIL"]
            assert get(f"{address}data/plugin/gradhooks/index.js")[0] == 200
            if not browser.missing():
                with browser.chromium() as chromium:
                    tab = browser.Tab(chromium).open_in_tensorboard(address)
                    assert "1 of 2 checks failed" in tab.text()
                    assert tab.severe() == []
