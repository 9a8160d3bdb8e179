"""check_gradients(): one gradient check."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gradhooks import _types, backends, validation
from gradhooks._types import LossFunction, MismatchKind, PrecisionName
from gradhooks.checker import Checker, Data
from gradhooks.reports.errors import GradientCheckWarning
from gradhooks.reports.report import CheckReport
from gradhooks.sinks.warning import warn_user


def check_gradients(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | None = None,
    batch_size: int | None = 32,
    samples: int = 32,
    threshold: float | None = None,
    loss_fn: LossFunction | None = None,
    training: bool = True,
    precision: PrecisionName = "auto",
    train_step: bool = True,
    expect: Mapping[str, MismatchKind] = MappingProxyType({}),
    max_memory: int | None = None,
    save_failures: _types.Directory | None = None,
    seed: int = 0,
    step: int = 0,
    name: str = "gradcheck",
) -> CheckReport:
    """Checks the gradients of a model on one batch, once.

    Samples a random subset of the trainable parameters, measures their
    derivatives numerically with regularization on and off, and compares them
    with backpropagation by `||a - n|| / (||a|| + ||n||)`. The model, its
    optimizer, its metrics and all random generators stay as they are.

    A pass says that backpropagation of the sampled parameters, and along one
    random direction over all parameters, agrees with the loss as it is computed.
    It does not say that this is the loss you intended.

    Args:
        model: A built and compiled `keras.Model`. With a `loss_fn` it need not
            be compiled, and if it has trainable weights it need not be built.
        x: Inputs as `fit()` takes them: arrays, lists or dicts of arrays, a
            `tf.data.Dataset`, a `keras.utils.PyDataset` or a generator. The
            first batch is used.
        y: Targets, as `fit()` takes them.
        sample_weight: Weights of the examples, as `fit()` takes them.
        class_weight: Weights of the classes, as `fit()` takes them.
        batch_size: Largest number of examples used. Defaults to 32. None takes
            arrays whole; they then need no common length, like the nodes and
            edges of one graph.
        samples: Number of parameters to sample. Defaults to 32.
        threshold: Relative difference above which a comparison can fail.
            Defaults to that of the precision in use: 1e-7 in float64.
        loss_fn: Loss to check in place of the compiled one,
            `loss_fn(model, x, y, sample_weight, training) -> scalar`.
        training: Value of the `training` argument of the forward pass.
            Defaults to True.
        precision: `"auto"` (default) computes in float64 as far as the model
            allows; `"float64"` insists on all of it, and otherwise the check
            is inconclusive; `"model"` keeps the model's own precision.
        train_step: Whether to run the model's `train_step` once, on copies, and
            compare the gradient that the optimizer receives. Defaults to True.
        expect: Intended mismatches: `{path pattern: "blocked"}` where the
            gradient is zero on purpose, `"mismatch"` where it differs on
            purpose (a straight-through estimator, gradient reversal). A pattern
            holds for variables, and for a layer with all that lies below it.
            `"untrained"` is for variables alone, where `train_step` changes the
            gradient on purpose (clipping, sharpness-aware minimization). They
            are reported as declared; one that turns out to match fails the check.
        max_memory: Bytes that what a check evaluates at once may take, estimated
            from the sizes of parameters and activations in float64. A check that
            would take more evaluates one loss at a time and copies one variable at a
            time, which is slower; a note says so, and what it takes at least.
            Defaults to None: no limit.
        save_failures: Directory that keeps what `gradhooks.replay` needs to make a
            failing check again, in a directory of its own: weights, batch, settings.
            Defaults to None: nothing is kept.
        seed: Seed of the sampling. Defaults to 0.
        step: Number of training batches so far; the sampling depends on it and
            on `seed`. Defaults to 0.
        name: Name of the check in the report.

    Returns:
        A `gradhooks.CheckReport`.

    Raises:
        BadInputError: For arguments, data or a model that cannot be checked,
            and for a loss that is not a finite scalar. It is a `ValueError`.
            An exception of the model's own code becomes part of the report.

    Example:

    ```python
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((8, 3)), np.ones((8, 1))
    model.build(x.shape)
    report = gradhooks.check_gradients(model, x, y)
    assert report.verdict is gradhooks.Verdict.PASS
    ```
    """
    options = validation.Options(
        batch_size=batch_size, samples=samples, threshold=threshold, loss_fn=loss_fn,
        training=training, precision=precision, train_step=train_step, expect=expect,
        max_memory=max_memory, save_failures=save_failures, seed=seed,
    )  # fmt: skip
    data = (x, y, sample_weight, class_weight)
    return check_once(model, data, options, validation.check_step(step), name)


def check_once(
    model: Any, data: Data, options: validation.Options, step: int = 0, name: str = "gradcheck"
) -> CheckReport:
    """Checks a model on the first batch of the data, see `check_gradients`."""
    backends.current()
    checker = Checker(options, data, name)
    checker.take_batch()
    checker.check_usable(model)
    report = checker.check(model, step)
    for sentence in checker.unmatched:
        warn_user(f"{name}: {sentence}", GradientCheckWarning)
    return report
