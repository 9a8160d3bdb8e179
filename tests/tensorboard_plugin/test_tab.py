"""The tab in a browser, on a TensorBoard process in which no framework can be imported."""

import re
import time

import pytest

from gradhooks.checking.settings import THRESHOLDS
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import Diagnosis
from tests.tensorboard_plugin import logs
from tests.tensorboard_plugin.browser import needs_browser
from tests.tensorboard_plugin.serving import series, served

pytestmark = [needs_browser, pytest.mark.system]
Keys = pytest.importorskip(
    "selenium.webdriver.common.keys", reason="selenium is not installed"
).Keys


@pytest.fixture(scope="module")
def examples(example_logs, tmp_path_factory):
    directory = tmp_path_factory.mktemp("examples-served")
    with served(example_logs["digits"].parent, directory, "--path_prefix=/tb") as address:
        series(address, 2)
        yield address


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    directory = tmp_path_factory.mktemp("made-up")
    steps = range(0, 300, 30)
    logs.write(directory / "logs" / "kinds", *(logs.every_verdict(step) for step in steps))
    late = [logs.report(s, logs.comparison(), logs.received()) for s in steps]
    logs.write(directory / "logs" / "well", *late)
    wrong = logs.comparison(logs.HOSTILE, Verdict.FAIL, Reason.MISMATCH, numeric=2.0)
    hostile = logs.report(
        3,
        wrong,
        diagnoses=(Diagnosis(logs.HOSTILE, logs.HOSTILE, ("total",), is_leading=True),),
        notes=(logs.HOSTILE,),
    )
    name = re.sub(r"[/\n]", "_", logs.HOSTILE)
    logs.write(directory / "logs" / name, hostile)
    # It passes until it fails in two terms by turns: what the optimizer receives comes first.
    unlike = {"verdict": Verdict.FAIL, "reason": Reason.UNTRAINED, "distance": 0.5}
    course = [logs.report(0), logs.report(10, logs.comparison(), logs.received(**unlike))]
    course += [logs.placed(step) for step in (20, 30, 40)]
    logs.write(directory / "logs" / "placed", *course)
    logs.write_tensors(
        directory / "logs" / "damaged", (1, "{not json"), (2, logs.report(2).to_json())
    )
    with served(directory / "logs", directory / "process") as address:
        series(address, 5)
        yield address


def show_only(tab, run):
    """Leaves one run on the page."""
    box = tab.one(".filter input")
    box.clear()
    box.send_keys(run)
    tab.until("document.querySelectorAll('.run').length === 1")


def switch(tab, term):
    tab.click(f".switch input[value='{term}']")


def test_the_tab_opens_in_tensorboard_and_shows_the_digits_run(tab, examples):
    tab.open_in_tensorboard(examples)
    show_only(tab, "digits")
    assert "gradhooks-digits/gradcheck" in tab.text(".run h2")
    assert tab.text(".run .badge") == "PASS"
    assert "6 checks · 8 variables" in tab.text(".run .facts")
    assert f"threshold {THRESHOLDS['float64']:.1e}".replace("e-0", "e-") in tab.text(".run figure")
    assert tab.severe() == []


def test_a_cell_opens_by_keyboard(tab, examples):
    tab.open(examples)
    show_only(tab, "digits")
    tab.press(Keys.HOME, Keys.ARROW_DOWN)
    assert tab.run(
        "return document.querySelector('.matrix-frame [aria-live]').textContent"
    ).startswith("digits/conv2d/kernel, step 0, PASS, relative difference about ")
    tab.press(Keys.ENTER)
    told = tab.detail()
    assert told.splitlines()[0] == "digits/conv2d/kernel"
    for words in (
        "step 0",
        "analytic",
        "numeric",
        "±",
        "left slope",
        "cosine",
        "ratio",
        "agrees",
        "y = x",
    ):
        assert words in told, words
    settings = f"samples=32, seed=0, step=0, threshold={THRESHOLDS['float64']!r}"
    call = f"gradhooks.check_gradients(model, x, y, {settings})"
    assert call in told
    tab.one(".detail h2").send_keys(Keys.ESCAPE)
    assert not tab.one(".detail").is_displayed()
    assert tab.run("return document.activeElement.className") == "matrix"
    assert tab.severe() == []


def test_a_cell_opens_by_pointer(tab, examples):
    tab.open(examples)
    show_only(tab, "digits")
    tab.click_cell(4, 2)
    told = tab.detail()
    assert told.splitlines()[0] == "digits/batch_normalization/beta"
    assert "step 90" in told


def test_the_failing_example_shows_the_place_of_its_error(tab, examples):
    tab.open(examples)
    show_only(tab, "find-the-bug")
    assert "4 of 4 checks failed" in tab.text(".run header")
    listed = tab.text(".failures")
    assert listed.index("step 171") < listed.index("step 114") < listed.index("step 0\n")
    assert tab.text(".failures .link") == "digits/scale/factor"
    assert tab.text(".failures .here") == "here"
    assert "1/32, one over the batch" in listed
    tab.click(".failures .link")
    told = tab.detail()
    assert told.splitlines()[0] == "digits/scale/factor"
    assert "a mean where a sum belongs" in told
    assert "look for a custom gradient" in told
    assert tab.severe() == []


