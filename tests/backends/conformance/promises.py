"""What any backend must do, as functions that raise an AssertionError where one does not.

Each takes the package of a backend. The functions that are traced are written with
`keras.ops`, and their derivatives are known in closed form.
"""

import contextlib

import keras
import numpy as np
from keras import ops

from gradhooks.isolation import threads
from gradhooks.model import keras_internals
from gradhooks.numerics.probe import Probe

SHAPES = [(3, 2), (2,)]
POINT = np.linspace(-0.7, 0.9, 8)
POINT.flags.writeable = False
BATCH = np.linspace(-1.0, 1.0, 12).reshape(4, 3)
STATE = np.float64(0.3)


def loss_at(point):
    """The loss terms of `trace` in NumPy: total, data and penalty."""
    kernel, bias = point[:6].reshape(3, 2), point[6:]
    data = np.sum(np.tanh(BATCH @ kernel + bias)) + STATE * np.sum(kernel)
    penalty = 0.5 * np.sum(kernel**2)
    return np.array([data + penalty, data, penalty])


def gradients_at(point):
    """The gradients of the total and of the penalty in closed form."""
    kernel, bias = point[:6].reshape(3, 2), point[6:]
    slope = 1 - np.tanh(BATCH @ kernel + bias) ** 2
    data = np.concatenate([(BATCH.T @ slope + STATE).ravel(), slope.sum(0)])
    penalty = np.concatenate([kernel.ravel(), np.zeros(2)])
    return data + penalty, penalty


@contextlib.contextmanager
def open_wide(backend):
    """What is open around a promoted trace, of which the backend's part is `open_float64`."""
    with threads.take_turn(), backend.open_float64(), keras_internals.keep_float64():
        yield


class Trace:
    """A program of the loss above, with the tensors between."""

    def __init__(self, backend):
        self.backend, self.inner, self.gradient_at_inner = backend, None, None
        self.state, self.batch = [backend.to_tensor(STATE)], [backend.to_tensor(BATCH)]
        with open_wide(backend):
            self.program = backend.GradientProgram(
                self._differentiate, SHAPES, self.state, self.batch
            )
        self.losses = backend.LossProgram(self.program, self.state, self.batch)

    def _differentiate(self, values, state, batch):
        kernel, bias = values
        self.inner = ops.matmul(batch[0], kernel) + bias
        self.outer = ops.tanh(self.inner)
        data = ops.sum(self.outer) + state[0] * ops.sum(kernel)
        penalty = 0.5 * ops.sum(ops.square(kernel))
        terms = data + penalty, data, penalty
        *total, self.slope = self.backend.differentiate(terms[0], [*values, self.inner])
        rest = [self.backend.differentiate(term, values) for term in terms[1:]]
        return terms, (total, *rest)


def a_gradient_is_that_of_the_closed_form(backend):
    trace = Trace(backend)
    total, data, penalty = trace.program(POINT, trace.state, trace.batch)
    expected, expected_penalty = gradients_at(POINT)
    np.testing.assert_allclose(total, expected, rtol=1e-13)
    np.testing.assert_allclose(data, expected - expected_penalty, rtol=1e-12)
    np.testing.assert_allclose(penalty, expected_penalty, rtol=1e-13)
    assert trace.program.connected.tolist() == [True, True]


def what_no_gradient_reaches_is_not_connected(backend):
    def differentiate(values, state, batch):
        total = ops.sum(ops.square(values[0])) + ops.sum(ops.stop_gradient(values[1]))
        return (total,) * 3, (backend.differentiate(total, values),)

    with open_wide(backend):
        program = backend.GradientProgram(differentiate, SHAPES, [], [])
    assert program.connected.tolist() == [True, False]
    (gradient,) = program(POINT, [], [])
    assert np.all(gradient[6:] == 0)


def a_wrong_gradient_of_the_users_stays_wrong(backend):
    @ops.custom_gradient
    def doubled(x):
        def backward(*args, upstream=None):
            (upstream,) = args or (upstream,)
            return 2 * upstream

        return x + 0, backward

    def differentiate(values, state, batch):
        total = ops.sum(doubled(values[0])) + ops.sum(values[1])
        return (total,) * 3, (backend.differentiate(total, values),)

    with open_wide(backend):
        program = backend.GradientProgram(differentiate, SHAPES, [], [])
    (gradient,) = program(POINT, [], [])
    assert gradient.tolist() == [2.0] * 6 + [1.0] * 2


def losses_along_probes_are_those_of_the_closed_form(backend):
    trace = Trace(backend)
    for probes in PROBES:
        pairs = [(number, offset) for number in range(len(probes)) for offset in (0.0, 1e-3, -0.2)]
        found = trace.losses(POINT, trace.state, trace.batch, probes, pairs)
        expected = [loss_at(probes[number].move(POINT, offset)) for number, offset in pairs]
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)


PROBES = [
    [Probe(0, np.ones(1)), Probe(7, np.full(1, -2.0)), Probe(3, np.ones(1))],
    [Probe(1, np.array([1.0, -1.0, 0.5]), positions=np.array([1, 2, 5]))],
    [Probe(0, np.linspace(-1, 1, 8)), Probe(6, np.array([0.3, 0.4]))],
]


