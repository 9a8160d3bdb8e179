"""The backend that Keras runs on does what every backend must do, and a wrong one is noticed."""

import contextlib
import types

import keras
import numpy as np
import pytest

from gradhooks import backends
from tests.backends.conformance import promises


@pytest.mark.parametrize("promise", promises.PROMISES, ids=lambda promise: promise.__name__)
def test_the_backend_keeps_its_promises(promise):
    promise(backends.current())


def spoiled(**members):
    """The present backend with some of its members replaced."""
    backend = backends.current()
    return types.SimpleNamespace(
        **{name: getattr(backend, name) for name in backend.__all__} | members
    )


def differentiate_wrongly(target, values):
    gradients = backends.current().differentiate(target, values)
    return [None if g is None else 1.001 * g for g in gradients]


def differentiate_the_first_alone(target, values):
    first, *_ = backends.current().differentiate(target, values)
    return [first] + [first] * (len(values) - 1)


def lose_digits(*args, **kwargs):
    program = backends.current().LossProgram(*args, **kwargs)
    return lambda *inputs: np.float64(np.float32(program(*inputs)))


def find_everything_open(graph, forward, *others):
    passages = backends.current().find_passages(graph, forward, *others)
    return tuple(
        types.SimpleNamespace(through=p.through, around=p.around, is_open=True) for p in passages
    )


class Computed:
    """A part that computes from what it computes itself, and not from what it is given."""

    def __init__(self, gradients, state, batch, entries, exits):
        self._part = backends.current().GraphPart(gradients, state, batch, [], exits)

    def __call__(self, point, state, batch, given=()):
        return self._part(point, state, batch)


WRONG = {
    "a gradient 1.001 times too large": (
        {"differentiate": differentiate_wrongly},
        promises.a_gradient_is_that_of_the_closed_form,
    ),
    "no missing gradient": (
        {"differentiate": differentiate_the_first_alone},
        promises.what_no_gradient_reaches_is_not_connected,
    ),
    "losses in float32": (
        {"LossProgram": lose_digits},
        promises.losses_along_probes_are_those_of_the_closed_form,
    ),
    "casts that are not left out": (
        {"intercept_casts": lambda is_narrowing: contextlib.nullcontext()},
        promises.narrowing_casts_are_left_out_and_found,
    ),
    "narrow operations that are not found": (
        {"find_narrow_operations": lambda graph, forward: ()},
        promises.narrowing_casts_are_left_out_and_found,
    ),
    "a part that is given nothing": (
        {"GraphPart": Computed},
        promises.a_part_is_computed_from_what_is_given,
    ),
    "everything leads through a part": (
        {"find_passages": find_everything_open},
        promises.what_leads_through_a_part_is_found,
    ),
    "arrays of another dtype": (
        {"to_tensor": lambda value: keras.ops.convert_to_tensor(value, "float32")},
        promises.arrays_come_back_as_they_went,
    ),
    "a summary without the largest": (
        {"summarize": lambda tensor: 0 * backends.current().summarize(tensor)},
        promises.a_summary_has_the_numbers_of_the_closed_form,
    ),
    "writes": (
        {"find_writes": lambda graph: ("Assign",)},
        promises.evaluations_write_to_nothing,
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_backend_is_noticed(name):
    members, promise = WRONG[name]
    with pytest.raises(AssertionError):
        promise(spoiled(**members))
