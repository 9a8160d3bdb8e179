"""A Python number that changes while a model is trained is noticed, and a variable is not."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import gradhooks
from gradhooks import Verdict

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(16, 4)).astype("float32"), RNG.normal(size=(16, 1)).astype("float32")


class Annealed(layers.Layer):
    """Adds a loss with a weight that callbacks change."""

    def __init__(self, is_number, **kwargs):
        super().__init__(**kwargs)
        self.share = 0.0
        self.calls = 0
        if not is_number:
            self.share = keras.Variable(0.0, trainable=False, name="share")

    def call(self, x):
        self.add_loss(self.share * ops.mean(ops.square(x)))
        return x

    def anneal(self, epoch):
        self.calls += 1  # as counters do, which no loss reads
        if isinstance(self.share, float):
            self.share = float(epoch)
        else:
            self.share.assign(epoch)


@pytest.mark.parametrize("is_number", [True, False])
def test_annealing_is_noticed_where_training_does_not_see_it(is_number):
    keras.utils.set_random_seed(0)
    annealed = Annealed(is_number, name="annealed")
    stack = [keras.Input((4,)), layers.Dense(3, "tanh"), annealed, layers.Dense(1)]
    model = keras.Sequential(stack)
    model.compile("sgd", "mse")
    check = gradhooks.GradientCheck(X, Y, samples=4)
    begin = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _: annealed.anneal(epoch))
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[begin, check])
    told = [[n for n in report.notes if "the code now computes" in n] for report in check.reports]
    assert [bool(notes) for notes in told] == [False, False, is_number, is_number][: len(told)]
    assert Verdict.FAIL not in {report.verdict for report in check.reports}
    if is_number:
        assert "annealed.share was 0 and is 2" in told[-1][0]
