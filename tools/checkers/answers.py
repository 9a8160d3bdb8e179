"""What each checker says of a function: PASS, FAIL, or INCONCLUSIVE where it can say so.

Each is used with its defaults and judged by the criterion of its own
documentation. The frameworks get the same two NumPy functions as everybody
else, behind an operation of their own. Whatever is not installed is imported
inside a function, so that the others can run without it.
"""

import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable

import numpy as np

import gradhooks
from gradhooks import Verdict
from tools.checkers.case import Case

# scipy's own tests: `assert_almost_equal(check_grad(...), 0)`, which is seven decimals.
SCIPY_DECIMALS = 1.5e-7
# A free choice: one-sided differences of losses near one are good to 1e-7, and the smallest
# error of the thirty functions is 1e-5.
SCIPY_RELATIVE = 1e-6
# A free choice in favour of numdifftools: its estimate is no bound, and where the gradient is
# right and nothing is steep or kinked, the true error is up to eleven times as large.
ESTIMATES = 100


def ask_gradhooks(case: Case) -> Verdict:
    return gradhooks.check_function(case.loss, case.gradient, case.point).verdict


def ask_scipy(case: Case) -> Verdict:
    return _verdict(_scipy_distance(case) < SCIPY_DECIMALS)


def ask_scipy_relative(case: Case) -> Verdict:
    size = np.linalg.norm(case.gradient(case.point))
    return _verdict(_scipy_distance(case) <= SCIPY_RELATIVE * size)


def _scipy_distance(case: Case) -> float:
    import scipy.optimize

    return scipy.optimize.check_grad(case.loss, case.gradient, case.point)


def ask_numdifftools(case: Case) -> Verdict:
    """Its documentation compares by `numpy.allclose` with the tolerances of that function."""
    import numdifftools

    numeric = numdifftools.Gradient(case.loss)(case.point)
    return _verdict(np.allclose(numeric, case.gradient(case.point)))


def ask_numdifftools_estimate(case: Case) -> Verdict:
    """It can return an estimate of its own error for every entry."""
    import numdifftools

    found = numdifftools.Gradient(case.loss, full_output=True)(case.point)
    gap = np.abs(found.estimate - case.gradient(case.point))
    return _verdict(np.all(gap <= ESTIMATES * np.ravel(found.error_estimate)))


def ask_torch(case: Case) -> Verdict:
    import torch

    class Operation(torch.autograd.Function):
        @staticmethod
        def forward(ctx, parameters):
            ctx.save_for_backward(parameters)
            return parameters.new_tensor(case.loss(parameters.detach().numpy()))

        @staticmethod
        def backward(ctx, upstream):
            (parameters,) = ctx.saved_tensors
            return upstream * parameters.new_tensor(case.gradient(parameters.detach().numpy()))

    point = torch.tensor(case.point, requires_grad=True)
    return _verdict(torch.autograd.gradcheck(Operation.apply, (point,), raise_exception=False))


def ask_jax(case: Case) -> Verdict:
    """Its mode "fwd" does not exist for a function whose reverse mode is written by hand."""
    import jax
    import jax.test_util

    jax.config.update("jax_enable_x64", True)

    def evaluate(function, shape, parameters):
        def on_numpy(received):
            return np.asarray(function(np.asarray(received)), np.float64)

        result = jax.ShapeDtypeStruct(shape, np.float64)
        return jax.pure_callback(on_numpy, result, parameters)

    @jax.custom_vjp
    def operation(parameters):
        return evaluate(case.loss, (), parameters)

    def forward(parameters):
        return operation(parameters), parameters

    def backward(parameters, upstream):
        return (upstream * evaluate(case.gradient, case.point.shape, parameters),)

    operation.defvjp(forward, backward)
    try:
        jax.test_util.check_grads(operation, (case.point,), order=1, modes=["rev"])
    except AssertionError:
        return Verdict.FAIL
    return Verdict.PASS


def _verdict(agrees) -> Verdict:
    return Verdict.PASS if agrees else Verdict.FAIL


# By the name of what is called: the package that has it, and how it is asked.
CHECKERS = {
    "gradhooks `check_function`": ("gradhooks", ask_gradhooks),
    "scipy `check_grad`": ("scipy", ask_scipy),
    "torch `gradcheck`": ("torch", ask_torch),
    "jax `check_grads`": ("jax", ask_jax),
    "numdifftools `Gradient`": ("numdifftools", ask_numdifftools),
}
# The two that return numbers, read in another way.
OTHER_READINGS = {
    "scipy `check_grad`, below a millionth of the gradient's norm": (
        "scipy",
        ask_scipy_relative,
    ),
    f"numdifftools `Gradient`, within {ESTIMATES} times its own error estimate": (
        "numdifftools",
        ask_numdifftools_estimate,
    ),
}


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def version(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


def answer(ask: Callable[[Case], Verdict], case: Case) -> Verdict | None:
    """Returns the verdict, or None where the checker itself raises an exception."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return ask(case)
        except Exception:
            return None
