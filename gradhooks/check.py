"""check_gradients(): a gradient check, once, anywhere."""

from types import MappingProxyType

from gradhooks import backends, validation
from gradhooks.checking import exceptions, run
from gradhooks.checking.settings import Settings
from gradhooks.model import batch, objective, oracle, usable
from gradhooks.reports.errors import BadInputError


def check_gradients(
    model,
    x,
    y=None,
    *,
    sample_weight=None,
    class_weight=None,
    batch_size=32,
    samples=32,
    threshold=None,
    loss_fn=None,
    training=True,
    precision="auto",
    train_step=True,
    expect=MappingProxyType({}),
    seed=0,
    step=0,
    name="gradcheck",
):
    """Checks the gradients of a model on one batch, once.

    Samples a random subset of the trainable parameters, measures their
    derivatives numerically with regularization on and off, and compares them
    with backpropagation by `||a - n|| / (||a|| + ||n||)`. The model, its
    optimizer, its metrics and all random generators are left as they are.

    A pass proves that backpropagation of the sampled parameters, and along one
    random direction over all parameters, agrees with the loss as it is computed.
    It does not prove that this is the loss you meant.

    Args:
        model: A built and compiled `keras.Model`; with a `loss_fn` it need not
            be compiled, nor called as a whole, if it has trainable weights.
        x: Inputs as `fit()` takes them: arrays, lists or dicts of arrays, a
            `tf.data.Dataset`, a `keras.utils.PyDataset` or a generator. The
            first batch is used.
        y: Targets, as `fit()` takes them.
        sample_weight: Weights of the examples, as `fit()` takes them.
        class_weight: Weights of the classes, as `fit()` takes them.
        batch_size: Largest number of examples used. Defaults to 32. None takes
            arrays as they are, which need no common length then: the nodes and
            edges of one graph.
        samples: Number of parameters to sample. Defaults to 32.
        threshold: Relative difference above which a comparison can fail.
            Defaults to that of the precision in use: 1e-7 in float64.
        loss_fn: Loss to check in place of the compiled one,
            `loss_fn(model, x, y, sample_weight, training) -> scalar`.
        training: Value of the `training` argument of the forward pass.
        precision: `"auto"` promotes what can be promoted to float64,
            `"float64"` leaves the check undecided where that is not everything,
            `"model"` checks at the model's own precision.
        train_step: Whether to run the model's `train_step` once, on copies, and
            compare the gradient that the optimizer receives.
        expect: Mismatches that are meant: `{path pattern: "blocked"}` where
            the gradient is zero on purpose, `"mismatch"` where it differs on
            purpose (a straight-through estimator, gradient reversal). They are
            reported as declared, and fail when they silently become a match.
        seed: Seed of the sampling.
        step: Count of training batches; the draw depends on it and on `seed`.
        name: Name of the check in the report.

    Returns:
        A `gradhooks.CheckReport`.

    Raises:
        BadInputError: For arguments, data or a model that cannot be checked,
            and for a loss that is not a finite scalar. It is a `ValueError`.
            What the model's own code raises is told in the report.

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
    settings = Settings(
        samples=validation.positive_int("samples", samples, "Try samples=32."),
        threshold=validation.threshold(threshold),
        seed=validation.natural_int("seed", seed, "Try seed=0."),
        step=validation.natural_int("step", step, "Try step=0."),
        name=name,
        expect=validation.expectations(expect),
        train_step=validation.flag("train_step", train_step),
    )
    validation.batch_size(batch_size)
    validation.one_of("precision", precision, validation.PRECISIONS, "Try precision='auto'.")
    validation.flag("training", training)
    validation.optional_callable("loss_fn", loss_fn, "Try loss_fn=None to check the compiled loss.")
    backends.current()
    fixed = batch.take_batch(x, y, sample_weight, class_weight, batch_size)
    usable.check_usable(model, loss_fn, fixed.y)
    try:
        asked = oracle.ModelOracle(objective.Objective(model, training, loss_fn), fixed, precision)
        return validation.finite_loss(run.check(asked, settings), fixed)
    except BadInputError:
        raise
    except Exception as error:  # of the model's code, or of the framework's
        return exceptions.report_of(error, settings)