def a_part_is_computed_from_what_is_given(backend):
    trace = Trace(backend)
    part = backend.GraphPart(trace.program, trace.state, trace.batch, [trace.inner], [trace.outer])
    given = np.linspace(-2, 2, 8).reshape(4, 2)
    (outer,) = part(POINT, trace.state, trace.batch, [given])
    np.testing.assert_allclose(outer, np.tanh(given), rtol=1e-14)
    whole = backend.GraphPart(trace.program, trace.state, trace.batch, [], [trace.slope])
    (slope,) = whole(POINT, trace.state, trace.batch)
    inner = BATCH @ POINT[:6].reshape(3, 2) + POINT[6:]
    np.testing.assert_allclose(slope, 1 - np.tanh(inner) ** 2, rtol=1e-13)


def what_leads_through_a_part_is_found(backend):
    trace = Trace(backend)
    program = trace.program
    total, _, penalty = backend.find_passages(
        program.graph, program.forward, [trace.inner], [trace.outer], True
    )
    assert total.is_open
    assert not penalty.is_open
    assert total.through.tolist() == [True, True]
    assert total.around.tolist() == [True, False]  # the penalty, and the sum of the kernel
    assert program.are_outermost([trace.inner, trace.outer])


def narrowing_casts_are_left_out_and_found(backend):
    def differentiate(values, state, batch):
        total = ops.sum(ops.cast(ops.cast(values[0], "float32"), "float64")) + ops.sum(values[1])
        return (total,) * 3, (backend.differentiate(total, values),)

    def trace(context):
        with open_wide(backend), context:
            program = backend.GradientProgram(differentiate, SHAPES, [], [])
        return program, backend.find_narrow_operations(program.graph, program.forward)

    program, narrow = trace(contextlib.nullcontext())
    assert narrow
    program, narrow = trace(backend.intercept_casts(lambda source, target: source == "float64"))
    assert not narrow
    moved = POINT + 1e-12
    before, after = [program.evaluate(point, [], [])[0][0] for point in (POINT, moved)]
    np.testing.assert_allclose(after - before, 8e-12, rtol=1e-3)


def float64_exists_only_while_it_is_open(backend):
    before = ops.convert_to_tensor(np.ones(2, "float32")).dtype, keras.config.floatx()
    with open_wide(backend):
        wide = backend.cast(ops.convert_to_tensor(np.ones(2, "float32")), "float64")
        assert keras.backend.standardize_dtype((wide + 1).dtype) == "float64"
        with backend.native_precision():
            native = ops.convert_to_tensor(np.ones(2, "float32")) * 2.0
            assert keras.backend.standardize_dtype(native.dtype) == "float32"
    assert (ops.convert_to_tensor(np.ones(2, "float32")).dtype, keras.config.floatx()) == before


def arrays_come_back_as_they_went(backend):
    arrays = [np.arange(4.0), np.ones((2, 3), "float32"), np.arange(3, dtype="int32")]
    tensors = [backend.to_tensor(array) for array in arrays]
    for array, tensor in zip(arrays, tensors, strict=True):
        assert keras.backend.standardize_dtype(tensor.dtype) == array.dtype.name
    np.testing.assert_array_equal(
        backend.flatten(tensors), np.concatenate([array.ravel() for array in arrays])
    )
    variable = keras.Variable(np.ones(2, "float32"))
    (kept,) = backend.snapshot([variable])
    variable.assign(np.zeros(2))
    assert backend.flatten([kept]).tolist() == [1.0, 1.0]


def a_summary_has_the_numbers_of_the_closed_form(backend):
    values = np.array([[3.0, -4.0, 0.0], [np.inf, 1.0, np.nan]])

    def summarize(tensors):
        return [backend.summarize(tensors[0])]

    with open_wide(backend):
        ((summary,),) = backend.evaluate(summarize, [backend.to_tensor(values)])
    finite = np.where(np.isfinite(values), values, 0).ravel()
    projection = finite @ np.cos(np.arange(6.0) ** 2) / np.sqrt(6)
    expected = [4 / 6, 5 / 6, np.sqrt(26 / 6), 4, projection]
    np.testing.assert_allclose(summary, expected, rtol=1e-12)


def evaluations_write_to_nothing(backend):
    trace = Trace(backend)
    assert backend.find_writes(trace.program.graph) == ()
    assert not trace.program.calls_python
    assert trace.program.own_variables([]) == []


PROMISES = [
    a_gradient_is_that_of_the_closed_form,
    what_no_gradient_reaches_is_not_connected,
    a_wrong_gradient_of_the_users_stays_wrong,
    losses_along_probes_are_those_of_the_closed_form,
    a_part_is_computed_from_what_is_given,
    what_leads_through_a_part_is_found,
    narrowing_casts_are_left_out_and_found,
    float64_exists_only_while_it_is_open,
    arrays_come_back_as_they_went,
    a_summary_has_the_numbers_of_the_closed_form,
    evaluations_write_to_nothing,
]
