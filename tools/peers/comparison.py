"""One table: what gradhooks costs beside other tools, measured in one run of `python -m
tools.peers`.

Each network is measured in a process of its own, so that the peak of its
memory is its own. Costs are per sampled parameter, in units of one float64
forward pass of the fixed batch called from Python; for the tools of PyTorch
and JAX, of one pass there.
"""

import datetime
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import tempfile

import keras
import numpy as np
import scipy.optimize
import tensorflow as tf

from gradhooks import Verdict, check_gradients
from tools.peers import clock, measuring, networks, sampled


def tool_functions(model, x, y):
    """(loss of a vector of sampled parameters, its gradient, the vector), compiled."""
    loss, start = sampled.loss_of_sampled(model, x, y)
    loss = tf.function(loss)

    @tf.function
    def gradient(vector):
        with tf.GradientTape() as tape:
            tape.watch(vector)
            value = loss(vector)
        return tape.gradient(value, vector)

    return loss, gradient, start


def compute_gradient(model, x, y):
    """`tf.test.compute_gradient` over sampled parameters."""
    loss, _, start = tool_functions(model, x, y)
    return lambda: tf.test.compute_gradient(loss, [tf.constant(start)]), len(start)


def check_grad(model, x, y):
    """`scipy.optimize.check_grad` over sampled parameters."""
    loss, gradient, start = tool_functions(model, x, y)

    def f(vector):
        return float(loss(tf.constant(vector.astype(start.dtype))))

    def g(vector):
        return gradient(tf.constant(vector.astype(start.dtype))).numpy().astype(float)

    return lambda: scipy.optimize.check_grad(f, g, start), len(start)


def plain_loop(model, x, y):
    """The loop that everybody writes: assign, `test_on_batch`, assign back."""
    variable = model.trainable_variables[0]

    def one():
        kept = variable.numpy()
        for sign in (1, -1):
            changed = kept.copy()
            changed.flat[0] += sign * 1e-4
            variable.assign(changed)
            model.test_on_batch(x, y)
        variable.assign(kept)

    return one, 1


TOOLS = {
    "tf.test.compute_gradient": compute_gradient,
    "assign and test_on_batch": plain_loop,
    "scipy check_grad": check_grad,
}


def elsewhere(name, model):
    """What the tools of other frameworks cost and whether they are right, where they are installed.

    Empty elsewhere.
    """
    costs, right = {}, {}
    with tempfile.TemporaryDirectory() as directory:
        weights = os.path.join(directory, "weights.npz")
        np.savez(weights, *model.get_weights())
        for backend in ("torch", "jax"):
            if importlib.util.find_spec(backend):
                found = _run("tools.peers.elsewhere", weights, name, KERAS_BACKEND=backend)
                costs |= found["costs"]
                right |= found["right"]
    return costs, right


def _run(module, *arguments, **environment):
    """What a module prints last, in a process of its own, as JSON."""
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measured(name):
    """Everything about one network, as a dict."""
    keras.utils.set_random_seed(0)  # how often a check measures again depends on the weights
    build = networks.NETWORKS[name]
    model, x, y = build()
    first_step, _ = clock.once(lambda: model.train_on_batch(x, y))
    baseline = measuring.peak_megabytes()
    first_check, (answering, report) = clock.once(lambda: _first_verdict(model, x, y))
    peak = measuring.peak_megabytes() - baseline
    steady = clock.ratio(measuring.check(answering), lambda: model.train_on_batch(x, y))
    evaluate, count = measuring.healthy_coordinates(answering)
    each_narrow = clock.ratio(evaluate, measuring.forward_pass(model, x, y)) / count
    in_float64, x64, y64 = measuring.wide(build)
    pass_forth = measuring.forward_pass(in_float64, x64, y64)
    each = clock.ratio(evaluate, pass_forth) / count
    costs = {}
    for tool, prepare in TOOLS.items():
        run, parameters = prepare(in_float64, x64, y64)
        costs[tool] = clock.ratio(run, pass_forth) / parameters
    others, right = elsewhere(name, model)
    return {
        "network": name,
        "verdict": str(report.verdict),
        "per coordinate": each,
        "per coordinate, float32": each_narrow,
        "first verdict": first_check / first_step,
        "first verdict, seconds": first_check,
        "first step, seconds": first_step,
        "check": steady,
        "peak MB": peak,
        "parameters MB": 8e-6 * model.count_params(),
        "activations MB": measuring.activation_megabytes(answering),
        "tools": costs | others,
        "right": right,
    }


