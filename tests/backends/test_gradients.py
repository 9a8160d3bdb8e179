"""The trace of a gradient holds nothing that only a second derivative would need."""

import tensorflow  # noqa: F401, the graphs are those of TensorFlow

from gradhooks.model import batch as batches
from gradhooks.model import objective, oracle
from tests import models


def test_a_loop_is_compiled_for_no_derivative_of_higher_order():
    model, x, y = models.lstm()
    own = oracle.ModelOracle(objective.Objective(model), batches.take_batch(x, y))
    definition = own._compilation.gradients.graph.as_graph_def()
    assert any("while" in node.op.lower() for node in definition.node)
    # The function in which TensorFlow wraps a loop that it expects to differentiate again.
    wrapped = [node.name for node in definition.node if node.op.endswith("PartitionedCall")]
    assert wrapped == []
