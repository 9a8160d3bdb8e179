"""Many variables and many runs in a browser: which fail, which are sought, what is missing."""

import importlib.resources
import json
import urllib.request

import pytest

from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.report import CheckReport
from tests.tensorboard_plugin import logs
from tests.tensorboard_plugin.browser import needs_browser
from tests.tensorboard_plugin.serving import series, served

pytestmark = [needs_browser, pytest.mark.system]

NAMES = [f"net/encoder_block_{k}_{part}" for k in (1, 2, 11) for part in ("dense", "norm")]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    wrong = {"verdict": Verdict.FAIL, "reason": Reason.MISMATCH, "numeric": 2.0}
    many = []
    for step in range(4):
        measured = [logs.comparison(f"{name}/kernel") for name in NAMES[: step + 2]]
        if step == 1:
            measured[1] = logs.comparison(f"{NAMES[1]}/kernel", **wrong)
        arrived = [logs.received(f"{name}/kernel") for name in NAMES]
        many.append(logs.report(step, *measured, *arrived))
    logs.write(directory / "logs" / "a_many_lr0.1", *many)
    logs.write(directory / "logs" / "b_well_lr0.1", *(logs.report(s) for s in range(3)))
    logs.write(directory / "logs" / "c_placed_lr0.1", *(logs.placed(s) for s in (0, 5)))
    logs.large(directory / "logs" / "large", checks=20)
    options = ["--samples_per_plugin=gradhooks=1000"]
    with served(directory / "logs", directory / "process", *options) as served_at:
        series(served_at, 4)
        yield served_at


def show(tab, pattern):
    """Leaves the runs that a pattern finds."""
    box = tab.one(".filter input")
    box.clear()
    box.send_keys(pattern)


def rows(tab):
    """How many variables the only run on the page shows; 0 with the reason if none."""
    label = tab.one(".matrix").get_attribute("aria-label")
    return 0 if tab.one(".matrix").get_attribute("hidden") else int(label.split(": ")[1].split()[0])


def seek(tab, text):
    """Types what variables are filtered by."""
    tab.run(
        "const box = document.querySelector('.query'); box.value = arguments[0];"
        "box.dispatchEvent(new Event('input'))",
        text,
    )
    return rows(tab)


def test_runs_are_compared_in_a_table_and_failing_ones_come_first(tab, address):
    tab.open(address)
    names = [element.text for element in tab.all(".filter .name")]
    assert names == ["a_many_lr0.1", "c_placed_lr0.1", "b_well_lr0.1", "large"]
    assert [element.text for element in tab.all(".run h2")] == [f"{n}/gradcheck" for n in names]
    table = [row.text for row in tab.all(".all-runs tbody tr")]
    assert [line.split("/")[0] for line in table] == names
    assert "1 of 4 failed" in table[0]
    assert "2 of 2 failed" in table[1]
    assert "layer net/block/act" in table[1]
    assert "PASS" in table[2]
    tab.click(".all-runs tbody tr:nth-child(4) button")
    tab.settle()
    top = tab.run("return document.querySelectorAll('.run')[3].getBoundingClientRect().top")
    assert 45 <= top < 400
    show(tab, "b_well")
    tab.until("document.querySelectorAll('.run').length === 1")
    assert not tab.one(".all-runs").is_displayed()
    assert tab.severe() == []


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("", 6),
        ("norm", 3),
        ("NORM", 3),
        ("encoder_block_1*_norm", 2),  # a pattern as in expect
        ("net/encoder_block_?_dense", 2),
        ("encoder_block_1_*", 2),
        ("*/kernel", 6),
        ("block_1", 4),
        ("encoder_block_1", 4),
        ("block_1?_", 0),
        ("block_(1|2)_norm", 2),  # a regular expression
        ("norm/kernel$", 3),
        (r"block_\d_", 4),
        ("block.*norm", 3),
        ("^net/", 6),
        ("block_[", 0),  # half typed
        ("net/encoder_block_[12]_*", 4),
        ("*block_[!1]_norm*", 1),
        ("dense/ker", 3),
        ("nothing of the kind", 0),
    ],
)
def test_variables_are_sought_by_patterns_and_regular_expressions(tab, address, typed, found):
    tab.open(address)
    show(tab, "a_many")
    tab.until("document.querySelectorAll('.run').length === 1")
    assert seek(tab, typed) == found
    assert tab.severe() == []


