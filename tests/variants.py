"""The same case trained another way: compiled with XLA, in half precision."""

import contextlib
import dataclasses

import keras

from tests.corpora.corpus import dtype_policy


class NotPossibleError(Exception):
    """Keras itself does not take this case in this variant."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """How a case is trained.

    Args:
        name: Unique name; part of the test's id.
        policy: Dtype policy under which its layers are made; None leaves them as they are.
        is_xla: Whether the train step is compiled with XLA.
        is_eager: Whether the train step runs without being compiled.
    """

    name: str
    policy: str | None = None
    is_xla: bool = False
    is_eager: bool = False

    def __str__(self):
        return self.name

    def of(self, case):
        """Returns the case in this variant.

        Its `build` raises `NotPossibleError` where Keras cannot build the variant.
        """
        return dataclasses.replace(case, build=lambda seed: self._built(case, seed))

    def _built(self, case, seed):
        with dtype_policy(self.policy) if self.policy else contextlib.nullcontext():
            try:
                model, *batch = case.build(seed)
            except Exception as error:
                if not self.policy:
                    raise
                raise NotPossibleError(
                    f"not under {self.policy}: {type(error).__name__}: {error}"
                ) from error
        if self.is_xla:
            if model.run_eagerly:
                raise NotPossibleError("run_eagerly excludes jit_compile")
            model.jit_compile = True
            if not model.jit_compile:
                raise NotPossibleError("Keras says that a layer does not support XLA")
        if self.is_eager:
            model.run_eagerly = True
        return model, *batch


MODES = (Variant("graph"), Variant("eager", is_eager=True), Variant("xla", is_xla=True))
OTHERS = (
    Variant("xla", is_xla=True),
    Variant("mixed_float16", "mixed_float16"),
    Variant("mixed_float16_xla", "mixed_float16", is_xla=True),
    Variant("mixed_bfloat16", "mixed_bfloat16"),
    Variant("mixed_bfloat16_xla", "mixed_bfloat16", is_xla=True),
)


def own_failure(model, x, y, sample_weight):
    """Returns the error that Keras raises when it trains this model on the batch, or None."""
    try:
        train_once(model, x, y, sample_weight)
    except Exception as error:
        return error
    return None


def train_once(model, x, y, sample_weight=None):
    """Trains one step on the whole batch; returns by how much each trainable variable moved."""
    start = [v.numpy() for v in model.trainable_variables]
    rows = len(keras.tree.flatten(x)[0])
    model.fit(
        x, y, sample_weight=sample_weight, batch_size=rows, epochs=1, shuffle=False, verbose=0
    )
    return {v.path: v.numpy() - s for v, s in zip(model.trainable_variables, start, strict=True)}


_UNSCALED = (
    "the step never asks the optimizer to scale the loss, which divides the scale out all the same"
)
# (case, policy) -> why the gradient that the optimizer receives is really lost there, so that a
# failure is right.
LOST = {
    (
        "tiny_loss",
        "mixed_float16",
    ): "gradients of 1e-13, times a loss scale of 2**15, are below the smallest float16",
    ("own_train_step", "mixed_float16"): _UNSCALED,
    ("step_WithComputeLoss", "mixed_float16"): _UNSCALED,
}
