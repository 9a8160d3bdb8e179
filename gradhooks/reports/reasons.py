"""Verdicts, and the reasons for them: each reason says what it means and what to do."""

import enum


class Verdict(enum.Enum):
    """The verdict on one comparison, or on a whole check.

    Example:

    >>> str(Verdict.PASS), Verdict.PASS.value
    ('PASS', 'pass')
    """

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"

    def __str__(self) -> str:
        return self.name


class Reason(enum.Enum):
    """Why a verdict was given.

    The value is a sentence for people. It begins with what was found; behind
    the colon, if there is one, come the usual causes and what to try.

    Example:

    >>> Reason.KINK.name, Reason.KINK.headline
    ('KINK', 'the loss has a kink here')
    """

    AGREES = "numeric and analytic derivative agree to within the threshold and the error bar"
    MISMATCH = (
        "the analytic derivative is wrong: it differs from the numeric one by more than the error "
        "bar and the threshold allow, at several step sizes; look for a custom gradient, a "
        "hand-written layer or a loss on the path to this parameter"
    )
    BLOCKED = (
        "the loss depends on this parameter but its gradient is zero: look for stop_gradient, "
        "rounding, argmax or a detached branch between the parameter and the loss"
    )
    NON_FINITE_GRADIENT = (
        "the gradient is NaN or infinite while the loss is finite: look for sqrt, log, division, "
        "norm or a power with an exponent below 1 evaluated at zero, acos or asin at +-1, and a "
        "where() that hides an infinite branch"
    )
    GRADIENT_FAILS = (
        "backpropagation raises an exception although the loss can be evaluated: look for a custom "
        "gradient that returns too many gradients or gradients of the wrong shape, and for "
        "operations without a gradient"
    )
    DECLARED = "a mismatch that `expect` declares; it does not count as a failure"
    KNOWN = (
        "Keras or TensorFlow approximates this gradient on purpose, and the notes say where: it "
        "does not count as a failure, and what else may be wrong with it could not be checked"
    )
    UNDECLARED_MATCH = (
        "`expect` declares a mismatch here, but the gradient agrees: either the declaration is out "
        "of date, or what it stands for (a straight-through estimator, a gradient reversal) has "
        "stopped working"
    )
    VACUOUS = (
        "numeric and analytic derivative are both zero to within the rounding noise of the loss: "
        "there is nothing to compare, which need not mean that anything is wrong"
    )
    KINK = (
        "the loss has a kink here: its one-sided slopes differ, so it has no derivative to compare "
        "with (a ReLU at zero, a tie in a maximum), and any value between the slopes is a valid "
        "subgradient"
    )
    ONLY_HERE = (
        "the loss is smooth here and the analytic derivative is wrong at exactly this point, but "
        "right beside it: look for an operation with a special case at exactly this value (equal "
        "singular values, a zero in a product, a tie, kinks that cancel); training starts here, "
        "and may stay here"
    )
    NOISE = (
        "the numeric derivative is too inaccurate to decide: the loss has too few correct digits "
        "for a derivative this small, or bends within the smallest step that they allow; raise "
        "`samples`, use a larger batch, or use precision='float64'"
    )
    NOT_DETERMINISTIC = (
        "the loss or its gradient changes by more than the threshold between two evaluations at "
        "the same point, so there is nothing to compare: look for random operations without a "
        "keras.random.SeedGenerator and for state outside Keras variables"
    )
    NON_FINITE_LOSS = (
        "the loss is NaN or infinite at this point, so it has no derivative to compare with"
    )
    ERROR = (
        "the check could not be carried out; the report names the cause, and training was not "
        "touched"
    )
    UNTRAINED = (
        "the optimizer does not receive the gradient of the loss: `train_step` drops it, scales it "
        "or changes it; take the loss from `self.compute_loss`, which includes the penalties, and "
        "pass its gradient on unchanged"
    )
    UNDERFLOW = (
        "small values or gradients become zero at the precision of training before they reach the "
        "optimizer: use keras.optimizers.LossScaleOptimizer, or the policy mixed_bfloat16"
    )
    NON_FINITE_TRAINING = (
        "the loss that training computes is NaN or infinite, although in float64 it is finite: no "
        "weight is updated correctly; look for an overflow or underflow at the precision of "
        "training, such as a mask of -1e9, log(p + 1e-8), exp or a square, and compute it in "
        "float32 or rewrite it"
    )
    LOST_PRECISION = (
        "the gradient at the precision of training differs from the one in float64, in train_step "
        "and in the check's own evaluation alike: an operation rounds away digits, overflows or "
        "underflows; compute that layer in float32, or rewrite the operation"
    )
    ROUNDING = (
        "what the optimizer receives differs by more than its precision usually explains, but by "
        "rounding: changing the parameters in the last digit changes the gradient as much, or the "
        "difference is not the same at a nearby point; a deep network amplifies rounding, which is "
        "harmless while it stays small; where it is as large as the gradient, try a larger batch, "
        "fewer layers or a wider dtype"
    )
    NOT_RECORDED = (
        "the gradient that the optimizer receives could not be recorded; the notes say why"
    )
    UNTRACED = (
        "the check could not follow this variable into the code that uses it, such as a function "
        "compiled earlier: training may well differentiate it correctly, so this is no failure; "
        "try precision='model', or pass a loss_fn"
    )
    NOTHING_SAMPLED = (
        "no sampled parameter has any influence on the loss, so there was nothing to compare"
    )

    @property
    def explanation(self) -> str:
        """The whole sentence: what was found, what usually causes it, what to try."""
        return self.value

    @property
    def headline(self) -> str:
        """What was found, without causes and advice."""
        return self.value.partition(":")[0]

    def __str__(self) -> str:
        return self.name.lower()
