"""A report stored while both kinds of comparisons were one record, and as it reads today."""

import math

from gradhooks.reports.circumstances import Coverage, Precision
from gradhooks.reports.reasons import Reason, Verdict
from gradhooks.reports.records import DerivativeComparison, Diagnosis, GradientComparison
from gradhooks.reports.report import CheckReport

OLD_LINE = (
    '{"step":7,"verdict":"FAIL","reason":"MISMATCH",'
    '"relative_difference":{"total":0.3333333333333333,"trained":0.5},'
    '"comparisons":[{"path":"dense/kernel","index":[1,2],"term":"total","analytic":0.5,'
    '"numeric":1.0,"error":1e-09,"step":0.0002,"relative_difference":0.3333333333333333,'
    '"verdict":"FAIL","reason":"MISMATCH","left":1.0,"right":1.0,"allowed":1e-06,'
    '"position":5,"distance":"nan","cosine":"nan","scale":"nan","zeros":"nan",'
    '"magnitude":0.0,"is_kink":false,"dtype":"","truncation":1e-10},'
    '{"path":"dense/kernel","index":null,"term":"trained","analytic":3.0,"numeric":1.0,'
    '"error":1e-05,"step":0.0,"relative_difference":0.5,"verdict":"FAIL",'
    '"reason":"UNTRAINED","left":"nan","right":"nan","allowed":0.00048,"position":5,'
    '"distance":2.0,"cosine":0.25,"scale":0.5,"zeros":0.125,"magnitude":0.0,'
    '"is_kink":false,"dtype":"bfloat16","truncation":"nan"}],'
    '"diagnoses":[{"path":"dense/kernel","sentence":"a factor 2 is missing",'
    '"terms":["total"],"scale":0.5,"cosine":1.0,"is_culprit":true}],"loss":{"total":2.5},'
    '"threshold":1e-07,"precision":{"rung":"partial","native_layers":["pool"],'
    '"narrow_operations":[],"noise":1e-16,"note":"pool is float32","step_operations":[]},'
    '"coverage":{"variables":1,"variables_total":2,"parameters":3,"parameters_total":4},'
    '"seed":0,"samples":32,"evaluations":80,"jitter":0.0,"replaced":0,"trail":[],'
    '"notes":[],"error":"","seconds":1.5,"overhead":"nan","postponed":0,'
    '"name":"gradcheck","expect":[]}'
)
REPORT = CheckReport(
    step=7,
    verdict=Verdict.FAIL,
    reason=Reason.MISMATCH,
    relative_difference={"total": 1 / 3, "trained": 0.5},
    comparisons=(
        DerivativeComparison(
            path="dense/kernel",
            index=(1, 2),
            term="total",
            analytic=0.5,
            numeric=1.0,
            error=1e-9,
            step_size=2e-4,
            relative_difference=1 / 3,
            verdict=Verdict.FAIL,
            reason=Reason.MISMATCH,
            left=1.0,
            right=1.0,
            allowed=1e-6,
            position=5,
            truncation=1e-10,
        ),
        GradientComparison(
            path="dense/kernel",
            analytic_norm=3.0,
            received_norm=1.0,
            distance=2.0,
            relative_difference=0.5,
            verdict=Verdict.FAIL,
            reason=Reason.UNTRAINED,
            allowed=4.8e-4,
            rounding=1e-5,
            position=5,
            cosine=0.25,
            ratio=0.5,
            zeros=0.125,
            dtype="bfloat16",
        ),
    ),
    diagnoses=(
        Diagnosis("dense/kernel", "a factor 2 is missing", ("total",), 0.5, 1.0, is_leading=True),
    ),
    loss={"total": 2.5},
    threshold=1e-7,
    precision=Precision("partial", ("pool",), (), 1e-16, "pool is float32"),
    coverage=Coverage(1, 2, 3, 4),
    samples=32,
    evaluations=80,
    overhead=math.nan,
    seconds=1.5,
)
