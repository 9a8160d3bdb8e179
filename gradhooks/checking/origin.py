"""When a check begins, and with which software: what every report knows of its origin."""

import platform
import time

import gradhooks
from gradhooks.reports.circumstances import Origin


def begin_origin() -> Origin:
    """Returns the `Origin` of a check that begins now, without a model; loads no framework."""
    versions = {"gradhooks": gradhooks.__version__, "python": platform.python_version()}
    return Origin(time=time.time(), versions=versions)
