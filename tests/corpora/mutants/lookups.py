"""Lookups whose gradient is scattered back wrongly.

Duplicates overwritten, rows confused or dropped.
"""

from keras import layers, ops

from tests.corpora.corpus import Case, features, integers, seeded, sequential
from tests.corpora.mutants import planted


def _scatter(values, rows, count):
    """Sums `values` (any shape + (D,)) into `count` rows."""
    flat = ops.reshape(values, [-1, values.shape[-1]])
    return ops.segment_sum(flat, ops.reshape(rows, [-1]), num_segments=count)


def _first_use(rows, dtype):
    """One where a row number occurs for the first time, else zero; shape of `rows` + (1,)."""
    flat = ops.reshape(rows, [-1])
    first = ops.argmax(ops.cast(flat[:, None] == flat[None, :], "int32"), axis=1)
    is_first = ops.cast(first, "int32") == ops.arange(ops.shape(flat)[0], dtype="int32")
    return ops.reshape(ops.cast(is_first, dtype), ops.shape(rows))[..., None]


def overwritten(g, table, rows):
    """Of several uses of a row only one counts: assignment in place of addition."""
    return _scatter(g * _first_use(rows, g.dtype), rows, table.shape[0])


def averaged(g, table, rows):
    """The uses of a row are averaged."""
    uses = _scatter(ops.ones_like(g), rows, table.shape[0])
    return _scatter(g, rows, table.shape[0]) / ops.maximum(uses, ops.ones_like(uses))


def next_row(g, table, rows):
    """Row numbers off by one."""
    return _scatter(g, (rows + 1) % table.shape[0], table.shape[0])


def without_row_zero(g, table, rows):
    """Row 0 is taken for padding backward, but not forward."""
    return (
        _scatter(g, rows, table.shape[0])
        * (1 - ops.one_hot(0, table.shape[0], dtype=g.dtype))[:, None]
    )


class Table(layers.Layer):
    """An embedding with a planted gradient."""

    def __init__(self, rows, width, rule, **options):
        super().__init__(**options)
        self.rows, self.width = rows, width
        self.lookup = planted.function(lambda t, rows: ops.take(t, rows, axis=0), rule)

    def build(self, shape):
        self.table = self.add_weight(
            shape=(self.rows, self.width), initializer="random_normal", name="table"
        )

    def call(self, tokens):
        return self.lookup(self.table, ops.cast(tokens, "int32"))


def text(seed, rule):
    """A text classifier; 24 tokens out of 6, so that every row is used, and used again."""
    rng = seeded(seed)
    model = sequential(
        (6,),
        Table(6, 4, rule, name="planted"),
        layers.Flatten(),
        layers.Dense(3, activation="softmax", name="head"),
        loss="sparse_categorical_crossentropy",
    )
    tokens = integers(rng, 6, 8, 6)
    tokens[:, 0] = 0
    return model, tokens, integers(rng, 3, 8)


class Messages(layers.Layer):
    """Graph convolution on a ring with one hub.

    Neighbours are gathered along an edge list and summed.
    """

    def __init__(self, nodes, **options):
        super().__init__(**options)
        ring = [(i, (i + 1) % nodes) for i in range(nodes)]
        edges = ring + [(0, i) for i in range(2, nodes - 1)]
        self.nodes = nodes
        self.senders, self.receivers = [e[0] for e in edges], [e[1] for e in edges]
        self.gather = planted.function(lambda x, rows: ops.take(x, rows, axis=1), self.overwritten)

    def overwritten(self, g, x, rows):
        last = {sender: edge for edge, sender in enumerate(self.senders)}
        kept = [float(last[s] == e) for e, s in enumerate(self.senders)]
        kept = ops.convert_to_tensor(kept, g.dtype)
        back = ops.transpose(g * kept[:, None], [1, 0, 2])
        back = ops.segment_sum(back, rows, num_segments=self.nodes)
        return ops.transpose(back, [1, 0, 2])

    def call(self, x):
        senders = ops.convert_to_tensor(self.senders, "int32")
        receivers = ops.convert_to_tensor(self.receivers, "int32")
        sent = ops.transpose(self.gather(x, senders), [1, 0, 2])
        received = ops.segment_sum(sent, receivers, num_segments=self.nodes)
        return x + ops.transpose(received, [1, 0, 2])


def graph(seed):
    rng = seeded(seed)
    model = sequential(
        (6, 3),
        layers.Dense(5, activation="tanh", name="below"),
        Messages(6, name="messages"),
        layers.Dense(5, activation="tanh", name="above"),
        layers.GlobalAveragePooling1D(),
        layers.Dense(2, name="head"),
    )
    return model, features(rng, 8, 6, 3), features(rng, 8, 2)


CASES = [
    Case(
        "duplicates_overwritten",
        lambda s: text(s, overwritten),
        "planted",
        note="the last use of a row wins",
    ),
    Case(
        "duplicates_averaged",
        lambda s: text(s, averaged),
        "planted",
        note="a mean in place of a sum",
    ),
    Case(
        "rows_off_by_one",
        lambda s: text(s, next_row),
        "planted",
        note="every row learns for its neighbour",
    ),
    Case(
        "padding_row_silent",
        lambda s: text(s, without_row_zero),
        "planted",
        note="one row never learns",
    ),
    Case(
        "graph_messages_overwritten",
        graph,
        "below",
        place="messages",
        note="message passing: a node's edges overwrite each other",
    ),
]
