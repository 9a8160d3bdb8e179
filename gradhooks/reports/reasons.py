"""The judgements, and the reasons behind them: each says what it means and what to do."""

import enum


class Verdict(enum.Enum):
    """The judgement on one comparison, or on a whole check."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"

    def __str__(self):
        return self.name


class Reason(enum.Enum):
    """Why a verdict was given. The value says what it means and what to do.

    Example:

    >>> Reason.KINK.name, Reason.KINK.explanation.split(":")[0]
    ('KINK', 'the loss has a corner here')
    """

    AGREES = "numeric and analytic derivative agree within the tolerance and the error bar"
    MISMATCH = (
        "the analytic derivative is wrong: the gap to the numeric one exceeds both the error bar and the "
        "tolerance, at several step sizes; look for a custom gradient, a hand-written layer or loss in this path"
    )
    BLOCKED = (
        "the loss depends on this parameter but its gradient is zero: look for stop_gradient, rounding, "
        "argmax or a detached branch between the parameter and the loss"
    )
    NON_FINITE_GRADIENT = (
        "the gradient is NaN or infinite while the loss is finite: look for sqrt, log, division, norm or a power with "
        "an exponent below 1 evaluated at zero, acos or asin at +-1, and for a where() that hides an infinite branch"
    )
    GRADIENT_FAILS = (
        "backpropagation raises an exception while the loss can be evaluated: look for a custom gradient that returns "
        "too many gradients or such of another shape, and for operations that have no gradient"
    )
    DECLARED = "a mismatch that `expect` declares; it is not counted as a failure"
    UNDECLARED_MATCH = (
        "`expect` declares a mismatch here, but the gradient now agrees: the declaration is out of date, "
        "or what it stands for (a straight-through estimator, a reversal) has silently stopped working"
    )
    VACUOUS = (
        "numeric and analytic derivative are both zero to within the rounding noise of the loss: "
        "nothing to compare; nothing is wrong by itself"
    )
    KINK = (
        "the loss has a corner here: the one-sided slopes differ, so there is no derivative to compare "
        "with (a ReLU at zero, a tie in a maximum); any value in between is a valid subgradient"
    )
    NOISE = (
        "the error bar of the numeric derivative is too wide to tell: the loss is computed with too few "
        "digits for a derivative this small; sample more, or use a larger batch or precision='float64'"
    )
    NOT_DETERMINISTIC = (
        "the loss changes between two evaluations at the same point, so differences of it mean nothing: "
        "look for random operations without a keras.random.SeedGenerator and for state outside Keras variables"
    )
    NON_FINITE_LOSS = (
        "the loss is NaN or infinite at this point, so it has no derivative to compare with"
    )
    ERROR = "the check itself could not be carried out; the report names the cause, training was not touched"
    UNTRAINED = (
        "the optimizer does not receive the gradient of the loss: `train_step` loses, scales or changes it on the way; "
        "take the loss from `self.compute_loss`, which adds the penalties, and hand on its gradient as it is"
    )
    UNDERFLOW = (
        "small values or gradients become zero at the precision of training before they reach the optimizer: "
        "use keras.optimizers.LossScaleOptimizer, or the policy mixed_bfloat16"
    )
    NON_FINITE_TRAINING = (
        "the loss that training computes is NaN or infinite, although in float64 it is finite: no step moves a weight "
        "to where it should; look for what overflows or vanishes at the precision of training, such as a mask of -1e9, "
        "log(p + 1e-8), exp or a square, and compute it in float32 or write it in another way"
    )
    LOST_PRECISION = (
        "the gradient at the precision of training is another one than in float64, in train_step as in the check's "
        "own evaluation: something inside is rounded away, overflows or vanishes; compute the layer in question in "
        "float32, or write it in another way"
    )
    ROUNDING = (
        "what the optimizer receives differs by more than its precision usually explains, but by rounding: changing "
        "the parameters in the last digit changes the gradient as much, or the difference is not the same nearby; a "
        "deep network multiplies rounding, which is harmless while it is small; where it is as large as the gradient, "
        "try a larger batch, fewer layers or more digits"
    )
    NOT_RECORDED = (
        "the gradient that the optimizer receives could not be recorded; the notes say why"
    )
    UNTRACED = (
        "the check could not follow this variable into the code that uses it, such as a function compiled before; "
        "what training does with it may be right, and nobody is blamed; try precision='model', or pass a loss_fn"
    )
    NOTHING_SAMPLED = (
        "no sampled parameter has any influence on the loss, so nothing could be compared"
    )

    @property
    def explanation(self):
        """The sentence for people: what it means, what usually causes it, what to try."""
        return self.value

    def __str__(self):
        return self.name.lower()
