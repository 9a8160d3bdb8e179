"""Logs and a browser that the tests of the tab share."""

import time

import pytest

from tests.tensorboard_plugin import browser, logs


@pytest.fixture(scope="session")
def example_logs(tmp_path_factory):
    """The log directories of the examples, which only one worker runs."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if base.name.startswith("popen-") else base) / "examples"
    names = {
        name: shared / f"gradhooks-{name.replace('_', '-')}" for name in ("digits", "find_the_bug")
    }
    try:
        shared.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + 300
        while not (shared / "done").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert (shared / "done").exists(), "another worker did not finish the examples"
        return names
    assert logs.examples(shared) == names
    (shared / "done").touch()
    return names


@pytest.fixture(scope="session")
def driver():
    if browser.missing():
        pytest.skip(browser.missing())
    with browser.chromium() as chromium:
        yield chromium


@pytest.fixture
def tab(driver):
    return browser.Tab(driver)
