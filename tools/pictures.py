"""Takes README's screenshots from the logs of the examples.

Run `python -m tools.pictures [folder]`.
"""

import pathlib
import sys
import tempfile

from tests.tensorboard_plugin import browser, logs
from tests.tensorboard_plugin.serving import REPOSITORY, series, served

FOLDER = REPOSITORY / "docs" / "pictures"
# Sharp on screens of twice the density.
SCALE = 2
# Puts the folder of README's examples in place of the one that this copy of the code is in.
AT_HOME = """
const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (words.nextNode()) {
  const { currentNode: node } = words;
  node.textContent = node.textContent.replaceAll(arguments[0], '/home/you/gradhooks');
}
"""


def main(folder=FOLDER):
    """Runs the examples, opens their logs in TensorBoard and photographs what README shows."""
    if browser.missing():
        raise SystemExit(f"Pictures need a browser: {browser.missing()}.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        log_dirs = logs.examples(scratch)
        with browser.chromium() as driver:
            camera = Camera(browser.Tab(driver), folder)
            with served(log_dirs["digits"], scratch / "digits-served") as address:
                series(address)
                camera.tab_of(address, "tab")
                camera.tab_of(address, "tab-dark", is_dark=True, scale=1)
                camera.time_series(address)
            with served(log_dirs["find_the_bug"], scratch / "bug-served") as address:
                series(address)
                camera.answer(address, "answer")
                camera.answer(
                    address, "answer-narrow", width=700, height=1000, is_dark=True, scale=1
                )
                camera.failure(address, "failure")
    for path in sorted(folder.glob("*.png")):
        print(f"{path}: {path.stat().st_size // 1024} kB")


class Camera:
    """Photographs pages in TensorBoard.

    Args:
        tab: A `browser.Tab`.
        folder: Where the pictures go.
    """

    def __init__(self, tab, folder):
        self.tab, self.folder = tab, folder

    def tab_of(self, address, name, width=1280, height=800, is_dark=False, scale=SCALE):
        self.open(address, width, height, is_dark, scale)
        self.shoot(name)

    def answer(self, address, name, width=1280, height=800, is_dark=False, scale=SCALE):
        self.open(address, width, height, is_dark, scale)
        self.tab.until("document.querySelector('.layers .place')")
        self.shoot(name)

    def failure(self, address, name, width=1280, height=900, is_dark=False, scale=SCALE):
        self.open(address, width, height, is_dark, scale)
        self.tab.click(".failures .link")
        self.tab.detail()
        self.shoot(name)

    def time_series(self, address):
        tab = self.tab
        tab.resize(1280, 800, SCALE)
        tab.driver.get(f"{address}?darkMode=false&tagFilter=difference%7Cthreshold#timeseries")
        pane = "[aria-label='Toggle settings side pane']"
        tab.until(f'document.querySelector("{pane}")')
        tab.click(pane)
        tab.until(
            "document.querySelectorAll('scalar-card svg path, scalar-card canvas').length > 3"
        )
        # The charts are drawn one by one after their data have come.
        tab.settle()
        self.shoot("time-series")

    def open(self, address, width, height, is_dark, scale):
        self.tab.open_in_tensorboard(address, width, height, is_dark, scale)
        self.tab.until("document.querySelector('.run .facts').textContent.length > 0")
        self.tab.until(
            f"document.documentElement.dataset.theme === '{'dark' if is_dark else 'light'}'"
        )

    def shoot(self, name):
        self.tab.settle()
        self.tab.run(AT_HOME, str(REPOSITORY))
        self.tab.driver.switch_to.default_content()
        self.tab.driver.save_screenshot(str(self.folder / f"{name}.png"))


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:2]))
