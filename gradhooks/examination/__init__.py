"""One check from start to finish: sample, measure, judge, report. The only loop there is."""

from gradhooks.examination.broken import report_of
from gradhooks.examination.course import EVERYTHING, run
from gradhooks.examination.settings import THRESHOLDS, Settings

__all__ = ["EVERYTHING", "THRESHOLDS", "Settings", "report_of", "run"]