def measured_apart(name):
    """`measured` in a process of its own, so that the peak of memory is that network's."""
    return _run("tools.peers", "--one", name)


def _first_verdict(model, x, y):
    answering = measuring.asked(model, x, y)
    return answering, measuring.check(answering)()


def verdicts():
    """Whether each tool passes the healthy network and fails the wrong one, at the tolerance
    its documentation uses.
    """

    def ours(model, x, y):
        return check_gradients(model, x, y).verdict is Verdict.PASS

    def theirs(model, x, y):
        run, _ = compute_gradient(model, x, y)
        return max(np.max(np.abs(a - n)) for a, n in zip(*run(), strict=True)) < 1e-4

    def scipys(model, x, y):
        return check_grad(model, x, y)[0]() < 1e-5

    def loop(model, x, y):
        loss, gradient, start = tool_functions(model, x, y)
        analytic = gradient(tf.constant(start)).numpy()
        step = np.eye(len(start), dtype=start.dtype) * 1e-4
        numeric = np.array(
            [
                (float(loss(tf.constant(start + s))) - float(loss(tf.constant(start - s)))) / 2e-4
                for s in step
            ]
        )
        return np.linalg.norm(analytic - numeric) < 1e-7 * (
            np.linalg.norm(analytic) + np.linalg.norm(numeric)
        )

    tools = {
        "gradhooks": ours,
        "tf.test.compute_gradient": theirs,
        "assign and test_on_batch": loop,
        "scipy check_grad": scipys,
    }
    return {
        tool: (
            bool(passes(*networks.relu_network(False))),
            not passes(*networks.relu_network(True)),
        )
        for tool, passes in tools.items()
    }


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def table(rows, right):
    """The table as Markdown."""
    tools = list(rows[0]["tools"])
    cells = (
        "per coordinate",
        "per coordinate, float32",
        *tools,
        "first verdict",
        "check",
        "peak MB",
    )
    heads = (
        "gradhooks",
        "in float32 passes",
        *tools,
        "first verdict / first step",
        "check / step",
        "peak MB",
    )
    lines = ["| network | " + " | ".join(heads) + " |", "| --- " * (len(heads) + 1) + "|"]
    flat = [row | row["tools"] for row in rows]
    lines += [
        f"| {row['network']} | " + " | ".join(f"{row[cell]:.3g}" for cell in cells) + " |"
        for row in flat
    ]
    if len(rows) > 1:
        means = (f"{geometric_mean([row[cell] for row in flat]):.3g}" for cell in cells)
        lines.append("| geometric mean | " + " | ".join(means) + " |")
    lines += [
        "",
        "| verdict on a float32 ReLU network | healthy | gradient 1.001 times too large |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| {tool} | {'right' if healthy else 'wrong'} | {'right' if wrong else 'wrong'} |"
        for tool, (healthy, wrong) in right.items()
    ]
    return "\n".join(lines)


def main():
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measured(sys.argv[2])))
        return
    names = sys.argv[1:] or list(networks.NETWORKS)
    rows = []
    for name in names:
        rows.append(measured_apart(name))
        print(json.dumps(rows[-1]), flush=True)
    print(
        f"\n{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}\n"
    )
    print(table(rows, verdicts() | rows[0]["right"]))


if __name__ == "__main__":
    main()
