"""What is said of a place that is known, without the check that finds it."""

import keras

from gradhooks import backends
from gradhooks.checking import characterize
from gradhooks.model import objective, oracle, tapped_model
from gradhooks.model.batch import take_batch


def describe(case, seed, call=-1):
    """Returns what is said of the layer `planted`, and the evaluations that it takes.

    Args:
        case: The `Case`.
        seed: Its seed.
        call: Which of the calls of the layer is looked at.
    """
    keras.utils.clear_session(free_memory=False)
    tapped = tap(*case.build(seed))
    places = [p for p in tapped.places if p.layer.endswith("planted")]
    entering = [p for p in places if not p.is_output][call]
    leaving = [p for p in places if p.is_output][call]
    before = tapped.oracle.evaluations
    said = characterize.describe_call(tapped, entering, leaving)
    return said, tapped.oracle.evaluations - before


def tap(model, x, y):
    """Returns the `TappedModel` of a model and its batch, traced once."""
    backend = backends.current()

    def make_oracle(objective, batch, precision, tapping):
        return oracle.ModelOracle(objective, batch, precision, is_sharing=False, tapping=tapping)

    batch = take_batch(x, y, None, None, 32)
    return tapped_model.tap(objective.Objective(model), batch, "auto", backend, make_oracle)
