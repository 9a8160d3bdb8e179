"""Recurrences whose gradient is cut or distorted on its way back through time."""

import keras
from keras import layers, ops

from tests.corpora.corpus import Case, compiled, features, integers, seeded, sequential
from tests.corpora.mutants import planted


class Cell(layers.Layer):
    """A plain tanh cell with places for defects.

    On the old state, the recurrent kernel and the new state.
    """

    def __init__(
        self,
        units,
        *,
        on_state=planted.honest,
        on_kernel=planted.honest,
        on_output=planted.honest,
        **options,
    ):
        super().__init__(**options)
        self.units = self.state_size = self.output_size = units
        self.on_state, self.on_kernel, self.on_output = on_state, on_kernel, on_output

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.recurrent = self.add_weight(
            shape=(self.units, self.units), initializer="orthogonal", name="recurrent"
        )
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, inputs, states):
        state = self.on_state(states[0])
        past = ops.matmul(state, self.on_kernel(planted.tensor(self.recurrent)))
        new = self.on_output(ops.tanh(ops.matmul(inputs, self.kernel) + past + self.bias))
        return new, [new]


class GatedCell(Cell):
    """A minimal gated cell: one gate decides how much of the state is replaced."""

    def build(self, shape):
        super().build(shape)
        self.gate = self.add_weight(shape=(shape[-1], self.units), name="gate")

    def call(self, inputs, states):
        gate = self.on_state(ops.sigmoid(ops.matmul(inputs, self.gate)))
        past = ops.matmul(states[0], self.recurrent)
        new = ops.tanh(ops.matmul(inputs, self.kernel) + past + self.bias)
        new = gate * new + (1 - gate) * states[0]
        return new, [new]


class Unrolled(layers.Layer):
    """Runs a cell in a Python loop and detaches the state every `cut` steps.

    Truncated backpropagation.
    """

    def __init__(self, units, cut, **options):
        super().__init__(**options)
        self.cell = Cell(units, name="cell")
        self.cut = cut
        self.detach = planted.stop()

    def build(self, shape):
        self.cell.build((shape[0], shape[-1]))

    def call(self, x):
        state = ops.zeros_like(x[:, 0, :1]) * ops.zeros((1, self.cell.units), dtype=x.dtype)
        for step in range(x.shape[1]):
            if step and step % self.cut == 0:
                state = self.detach(state)
            state, _ = self.cell(x[:, step], [state])
        return state


def sequence(seed, make, steps=8):
    """Regression on a sequence: the recurrent layer that `make()` returns, and a head."""
    rng = seeded(seed)
    model = sequential((steps, 4), make(), layers.Dense(2, name="head"))
    return model, features(rng, 8, steps, 4), features(rng, 8, 2)


def recurrent(seed, **places):
    return sequence(seed, lambda: layers.RNN(Cell(6, name="cell", **places), name="rnn"))


def unrolled(seed, cut):
    return sequence(seed, lambda: Unrolled(6, cut, name="rnn"))


def gated(seed, stop):
    return sequence(seed, lambda: layers.RNN(GatedCell(6, on_state=stop, name="cell"), name="rnn"))


def carry_clipped(seed):
    """The state's gradient clipped at every step, as handwriting networks do, and not said."""
    return recurrent(seed, on_state=planted.identity(lambda g: ops.clip(g, -0.01, 0.01)))


def backward_direction(seed):
    """Of a bidirectional pair only the forward direction learns."""
    rng = seeded(seed)
    x = keras.Input((6,), dtype="int32", name="x")
    embedded = layers.Embedding(12, 5, name="table")(x)
    ahead = layers.LSTM(4, name="ahead")(embedded)
    back = layers.LSTM(4, go_backwards=True, name="back")(embedded)
    back = planted.Through(planted.stop(), name="detach")(back)
    head = layers.Dense(3, activation="softmax", name="head")(layers.Concatenate()([ahead, back]))
    model = compiled(keras.Model(x, head), "sparse_categorical_crossentropy")
    return model, integers(rng, 12, 8, 6), integers(rng, 3, 8)


def stacked(seed):
    """Two recurrent layers; what the upper one sends down is scaled wrongly."""
    rng = seeded(seed)
    model = sequential(
        (6, 4),
        layers.GRU(5, return_sequences=True, name="below"),
        planted.Through(planted.scale(0.8), name="planted"),
        layers.GRU(5, name="above"),
        layers.Dense(2, name="head"),
    )
    return model, features(rng, 8, 6, 4), features(rng, 8, 2)


CASES = [
    Case(
        "truncated_every_third_step",
        lambda s: unrolled(s, 3),
        "rnn",
        place="rnn",
        note="the state is detached every third step",
    ),
    Case(
        "truncated_in_the_middle",
        lambda s: unrolled(s, 4),
        "rnn",
        place="rnn",
        note="one cut in eight steps",
    ),
    Case(
        "truncated_at_every_step",
        lambda s: recurrent(s, on_state=planted.stop()),
        "rnn",
        place="cell",
        note="in a while loop: only the last step learns",
    ),
    Case(
        "recurrent_kernel_factor",
        lambda s: recurrent(s, on_kernel=planted.scale(1.2)),
        "rnn",
        place="cell",
        note="the recurrent kernel alone, inside the loop",
    ),
    Case(
        "recurrence_decays",
        lambda s: recurrent(s, on_output=planted.scale(0.95)),
        "rnn",
        place="cell",
        note="a factor that is raised to the number of steps",
    ),
    Case(
        "state_gradient_clipped", carry_clipped, "rnn", place="cell", note="clipping at each step"
    ),
    Case(
        "gate_detached",
        lambda s: gated(s, planted.stop()),
        "gate",
        ("blocked",),
        place="cell",
        note="the gate of a gated cell",
    ),
    Case(
        "backward_direction_detached",
        backward_direction,
        "back",
        ("blocked",),
        place="detach",
        note="half of a bidirectional layer",
    ),
    Case("between_two_gru", stacked, "below", note="between two stacked recurrent layers"),
]