def test_the_answer_stands_on_top_with_the_column_of_layers(tab, made_up):
    tab.open(made_up)
    show_only(tab, "placed")
    tab.until("document.querySelectorAll('.layers tbody tr').length === 6")
    [now] = tab.all(".answers > .answers > .answer:not(.over)")
    for words in (
        "layer net/block/act",
        "since step 20, in 3 checks",
        logs.PLACE.sentence.replace("`", ""),
        "net.py:12",
        "the gradient at its output: right",
        "1 variable below it inherits the error",
        "expect={'*/act': 'mismatch'}",
    ):
        assert words in now.text, words
    tops = [tab.one(selector).location["y"] for selector in (".answer", ".toolbar", ".run")]
    assert tops == sorted(tops)
    assert tab.all(".earlier .answer")[0].get_attribute("class") == "answer over"
    assert not tab.one(".earlier .answer").is_displayed()
    rows = tab.run(COLUMN)
    assert rows[3] == ["act here", "wrong 2.5e-1", "\N{EN DASH}", "right 1.0e-10", "place"]
    assert rows[4] == ["head", "not measured", "right 0", "not measured", ""]
    colours = tab.run(WIRES)
    assert len({colours["right"], colours["wrong"], colours["unknown"]}) == 3
    assert tab.severe() == []


# The text of every cell, without the numbers in small print, and whether it is the place.
COLUMN = """
const told = (cell) => [...cell.children]
  .filter((part) => part.tagName !== 'SMALL').map((part) => part.textContent).join(' ');
return [...document.querySelectorAll('.layers tbody tr')].map((row) => [
  ...[...row.cells].slice(1).map((cell) => told(cell) || cell.textContent), row.className]);
"""
WIRES = """
const wire = (name) => document.querySelector(`.layers .wire.${name}`);
const colour = (name) => getComputedStyle(wire(name)).borderLeftColor;
return Object.fromEntries(['right', 'wrong', 'unknown'].map((name) => [name, colour(name)]));
"""


def test_the_worst_term_is_shown_at_first_and_header_chart_and_matrix_agree(tab, made_up):
    tab.open(made_up)
    show_only(tab, "placed")
    assert tab.run("return document.querySelector('.switch input:checked').value") == "worst"
    assert tab.text(".run .badge") == "4 of 5 checks failed"
    assert len(tab.all(".run figure .cross")) == 4
    label = "return document.querySelector('.matrix').getAttribute('aria-label')"
    assert ", worst: " in tab.run(label)
    switch(tab, "total")
    assert len(tab.all(".run figure .cross")) == 3


def test_what_failed_comes_first_in_the_panel(tab, made_up):
    tab.open(made_up)
    show_only(tab, "placed")
    tab.click("[name=problems]")
    # The variable of which the received gradient alone is wrong, in the check at step 10.
    tab.one(".query").send_keys("dense/kernel")
    tab.press(Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_UP, Keys.ARROW_UP, Keys.ENTER)
    assert "step 10" in tab.detail()
    heads = tab.run("return [...document.querySelectorAll('.detail h3')].map((e) => e.textContent)")
    assert heads.index("Trained: what the optimizer receives") < heads.index(
        "Numeric beside analytic"
    )


def test_another_variable_of_a_failed_check_names_the_place(tab, examples):
    tab.open(examples)
    show_only(tab, "find-the-bug")
    tab.press(Keys.END, Keys.ARROW_DOWN, Keys.ENTER)
    told = " ".join(tab.detail().split())
    assert "layer digits/scale: digits/scale (Scale, " in told
    tab.click(".detail .notice .link")
    tab.until("document.querySelector('.detail h2').textContent === 'digits/scale/factor'")


def test_switching_terms_changes_the_picture(tab, examples):
    tab.open(examples)
    show_only(tab, "digits")
    pictures = {}
    for term in ("worst", "total", "data", "penalty", "trained"):
        switch(tab, term)
        pictures[term] = tab.picture()
        assert f"the check, {term}," in tab.text(".run figcaption")
    assert len(set(pictures.values())) >= 4
    switch(tab, "total")
    assert tab.picture() == pictures["total"]


def test_the_line_that_reproduces_is_copied(tab, examples):
    tab.open(examples)
    origin = examples.removesuffix("/tb/")
    permissions = {
        "origin": origin,
        "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"],
    }
    tab.driver.execute_cdp_cmd("Browser.grantPermissions", permissions)
    tab.click(".failures .code button")
    tab.until("document.querySelector('.failures .code button').textContent === 'Copied'")
    copied = tab.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == tab.text(".failures .code code")
    assert copied.startswith("gradhooks.check_gradients(model, x, y, ")


