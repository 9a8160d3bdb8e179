"""A report in a browser, in notebooks of every theme: it can be read, and nothing in it runs."""

import pytest

from gradhooks.reports.reasons import Reason, Verdict
from tests.reports.test_html import HOSTILE
from tests.reports.test_table import WRONG, comparison, failed, report
from tests.tensorboard_plugin import browser

pytestmark = [pytest.mark.system, browser.needs_browser]

# How notebooks look around an output: attributes of the body, its text and background.
THEMES = {
    "jupyter, light": ('data-jp-theme-light="true"', "rgba(0, 0, 0, .87)", "#fff"),
    "jupyter, dark": ('data-jp-theme-light="false"', "#fff", "#111"),
    "vs code, dark": ('class="vscode-dark"', "#ccc", "#1e1e1e"),
    "no theme": ("", "#000", "#fff"),
}
SHOWN = {
    "wrong": WRONG,
    "hostile": report(
        failed(HOSTILE), verdict=Verdict.FAIL, reason=Reason.MISMATCH, error=HOSTILE, name=HOSTILE
    ),
    "passing": report(comparison()),
}
# The least contrast of text that is not large: WCAG 2.2, 1.4.3.
CONTRAST = 4.5
# Contrast of every text with what is behind it; colours are mixed with those below by their alpha.
CONTRASTS = """
const parse = color => {
  const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
  return [r, g, b, a];
};
const over = (top, below) => [0, 1, 2].map(k => top[3] * top[k] + (1 - top[3]) * below[k]);
const backdrop = element => element
  ? over(parse(getComputedStyle(element).backgroundColor), backdrop(element.parentElement))
  : [255, 255, 255];
const opacity = element => element
  ? Number(getComputedStyle(element).opacity) * opacity(element.parentElement) : 1;
const luminance = rgb => {
  const [r, g, b] = rgb.map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const found = [];
const words = document.createTreeWalker(document.querySelector('.gh-report'), NodeFilter.SHOW_TEXT);
while (words.nextNode()) {
  const element = words.currentNode.parentElement;
  if (element.tagName === 'STYLE' || !words.currentNode.textContent.trim()) continue;
  const below = backdrop(element), text = parse(getComputedStyle(element).color);
  text[3] *= opacity(element);
  const [dark, light] = [luminance(over(text, below)), luminance(below)].sort((a, b) => a - b);
  found.push([words.currentNode.textContent, (light + 0.05) / (dark + 0.05)]);
}
return found;
"""


@pytest.fixture(scope="module")
def tab():
    with browser.chromium() as driver:
        yield browser.Tab(driver)


def show(tab, tmp_path, name, theme="jupyter, light", width=900):
    attributes, text, background = THEMES[theme]
    page = tmp_path / "page.html"
    style = f"color: {text}; background: {background}; margin: 0"
    html = SHOWN[name]._repr_html_()
    page.write_text(
        f'<!doctype html><meta charset="utf-8"><body {attributes} style="{style}">{html}',
        encoding="utf-8",
    )
    tab.resize(width, 700)
    tab.driver.get(page.as_uri())


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", SHOWN)
def test_every_word_can_be_read(tab, tmp_path, name, theme):
    show(tab, tmp_path, name, theme)
    contrasts = tab.run(CONTRASTS)
    assert len(contrasts) > 5
    assert not [(word, ratio) for word, ratio in contrasts if ratio < CONTRAST]


@pytest.mark.parametrize("theme", THEMES)
def test_scroll_bars_are_those_of_the_theme(tab, tmp_path, theme):
    show(tab, tmp_path, "wrong", theme)
    scheme = tab.run("return getComputedStyle(document.querySelector('.gh-report')).colorScheme")
    assert scheme == ("dark" if "dark" in theme else "light")


def test_nothing_in_a_name_becomes_an_element_or_runs(tab, tmp_path):
    tab.severe()
    show(tab, tmp_path, "hostile")
    assert not tab.all(".gh-report script, .gh-report img")
    assert not tab.severe()
    assert tab.run("return document.querySelector('.gh-report p').textContent").count("<script>")


def test_the_table_is_folded_until_it_is_asked_for(tab, tmp_path):
    show(tab, tmp_path, "wrong")
    assert not tab.one(".gh-report table").is_displayed()
    tab.one(".gh-report summary").send_keys("\n")
    assert tab.one(".gh-report table").is_displayed()


def test_a_narrow_notebook_is_not_widened(tab, tmp_path):
    show(tab, tmp_path, "wrong", width=420)
    tab.click(".gh-report summary")
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert tab.run(wide) == 0
