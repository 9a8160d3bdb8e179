"""Settings for every test: a quiet TensorFlow that leaves the other cores alone."""

import gc
import os

import hypothesis
import pytest

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Results must not depend on the order in which threads add numbers up.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")


def pytest_collection_finish():
    """Takes what is imported out of the garbage collector's sight, which would go through all of it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def unoptimized():
    """Runs graphs as they are traced: optimizing a small one takes longer than all that a test does with it.

    For tests of hundreds of cases; the sweep, and every other test, run them as users do.
    """
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
