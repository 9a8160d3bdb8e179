"""Log directories to show: of the examples, made-up ones, and files by other programs."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

from gradhooks.reports.circumstances import Coverage
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.readings import TapReading
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison, Diagnosis, GradientComparison
from gradhooks.reports.report import CheckReport
from gradhooks.sinks.tensorboard import TensorBoardSink

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
HOSTILE = (
    '<img src=x onerror="window.owned=1">\'`|![b](http://c/d.png)\n'
    "# e/../..\\<script>window.owned=1</script>"
)


def examples(directory):
    """Runs the examples and returns their logs: {"digits": path, "find_the_bug": path}."""
    environment = {
        **os.environ,
        "TMPDIR": str(directory),
        "PYTHONPATH": str(EXAMPLES.parent),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    names = ("digits", "find_the_bug")
    logs = [(directory / f"{name}.txt").open("w") for name in names]
    with contextlib.ExitStack() as stack:
        outputs = [stack.enter_context(log) for log in logs]
        started = [
            subprocess.Popen(
                [sys.executable, EXAMPLES / f"{name}.py"], env=environment, stdout=out, stderr=out
            )
            for name, out in zip(names, outputs, strict=True)
        ]
        codes = [process.wait(300) for process in started]
    assert codes == [0, 0], [(directory / f"{name}.txt").read_text()[-2000:] for name in names]
    return {name: directory / f"gradhooks-{name.replace('_', '-')}" for name in names}


def comparison(
    path="dense/kernel",
    verdict=Verdict.PASS,
    reason=Reason.AGREES,
    analytic=1.0,
    numeric=1.0,
    **changes,
):
    fields = {
        "index": (0, 1),
        "term": "total",
        "left": numeric,
        "right": numeric,
        "allowed": 1e-6,
        **changes,
    }
    index, term = fields.pop("index"), fields.pop("term")
    size = abs(analytic) + abs(numeric)
    relative = abs(analytic - numeric) / size if size else 0.0
    return DerivativeComparison(
        path, index, term, analytic, numeric, 1e-9, 1e-4, relative, verdict, reason, **fields
    )


def received(path="dense/kernel", verdict=Verdict.PASS, reason=Reason.AGREES, **changes):
    fields = {
        "analytic_norm": 1.0,
        "received_norm": 1.0,
        "distance": 1e-7,
        "cosine": 1.0,
        "ratio": 1.0,
        "zeros": 0.0,
        "allowed": 2.4e-4,
        **changes,
    }
    norms = fields["analytic_norm"] + fields["received_norm"]
    difference = fields["distance"] / norms
    return GradientComparison(
        path, relative_difference=difference, verdict=verdict, reason=reason, **fields
    )


def report(step=0, *comparisons, **changes):
    """A report with a verdict that follows from its comparisons."""
    comparisons = comparisons or (comparison(),)
    verdicts = [c.verdict for c in comparisons]
    verdict = next((v for v in (Verdict.FAIL, Verdict.PASS) if v in verdicts), Verdict.INCONCLUSIVE)
    fields = {
        "relative_difference": {"total": max(c.relative_difference for c in comparisons)},
        "threshold": 1e-6,
        "coverage": Coverage(3, 4, 32, 1000),
        "samples": 32,
        **changes,
    }
    differences = fields.pop("relative_difference")
    reason = next(c.reason for c in comparisons if c.verdict is verdict)
    return CheckReport(step, verdict, reason, differences, comparisons, **fields)


def every_verdict(step=0):
    """A report of two layers: a variable for every verdict, one of them not always sampled."""
    kinds = [
        (Verdict.PASS, Reason.AGREES, 1.0),
        (Verdict.FAIL, Reason.MISMATCH, 3.0),
        (Verdict.INCONCLUSIVE, Reason.NOISE, 1.5),
        (Verdict.INCONCLUSIVE, Reason.DECLARED, -1.0),
        (Verdict.INCONCLUSIVE, Reason.VACUOUS, 0.0),
    ]
    return report(
        step,
        *(
            comparison(f"model/layer_{i // 2}/w{i}", v, r, numeric=n, position=i)
            for i, (v, r, n) in enumerate(kinds)
        ),
        received("model/layer_9/late", position=9),
        comparison("*", Verdict.FAIL, Reason.MISMATCH, numeric=3.0, index=None),
        diagnoses=(
            Diagnosis("model/layer_0/w1", "the gradient is a third", ("total",), 1 / 3, 1.0, True),
        ),
    )


def tap(layer, is_output=False, word="not measured", difference=None, call=0):
    """A reading at a tap."""
    numeric = None if difference is None else 1.0
    return TapReading(layer, call, is_output, word, difference, 1.0, numeric)


# A model of a block with two layers and a head. What enters `act` is wrong, what leaves it right.
TAPS = (
    tap("net"),
    tap("net/functional_3", word="wrong", difference=0.25),
    tap("net/block"),
    tap("net/block/dense"),
    tap("net/block/dense", True, "wrong", 0.25),
    tap("net/block/act", word="wrong", difference=0.25),
    tap("net/block/act", True, "right", 1e-10),
    tap("net/block", True),
    tap("net/head"),
    tap("net/head", True),
    tap("net/functional_3", True, "right", 2e-10),
    tap("net", True),
)
PLACE = Culprit(
    "layer",
    "net/block/act",
    None,
    ("the gradient at its output: right", "the gradient at its input: off by 0.25 of its size"),
    "net.py:12",
    "the backward pass of `net/block/act` (Act, net.py:12) is wrong",
    heirs=("net/block/dense/kernel",),
    taps=TAPS,
)


def placed(step=0, place=PLACE):
    """A failed report that knows where the error is made; its variables are of healthy layers."""
    wrong = {"verdict": Verdict.FAIL, "reason": Reason.MISMATCH, "numeric": 3.0}
    return report(
        step,
        comparison("net/block/dense/kernel", **wrong),
        comparison("net/head/kernel", position=9),
        received("net/block/dense/kernel"),
        diagnoses=(Diagnosis("net/block/dense/kernel", "it follows", is_leading=True),),
        culprit=place,
    )


def write(directory, *reports, name="gradcheck"):
    """Writes reports as the callback does."""
    sink = TensorBoardSink(directory, name)
    for each in reports:
        sink.write(each)
    sink.close()
    return directory


def tensor(value):
    """A stored tensor, of whatever it is made."""
    result = text_pb("x", "")
    result.value[0].tensor.CopyFrom(tensor_util.make_tensor_proto(value))
    return result.value[0].tensor


def write_tensors(directory, *stored, name="gradcheck", scalars=None):
    """Writes tensors where reports belong.

    Args:
        directory: Log directory.
        stored: Pairs (step, text or TensorProto).
        name: Name of the run.
        scalars: Tag -> function from step to value, written beside.
    """
    run = directory / name
    run.mkdir(parents=True, exist_ok=True)
    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="gradhooks")
    metadata = summary_pb2.SummaryMetadata(
        plugin_data=plugin, data_class=summary_pb2.DATA_CLASS_TENSOR
    )
    path = run / f"events.out.tfevents.{time.time_ns()}.test"
    with contextlib.closing(record_writer(path)) as writer:
        writer.write(
            event_pb2.Event(file_version="brain.Event:2", wall_time=time.time()).SerializeToString()
        )
        for step, value in stored:
            content = summary_pb2.Summary()
            for tag, at in (scalars or {}).items():
                content.MergeFrom(scalar_pb(f"{name}/{tag}", at(step)))
            proto = tensor(value.encode()) if isinstance(value, str) else value
            content.value.add(tag=f"{name}/report_json", tensor=proto, metadata=metadata)
            writer.write(
                event_pb2.Event(
                    step=step, wall_time=time.time(), summary=content
                ).SerializeToString()
            )
    return directory


def record_writer(path):
    """Returns a writer of records: that of TensorFlow, where it is there.

    TensorBoard's own computes checksums in Python, 150 MB of them in a minute.
    """
    try:
        import tensorflow
    except ImportError:
        return RecordWriter(path.open("wb"))
    return tensorflow.io.TFRecordWriter(str(path))


def large(directory, checks=200, variables=500):
    """Writes a run of reports in which every variable is compared."""
    random = np.random.default_rng(0)
    paths = [
        f"model/block_{i // 8}/layer_{i // 2}/{('kernel', 'bias')[i % 2]}" for i in range(variables)
    ]
    empty = json.loads(report().to_json())

    def stored(step):
        stands = {"verdict": "FAIL", "reason": "MISMATCH"} if step > 100 else {}
        return json.dumps({**empty, **stands, "step": step, "comparisons": list(compared(step))})

    def compared(step):
        for term in ("total", "trained"):
            noise = 10 ** random.uniform(-11, -7, variables)
            for i, path in enumerate(paths):
                is_wrong = i == 137 and step > 100
                template = TEMPLATES[term, is_wrong]
                change = 0.5 if is_wrong else noise[i]
                number = "numeric" if term == "total" else "received_norm"
                yield {**template, "path": path, "position": i * 100, number: 1.0 + change}

    scalars = {
        "failures": lambda step: float(step > 100),
        "relative_difference/total": lambda step: 1e-9,
    }
    return write_tensors(
        directory, *((step, stored(step)) for step in range(checks)), scalars=scalars
    )


def as_json(compared):
    """A comparison as it is stored."""
    return json.loads(report(0, compared).to_json())["comparisons"][0]


WRONG = {"verdict": Verdict.FAIL, "reason": Reason.MISMATCH}
# What is stored of a comparison, by term and whether it fails.
TEMPLATES = {
    ("total", False): as_json(comparison()),
    ("total", True): as_json(comparison(**WRONG)),
    ("trained", False): as_json(received()),
    ("trained", True): as_json(received(**WRONG)),
}
