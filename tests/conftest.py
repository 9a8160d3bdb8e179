"""Settings for every test: a quiet TensorFlow that leaves the other cores alone."""

import gc
import os

import hypothesis
import pytest

from tests import frameworks
from tools import durations

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Results must not depend on the order in which threads add numbers up.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")


# Tiers that tests are put into by hand, with a marker; see pyproject.toml.
TIERS = ("slow_cases", "system", "sweep", "versions", "benchmarks", "holdout")


def pytest_ignore_collect(collection_path):
    """Leaves out files that import another framework than that of Keras' backend."""
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return True if is_test and not frameworks.is_for(collection_path, frameworks.BACKEND) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Puts tests that cost much into the tier `slow_cases`, by their stored durations."""
    by_id, kinds = {}, {}
    for item in items:
        if not any(item.get_closest_marker(tier) for tier in TIERS):
            by_id[item.nodeid] = item
            kinds[item.nodeid] = kind_of(item)
    for test_id in durations.find_slow_tests(kinds, durations.read()):
        by_id[test_id].add_marker("slow_cases")


def kind_of(item):
    """Returns what a test tests: its function, and of the corpora also the file of the case."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    case = parameters.get("case", parameters.get("entry"))
    build = getattr(case, "build", None)
    return item.nodeid.partition("[")[0], getattr(build, "__module__", "")


def pytest_collection_finish():
    """Freezes what is imported, so that garbage collection need not go through it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def unoptimized():
    """Runs graphs as they are traced.

    Optimizing a small one takes longer than all that a test does with it.

    For tests of hundreds of cases; the sweep, and every other test, run them as users do.
    """
    if frameworks.BACKEND != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
