"""Every backend has the members that the Keras side asks for."""

import inspect

import pytest

from gradhooks import backends
from gradhooks.backends import base, programs, tensorflow

MEMBERS = sorted(name for name in vars(base.Backend) if not name.startswith("_"))


def parameters_of(function):
    """Names of the parameters that callers may pass, without `self`."""
    signature = inspect.signature(function)
    return [name for name in signature.parameters if name != "self"]


@pytest.mark.parametrize("name", MEMBERS)
def test_the_tensorflow_package_has_every_member(name):
    member = getattr(tensorflow, name)
    expected = parameters_of(getattr(base.Backend, name))
    # A backend may take more, by keyword and with a default.
    assert parameters_of(member)[: len(expected)] == expected


def test_the_tensorflow_package_has_no_other_members():
    assert sorted(tensorflow.__all__) == MEMBERS


def test_the_current_backend_is_the_package():
    assert backends.current() is tensorflow


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [
        (programs.Program, tensorflow.GradientProgram),
        (programs.Losses, tensorflow.LossProgram),
        (programs.Recorder, tensorflow.CompiledStep),
        (programs.EagerRecorder, tensorflow.EagerStep),
        (programs.Tape, tensorflow.Tape),
    ],
)
def test_the_classes_have_the_methods_of_their_protocols(protocol, kind):
    methods = [name for name, member in vars(protocol).items() if inspect.isfunction(member)]
    methods = [name for name in methods if name == "__call__" or not name.startswith("_")]
    assert methods
    for name in methods:
        expected = parameters_of(getattr(protocol, name))
        assert parameters_of(getattr(kind, name)) == expected