def test_the_runs_are_sought_alike(tab, address):
    tab.open(address)
    for pattern, count in (("*_lr0.1", 3), ("^(a|b)_", 2), ("lr0", 3), ("large", 1), ("lr[", 0)):
        show(tab, pattern)
        tab.until(f"document.querySelectorAll('.run').length === {count}")


def test_what_was_never_compared_is_found(tab, address):
    tab.open(address)
    show(tab, "a_many")
    tab.until("document.querySelectorAll('.run').length === 1")
    tab.click("[name=never]")
    # Five of six have been measured; of the sixth only what the optimizer received was compared.
    assert rows(tab) == 1
    assert seek(tab, "block_11_norm") == 1
    seek(tab, "")
    show(tab, "b_well")
    tab.until("document.querySelector('.run h2').textContent.startsWith('b_well')")
    assert "Every variable that these reports name has been compared; 1 of 4" in tab.text(".run")
    tab.click("[name=never]")
    tab.click("[name=problems]")
    assert "Nothing has failed here" in tab.text(".run")


def test_a_column_tells_what_was_found_so_far(tab, address):
    tab.open(address)
    show(tab, "a_many")
    tab.until("document.querySelectorAll('.run').length === 1")
    tab.click(".switch input[value='total']")
    seek(tab, "block_1_norm")
    tab.until("document.querySelector('.tip').hidden")
    tab.click_cell(0, -0.8)  # in the column beside the names
    text = tab.detail()
    assert "step 3" in text  # the latest check that compared it
    tip = tab.run("return document.querySelector('.tip').textContent")
    assert "step 3" in tip
    tab.click(".detail header button[aria-label='Close the details']")
    hover = """
    const view = document.querySelector('.matrix');
    const at = JSON.parse(view.querySelector('canvas').dataset.geometry);
    const box = view.getBoundingClientRect();
    const [x, y] = [box.left + at.gutter - 25, box.top + at.header + at.height / 2];
    view.dispatchEvent(new MouseEvent('mousemove', { clientX: x, clientY: y, bubbles: true }));
    return document.querySelector('.tip').textContent;
    """
    told = tab.run(hover)
    assert "so far compared in 4 of 4 checks" in told
    assert "at worst FAIL" in told


@pytest.mark.parametrize("width", [1280, 700])
def test_five_hundred_variables_are_seen_at_once(tab, address, width):
    tab.open(address, width=width)
    show(tab, "large")
    tab.until("document.querySelectorAll('.run').length === 1")
    tab.click("[name=compact]")
    heights = tab.run(
        "const view = document.querySelector('.matrix'); "
        "return [view.scrollHeight, view.clientHeight]"
    )
    assert rows(tab) == 500
    assert heights[0] <= heights[1] + 2
    assert tab.severe() == []


def test_a_report_can_be_taken_along(tab, address):
    tab.open(address)
    show(tab, "c_placed")
    tab.until("document.querySelectorAll('.run').length === 1")
    tab.click_cell(0, 1)
    tab.detail()
    link = tab.run("return document.querySelector('.detail a[download]').href")
    with urllib.request.urlopen(link) as answer:
        name = answer.headers["Content-Disposition"]
        text = answer.read().decode()
    assert name == 'attachment; filename="gradcheck-step-5.json"'
    assert CheckReport.from_json(text).to_json() == logs.placed(5).to_json()


def rules():
    return importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text()


CHECK = """
const done = arguments[0];
axe.run().then(({ violations }) => done(violations.map(({ id, help, nodes }) => [id, help,
  nodes.map(({ html }) => html.slice(0, 200))])));
"""


@pytest.mark.parametrize("is_open", [False, True], ids=["page", "panel"])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 700])
def test_the_page_can_be_used_by_everybody(tab, address, width, theme, is_open):
    tab.open(address, width=width)
    tab.run("document.documentElement.dataset.theme = arguments[0]", theme)
    if is_open:
        show(tab, "c_placed")
        tab.until("document.querySelectorAll('.run').length === 1")
        tab.click_cell(0, 1)
        tab.detail()
    tab.run(rules())
    violations = tab.driver.execute_async_script(CHECK)
    assert violations == [], json.dumps(violations, indent=1)
