"""The page on experiment trackers does what it says, where they are installed; offline.

Run it in an environment with `pip install wandb mlflow comet-ml`. CI does not have them.
"""

import json
import pathlib
import sqlite3
import zipfile

import pytest

from tools import pages

pytestmark = pytest.mark.system

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "guides" / "trackers.md"
NAMES = {"failures", "relative_difference"}
# Before the first batch, and after each of two epochs of two batches.
STEPS = [0, 2, 4]


@pytest.fixture(autouse=True)
def stay_offline(monkeypatch, tmp_path):
    for name in ("HOME", "WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")


def run_section(package, folder):
    """Runs the model of the page and the section that imports a tracker."""
    pytest.importorskip(package)
    model, *sections = pages.find_blocks(PAGE.read_text(encoding="utf-8"))
    (section,) = (block for block in sections if f"import {package}\n" in block.code)
    pages.run([model, section], folder)


def test_weights_and_biases_has_the_numbers(tmp_path):
    run_section("wandb", tmp_path)
    (log,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    written = log.read_bytes()
    assert all(f"gradcheck/{name}".encode() in written for name in {"step", *NAMES})


def test_mlflow_has_the_numbers_of_every_check(tmp_path):
    run_section("mlflow", tmp_path)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        rows = database.execute("select key, step, value from metrics").fetchall()
    assert {row[:2] for row in rows} == {(f"gradcheck_{n}", s) for n in NAMES for s in STEPS}
    texts = list(tmp_path.rglob("gradcheck/*.txt"))
    assert sorted(int(path.stem) for path in texts) == STEPS
    assert texts[0].read_text().startswith("PASS (agrees)")


def test_comet_has_the_numbers_of_every_check(tmp_path):
    run_section("comet_ml", tmp_path)
    (archive,) = tmp_path.glob("comet/*.zip")
    with zipfile.ZipFile(archive) as opened:
        lines = opened.read("messages.json").decode().splitlines()
    messages = [m["payload"] for m in map(json.loads, lines) if m["type"] == "metric_msg"]
    metrics = {(m["metric"]["metricName"], m["metric"]["step"]) for m in messages}
    found = {(name, step) for name, step in metrics if name.startswith("gradcheck")}
    assert found == {(f"gradcheck_{name}", step) for name in NAMES for step in STEPS}
