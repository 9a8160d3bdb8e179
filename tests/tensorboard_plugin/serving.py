"""A real TensorBoard process on a log directory, and requests to it."""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

# Python imports this before anything else: an environment in which no framework is installed.
WITHOUT_A_FRAMEWORK = """
import sys


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("keras", "tensorflow", "jax", "torch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
"""
REPOSITORY = pathlib.Path(__file__).parents[2]


@contextlib.contextmanager
def served(log_dir, directory, *options, python=(), executable=None):
    """Yields the address of a TensorBoard process that can import no framework.

    Args:
        log_dir: What `--logdir` is given.
        directory: Folder for the process' own files.
        options: Further options of TensorBoard.
        python: Folders that Python searches before the repository.
        executable: Another Python, with gradhooks and TensorBoard of its own.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sitecustomize.py").write_text(WITHOUT_A_FRAMEWORK)
    log_file = directory / "tensorboard.log"
    repository = [] if executable else [REPOSITORY]
    path = ":".join(map(str, (*python, directory, *repository)))
    command = [
        str(executable or sys.executable),
        "-m",
        "tensorboard.main",
        "--logdir",
        str(log_dir),
    ]
    command += ["--host", "127.0.0.1", "--port", "0", "--reload_interval", "1", *options]
    environment = {**os.environ, "PYTHONPATH": path}
    with log_file.open("w") as log:
        # Python looks for modules where it is started, before anywhere else.
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=directory)
    try:
        yield eventually(lambda: re.search(r"http://127\.0\.0\.1:\d+/\S*", log_file.read_text())[0])
    finally:
        process.terminate()
        process.wait(30)


def eventually(attempt, seconds=90):
    """What `attempt` returns once it neither fails for want of an answer nor returns nothing."""
    deadline, latest = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            if result := attempt():
                return result
        except (OSError, TypeError, LookupError) as error:
            latest = error
        time.sleep(0.1)
    raise AssertionError(f"nothing came in {seconds} s; latest error: {latest!r}")


def get(url, method="GET"):
    """Returns (status, headers, body) of a request, also of one that is refused."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(urllib.request.Request(url, method=method), timeout=120) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.headers, refused.read()


def fetch(address, route, **query):
    """Returns what a route of the plugin answers in JSON."""
    status, _, body = get(f"{address}data/plugin/gradhooks/{route}?{urllib.parse.urlencode(query)}")
    assert status == 200, body
    return json.loads(body)


def series(address, count=1):
    """Returns the runs once TensorBoard has found as many."""
    return eventually(
        lambda: (found := fetch(address, "runs")["series"]) and len(found) >= count and found
    )
