"""A headless Chromium, and what the tests do with the tab in it."""

import contextlib
import json
import shutil
import time

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def missing():
    """Returns what the browser tests lack on this machine; empty if nothing."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    return (
        ""
        if CHROMIUM and DRIVER
        else "chromium and chromium-driver (Debian packages) are not installed"
    )


needs_browser = pytest.mark.skipif(bool(missing()), reason=missing())


@contextlib.contextmanager
def chromium():
    """Yields a Selenium driver; its log of errors is kept."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--lang=en-US",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(60)
    try:
        yield driver
    finally:
        driver.quit()


class Tab:
    """The Gradient Check tab in a browser.

    Args:
        driver: From `chromium()`.
    """

    def __init__(self, driver):
        self.driver = driver

    def open(self, address, width=1280, height=900):
        """Opens the page without TensorBoard's frame and waits for its first drawing."""
        self.resize(width, height)
        self.severe()
        self.driver.get(f"{address}data/plugin_entry.html?name=gradhooks")
        return self.drawn()

    def open_in_tensorboard(self, address, width=1280, height=900, is_dark=False, scale=1):
        """Opens TensorBoard at the tab and enters its frame."""
        self.resize(width, height, scale)
        self.severe()
        self.driver.get(f"{address}{'?darkMode=true' if is_dark else ''}#gradhooks")
        self.enter_frame()
        return self.drawn()

    def enter_frame(self):
        """Goes on inside TensorBoard's frame of the tab."""
        frame = self.until(
            "document.querySelector('iframe')", "return document.querySelector('iframe')"
        )
        self.driver.switch_to.frame(frame)

    def settle(self, seconds=1.5):
        """Lets animations end."""
        time.sleep(seconds)

    def drawn(self):
        self.until("document.documentElement.dataset.drawn > 0")
        self.until("!document.querySelector('.status').textContent.includes('reading')")
        return self

    def resize(self, width, height, scale=1):
        self.driver.switch_to.default_content()
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def until(self, condition, result=None, seconds=60):
        """Waits until a JavaScript expression holds, and returns what `result` then gives."""
        deadline = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < deadline, (
                f"never true: {condition}; the page: {self.text()[:2000]}"
            )
            time.sleep(0.05)
        return self.run(result) if result else None

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def text(self, selector="body"):
        """The visible text of the first element."""
        return self.one(selector).text

    def click(self, selector):
        self.run("document.querySelector(arguments[0]).click()", selector)

    def picture(self, number=0):
        """The pixels of a run's matrix."""
        return self.run(
            "return document.querySelectorAll('.matrix canvas')[arguments[0]].toDataURL()", number
        )

    def press(self, *keys, number=0):
        """Presses keys with the matrix of a run in focus."""
        matrix = self.all(".matrix")[number]
        matrix.send_keys(*keys)

    def click_cell(self, row, column, number=0):
        """Clicks the middle of a cell in view with the pointer."""
        from selenium.webdriver.common.action_chains import ActionChains

        canvas = self.all(".matrix canvas")[number]
        self.run("arguments[0].scrollIntoView({block: 'center'})", canvas)
        at = json.loads(canvas.get_attribute("data-geometry"))
        x = at["gutter"] + (column + 0.5) * at["width"] - canvas.size["width"] / 2
        y = at["header"] + (row + 0.5) * at["height"] - canvas.size["height"] / 2
        ActionChains(self.driver).move_to_element_with_offset(
            canvas, int(x), int(y)
        ).click().perform()

    def detail(self):
        """The text of the panel once it is filled."""
        self.until("document.querySelector('.detail .code, .detail .notice.error')")
        return self.text(".detail")

    def severe(self):
        """The errors that the browser has logged since the last call."""
        logged = [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE"
        ]
        # A browser asks for an icon by itself where a page without TensorBoard around it names
        # none. TensorBoard 2.18 asks for its own fonts without the path prefix.
        return [
            message
            for message in logged
            if "/favicon.ico" not in message and "/font-roboto/" not in message
        ]
