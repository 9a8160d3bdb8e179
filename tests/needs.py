"""What a test needs that one backend of Keras alone has."""

import pytest

from tests import frameworks


def tensorflow(what):
    """Skips a test on other backends than TensorFlow, which alone has what it needs."""
    is_other = frameworks.BACKEND != "tensorflow"
    return pytest.mark.skipif(is_other, reason=f"{what}: with TensorFlow alone")


def cases_of_tensorflow(cases, *names, what):
    """Returns the names of all cases as parameters, some of them for TensorFlow alone."""
    needed = tensorflow(what)
    return [pytest.param(name, marks=needed) if name in names else name for name in cases]
