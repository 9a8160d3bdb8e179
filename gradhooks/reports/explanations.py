"""What the words of a report mean, and what to do about them: reasons, and kinds of culprits."""

import dataclasses

from gradhooks.reports.actions import DECLARABLE, LOOK_FOR, OTHER_STEP, STEP_ACTIONS
from gradhooks.reports.message import WAYS_OUT
from gradhooks.reports.reasons import Reason

# What a place of an error is, and what is wrong there; `Culprit.kind` has the same words.
KINDS = {
    "layer": (
        "the backward pass of a layer is wrong: the gradient at its output is right, and the one "
        "at its input, or of one of its weights, is not"
    ),
    "loss": (
        "the backward pass of the loss is wrong: the gradient that it passes down to the outputs "
        "of the model is not right already"
    ),
    "regularizer": "the gradient of the penalty on the weights of a layer is wrong",
    "train_step": (
        "backpropagation is right, and `train_step` does not pass its gradient to the optimizer"
    ),
}
_DECLARED = {
    "layer": "expect={'*/name_of_the_layer': 'mismatch'}",
    "loss": "expect={'*': 'mismatch'}",
    "regularizer": "expect={'path/of/the/variable': 'mismatch'}",
    "train_step": "expect={'*': 'untrained'}",
}
_LAYER_ALONE = "check the layer alone: gradhooks.testing.assert_gradients(layer, x)"


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a word of a report means.

    Args:
        word: The word, as reports write it.
        summary: What it says, in a few words.
        meaning: The whole sentence; for a reason with the usual causes.
        actions: What to do, a line for each; empty where the meaning says all.
    """

    word: str
    summary: str
    meaning: str
    actions: tuple[str, ...] = ()


def explain_reason(reason: Reason) -> Explanation:
    """Returns what a reason means, and what to do.

    Example:

    >>> explain_reason(Reason.BLOCKED).actions[1]
    "if it is meant: expect={'path/of/the/variable': 'blocked'}"
    """
    actions: list[str] = []
    if reason in LOOK_FOR:
        actions.append(f"look for {LOOK_FOR[reason]}")
    if reason is Reason.UNTRAINED:
        actions += _list_step_actions()
    if reason in WAYS_OUT:
        actions.append(WAYS_OUT[reason])
    if reason in DECLARABLE:
        actions.append(f"if it is meant: expect={{'path/of/the/variable': '{reason}'}}")
    return Explanation(str(reason), reason.headline, reason.explanation, tuple(actions))


def explain_kind(kind: str) -> Explanation:
    """Returns what a kind of culprit means, and what to do.

    Args:
        kind: One of `KINDS`.

    Example:

    >>> explain_kind("layer").actions[-1]
    "if it is meant: expect={'*/name_of_the_layer': 'mismatch'}"
    """
    if kind == "train_step":
        actions = _list_step_actions()
    else:
        actions = [f"{reason}: look for {what}" for reason, what in LOOK_FOR.items()]
    if kind == "layer":
        actions.append(_LAYER_ALONE)
    actions.append(f"if it is meant: {_DECLARED[kind]}")
    return Explanation(kind, KINDS[kind].partition(":")[0], KINDS[kind], tuple(actions))


def _list_step_actions() -> list[str]:
    """What to do about a training step, by what the report says of it."""
    lines = [f'if the report says "{words}": {action}' for words, action in STEP_ACTIONS.items()]
    return [*lines, f"else: {OTHER_STEP}"]
