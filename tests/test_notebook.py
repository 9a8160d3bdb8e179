"""A notebook that a real kernel runs: what its user sees of reports, and that it is shown once."""

import base64
import pathlib
import sys

import pytest

nbclient = pytest.importorskip("nbclient", reason="it is part of the extra `test`")
nbformat = pytest.importorskip("nbformat", reason="it comes with nbclient")

pytestmark = pytest.mark.system

ROOT = pathlib.Path(__file__).parents[1]
# Seconds that the kernel's start or one cell may take, beside other tests.
TIMEOUT = 300
TRAINING = """
import keras, numpy as np, tensorflow as tf
import gradhooks

@tf.custom_gradient
def halved(x):
    return x, lambda upstream: upstream / 2

class Halved(keras.layers.Layer):
    def call(self, x):
        return halved(x)

keras.utils.set_random_seed(0)
x, y = np.random.normal(size=(32, 3)), np.random.normal(size=(32, 1))
model = keras.Sequential(
    [keras.Input((3,)), keras.layers.Dense(4), Halved(name="halved"), keras.layers.Dense(1)],
    name="net",
)
model.compile("sgd", "mse")
check = gradhooks.GradientCheck(x, y, samples=8, on_failure="ignore")
model.fit(x, y, epochs=2, verbose=0, callbacks=[check])
report = check.reports[-1]
"""
# TensorFlow allows no such name for a layer; the parameters of a function may have it.
HOSTILE = "<img src=x onerror=alert(1)>"
FUNCTION = """
name = NAME
gradhooks.check_function(
    lambda p: np.sum(p[name] ** 2), lambda p: {name: p[name]}, {name: np.ones(3)}
)
"""
CELLS = {
    "where": "import sys, gradhooks; print(sys.executable, gradhooks.__file__)",
    "training": TRAINING,
    "printed": "print(report)",
    "report": "report",
    "reports": "check.reports",
    "hostile": FUNCTION.replace("NAME", repr(HOSTILE)),
    "plot": "report.plot()",
    "silent plot": "figure = report.plot()",
    "plot beside pyplot": "import matplotlib.pyplot as plt; report.plot()",
    "plot inline": "%matplotlib inline\nreport.plot()",
    "plot into a figure of pyplot": "report.plot(figure=plt.figure()); plt.show()",
}


@pytest.fixture(scope="module")
def outputs():
    """The outputs of each cell."""
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(ROOT)}}
    limits = {"timeout": TIMEOUT, "startup_timeout": TIMEOUT}
    nbclient.NotebookClient(notebook, resources=resources, **limits).execute()
    return {name: cell.outputs for name, cell in zip(CELLS, cells, strict=True)}


def data(outputs):
    """What the only output of a cell shows, by type."""
    (output,) = outputs
    return output.data


def picture_size(outputs):
    content = base64.b64decode(data(outputs)["image/png"])
    assert content.startswith(b"\x89PNG")
    return int.from_bytes(content[16:20]), int.from_bytes(content[20:24])


def test_the_kernel_runs_this_python_and_this_package(outputs):
    (output,) = outputs["where"]
    assert output.text.split() == [sys.executable, str(ROOT / "gradhooks" / "__init__.py")]


def test_training_prints_nothing(outputs):
    assert not [o for o in outputs["training"] if o.get("name") != "stderr"]


def test_a_report_is_shown_as_html_and_says_what_print_says(outputs):
    shown = data(outputs["report"])
    html = shown["text/html"]
    assert html.startswith('<section class="gh-report"')
    headline = outputs["printed"][0].text.splitlines()[0]
    assert headline.startswith("FAIL (mismatch) at step 2, gradcheck")
    assert headline.removeprefix("FAIL ") in html
    assert shown["text/plain"].startswith("<CheckReport FAIL (mismatch) at step 2, gradcheck")
    assert shown["text/plain"].endswith("error made in net/halved>")
    assert len(shown["text/plain"]) < 200


def test_a_hostile_name_is_shown_as_it_is(outputs):
    shown = data(outputs["hostile"])
    assert "<img" not in shown["text/html"]
    assert "&lt;img src=x onerror=alert(1)&gt;[0]" in shown["text/html"]
    assert shown["text/plain"].startswith("<CheckReport FAIL (mismatch)")


def test_many_reports_are_a_line_each(outputs):
    lines = data(outputs["reports"])["text/plain"].splitlines()
    assert len(lines) == 3  # before training, and after two epochs
    assert all("<CheckReport FAIL (mismatch) at step" in line for line in lines)
    assert max(map(len, lines)) < 200


@pytest.mark.parametrize("cell", ["plot", "plot beside pyplot", "plot inline"])
def test_a_plot_is_shown_once(outputs, cell):
    width, height = picture_size(outputs[cell])
    assert width > 800
    assert height > 350


def test_a_plot_that_is_kept_is_not_shown(outputs):
    assert not outputs["silent plot"]


def test_a_figure_of_pyplot_is_shown_by_pyplot(outputs):
    assert picture_size(outputs["plot into a figure of pyplot"])