def test_runs_stand_side_by_side_and_can_be_filtered(tab, examples):
    tab.open(examples)
    lefts = [run.location["x"] for run in tab.all(".run")]
    assert len(lefts) == 2
    assert lefts[0] < lefts[1]
    assert "find-the-bug" in tab.text(".run h2")  # what has failed comes first
    tab.click(".filter .list input")
    tab.until("document.querySelectorAll('.run').length === 1")
    assert "digits" in tab.text(".run h2")


@pytest.mark.parametrize("width", [1280, 700])
def test_nothing_is_cut_off(tab, examples, width):
    tab.open(examples, width)
    assert tab.run("return document.documentElement.scrollWidth") <= width
    tab.press(Keys.END, Keys.ENTER)
    tab.detail()
    assert tab.run("return document.documentElement.scrollWidth") <= width
    outside = tab.run(
        "return [...document.querySelectorAll('.detail .body > *, .run, .toolbar > *')]"
        ".filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.className)"
    )
    assert outside == []


def test_verdicts_are_told_apart_without_colour(tab, made_up):
    """Every verdict has a pattern of its own in shades of grey, without the colour of its cell."""
    tab.open(made_up)
    show_only(tab, "kinds")
    switch(tab, "total")  # in which one of them was not sampled
    signs = tab.run(PATTERNS, 7)
    # The direction and w1 fail; w0 passes; then inconclusive, declared, nothing to compare, not
    # sampled.
    assert signs[0] == signs[2]
    assert len(set(signs)) == 6


PATTERNS = """
const canvas = document.querySelector('.matrix canvas');
const { gutter, header, width, height } = JSON.parse(canvas.dataset.geometry);
const context = canvas.getContext('2d');
return Array.from({ length: arguments[0] }, (_, row) => {
  const cell = context.getImageData(gutter, header + row * height, width - 1, height - 1).data;
  const greys = [];
  for (let i = 0; i < cell.length; i += 4) {
    greys.push(0.3 * cell[i] + 0.6 * cell[i + 1] + 0.1 * cell[i + 2]);
  }
  return greys.map((grey) => (Math.abs(grey - greys[0]) > 40 ? '#' : '.')).join('');
});
"""


def test_only_problems_and_the_filter_of_variables(tab, made_up):
    tab.open(made_up)
    show_only(tab, "kinds")
    label = "return document.querySelector('.matrix').getAttribute('aria-label')"
    assert tab.run(label).endswith("7 variables by 10 checks")
    tab.click("[name=problems]")
    assert tab.run(label).endswith("3 variables by 10 checks")
    tab.one(".query").send_keys("layer_1")
    assert tab.run(label).endswith("1 variables by 10 checks")
    tab.one(".query").send_keys("nonsense")
    assert tab.text(".nothing") == "No variable matches the filters."


def test_hostile_names_are_shown_and_do_nothing(tab, made_up):
    tab.open(made_up)
    page = tab.text()
    assert '<img src=x onerror="window.owned=1">' in page
    tab.click(".failures li:last-child .link")
    for link in tab.all(".failures .link"):
        tab.run("arguments[0].click()", link)
        tab.detail()
    show_only(tab, "<img")
    tab.press(Keys.HOME)
    tab.press(Keys.ENTER)
    told = tab.detail()
    assert told.splitlines()[0] == logs.HOSTILE.replace("\n", "\\n")
    time.sleep(0.2)  # an image that cannot be loaded takes a moment to say so
    assert tab.run("return window.owned") is None
    foreign = "img, script:not([type=module]), a:not([download])"
    assert tab.run("return document.querySelectorAll(arguments[0]).length", foreign) == 0
    assert tab.severe() == []


def test_a_damaged_report_is_a_card_and_leaves_the_others_alone(tab, made_up):
    tab.open(made_up)
    show_only(tab, "damaged")
    assert "1 report of 2 cannot be read: the text is not JSON" in tab.text(".run .notice.error")
    tab.press(Keys.END, Keys.ENTER)
    assert "dense/kernel" in tab.detail()
    tab.click(".steps button")
    tab.until("document.querySelector('.detail .notice.error')")
    assert "the text is not JSON" in tab.text(".detail")
    assert tab.severe() == []


def test_dark_and_light(tab, made_up):
    tab.open_in_tensorboard(made_up)
    show_only(tab, "kinds")
    light, picture = (
        tab.run("return getComputedStyle(document.body).backgroundColor"),
        tab.picture(),
    )
    tab.run("window.parent.document.body.classList.add('dark-mode')")
    tab.until("document.documentElement.dataset.theme === 'dark'")
    assert tab.run("return getComputedStyle(document.body).backgroundColor") != light
    assert tab.picture() != picture
    tab.run("window.parent.document.body.classList.remove('dark-mode')")
    tab.until("document.documentElement.dataset.theme === 'light'")
    assert tab.picture() == picture
