"""One table: what gradhooks costs beside other tools, measured in one run of `python -m tests.benchmarks.peers`.

Each network is measured in a process of its own, so that the peak of its
memory is its own. Costs are per sampled parameter, in units of one float64
forward pass of the fixed batch called from Python.
"""

import datetime
import json
import math
import os
import platform
import subprocess
import sys

import keras
import numpy as np
import scipy.optimize
import tensorflow as tf

from gradhooks import Verdict, check_gradients
from tests.benchmarks import measuring, networks

# A tool is asked for so few parameters that a slow one ends.
FEW = 4


def moved(model, positions):
    """(get, put, loss, gradient): sampled parameters of a model as a vector, as the tools want it."""
    variables = model.trainable_variables
    sizes = np.cumsum([0] + [int(np.prod(v.shape)) for v in variables])
    places = [(int(np.searchsorted(sizes, p, "right") - 1), p) for p in positions]
    places = [(v, int(p - sizes[v])) for v, p in places]

    def values(vector):
        """The weights with the sampled entries replaced, as tensors that depend on the vector."""
        weights = [tf.convert_to_tensor(v) for v in variables]
        for k, (v, place) in enumerate(places):
            flat = tf.reshape(weights[v], [-1])
            flat = tf.tensor_scatter_nd_update(flat, [[place]], [tf.cast(vector[k], flat.dtype)])
            weights[v] = tf.reshape(flat, variables[v].shape)
        return weights

    start = np.array([variables[v].numpy().ravel()[place] for v, place in places])
    return values, start, places


def tool_functions(model, x, y, count=FEW):
    """(loss of a vector of sampled parameters, its gradient, the vector)."""
    total = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    positions = np.linspace(0, total - 1, count).astype(int)
    values, start, _ = moved(model, positions)
    x, y = tf.constant(x), tf.constant(y)

    @tf.function
    def loss(vector):
        mapping = list(zip(model.trainable_variables, values(vector), strict=True))
        with keras.StatelessScope(mapping):
            return model.compute_loss(x, y, model(x, training=True), None, True)

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


def measured(name):
    """Everything about one network, as a dict."""
    build = networks.NETWORKS[name]
    model, x, y = build()
    first_step, _ = measuring.once(lambda: model.train_on_batch(x, y))
    baseline = measuring.peak_megabytes()
    first_check, (answering, report) = measuring.once(lambda: _first_verdict(model, x, y))
    peak = measuring.peak_megabytes() - baseline
    narrow = measuring.seconds(measuring.forward_pass(model, x, y))
    step = measuring.seconds(lambda: model.train_on_batch(x, y))
    steady = measuring.seconds(measuring.check(answering))
    evaluate, count = measuring.healthy_coordinates(answering)
    each = measuring.seconds(evaluate) / count
    in_float64, x64, y64 = measuring.wide(build)
    forward = measuring.seconds(measuring.forward_pass(in_float64, x64, y64))
    costs = {}
    for tool, prepare in TOOLS.items():
        run, parameters = prepare(in_float64, x64, y64)
        costs[tool] = measuring.seconds(run) / parameters / forward
    return {
        "network": name, "verdict": str(report.verdict), "per coordinate": each / forward,
        "per coordinate, float32": each / narrow, "first verdict": first_check / first_step,
        "first verdict, seconds": first_check, "first step, seconds": first_step,
        "check": steady / step, "peak MB": peak, "parameters MB": 8e-6 * model.count_params(),
        "activations MB": measuring.activation_megabytes(answering), **costs,
    }  # fmt: skip


def measured_apart(name):
    """`measured` in a process of its own, so that the peak of memory is that network's."""
    command = [sys.executable, "-m", "tests.benchmarks.peers", "--one", name]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _first_verdict(model, x, y):
    answering = measuring.asked(model, x, y)
    return answering, measuring.check(answering)()


class TooLarge(keras.layers.Layer):
    """The identity with a gradient 1.001 times too large."""

    def call(self, x):
        @tf.custom_gradient
        def identity(x):
            return tf.identity(x), lambda upstream: 1.001 * upstream

        return identity(x)


def relu_network(is_wrong):
    """A float32 ReLU network as people have it, healthy or wrong."""
    keras.utils.set_random_seed(0)
    middle = [TooLarge()] if is_wrong else []
    stack = [
        keras.Input((64,)),
        keras.layers.Dense(64, "relu"),
        *middle,
        keras.layers.Dense(64, "relu"),
        keras.layers.Dense(10),
    ]
    model = keras.Sequential(stack)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    rng = np.random.default_rng(0)
    return model, rng.normal(size=(32, 64)).astype("float32"), rng.integers(10, size=32)


def verdicts():
    """Whether each tool passes the healthy network and fails the wrong one, at the tolerance its documentation uses."""

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
            [(float(loss(tf.constant(start + s))) - float(loss(tf.constant(start - s)))) / 2e-4 for s in step]
        )
        return np.linalg.norm(analytic - numeric) < 1e-7 * (np.linalg.norm(analytic) + np.linalg.norm(numeric))

    tools = {
        "gradhooks": ours,
        "tf.test.compute_gradient": theirs,
        "assign and test_on_batch": loop,
        "scipy check_grad": scipys,
    }
    return {
        tool: (bool(passes(*relu_network(False))), not passes(*relu_network(True))) for tool, passes in tools.items()
    }


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def table(rows, right):
    """The table as Markdown."""
    cells = ("per coordinate", "per coordinate, float32", *TOOLS, "first verdict", "check", "peak MB")
    heads = ("gradhooks", "in float32 passes", *TOOLS, "first verdict / first step", "check / step", "peak MB")
    lines = ["| network | " + " | ".join(heads) + " |", "| --- " * (len(heads) + 1) + "|"]
    lines += [f"| {row['network']} | " + " | ".join(f"{row[cell]:.3g}" for cell in cells) + " |" for row in rows]
    if len(rows) > 1:
        means = (f"{geometric_mean([row[cell] for row in rows]):.3g}" for cell in cells)
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
    print(f"\n{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, TensorFlow {tf.__version__}, "
          f"Keras {keras.__version__}\n")  # fmt: skip
    print(table(rows, verdicts()))


if __name__ == "__main__":
    main()
