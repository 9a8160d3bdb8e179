"""Long runs leave nothing behind.

Memory, threads, file handles, traces and the size of the log stay in proportion.
"""

import gc
import os
import pathlib
import threading

import keras
import numpy as np
import pytest

from tests.runs.training import PASS, check_of, small, stored

pytestmark = pytest.mark.sweep
MEGABYTE = 2**20


def resident():
    gc.collect()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def standing(check, directory=None):
    """Memory, threads, file handles, traces, and bytes of the log."""
    size = sum(p.stat().st_size for p in directory.rglob("*") if p.is_file()) if directory else 0
    return {
        "memory": resident(),
        "threads": threading.active_count(),
        "handles": len(os.listdir("/proc/self/fd")),
        "traces": check._checker.oracle.traces,
        "oracle": id(check._checker.oracle),
        "log": size,
    }


class Watch(keras.callbacks.Callback):
    """Notes how things stand at the end of every epoch."""

    def __init__(self, check, directory):
        super().__init__()
        self.check, self.directory, self.noted = check, directory, []

    def on_epoch_end(self, epoch, logs=None):
        self.noted.append(standing(self.check, self.directory))


def test_ten_thousand_steps_with_a_check_every_ten(tmp_path):
    model, x, y = small()
    check = check_of(x, y, freq=10, log_dir=tmp_path)
    watch = Watch(check, tmp_path)
    many = 1000 * 32 // len(x)
    model.fit(
        np.tile(x, (many, 1)),
        np.tile(y, (many, 1)),
        batch_size=32,
        epochs=10,
        verbose=0,
        callbacks=[check, watch],
    )
    first, last = watch.noted[0], watch.noted[-1]
    print({name: (first[name], last[name]) for name in first})
    assert len(check.reports) == 1001
    assert {r.verdict for r in check.reports} == {PASS}
    for name in ("threads", "handles", "traces", "oracle"):
        assert last[name] == first[name], name
    # The reports themselves are kept; nothing else may grow.
    assert last["memory"] - first["memory"] < 60 * MEGABYTE
    # Nine more epochs are nine times the first one's part of the log, give or take the digits in
    # it.
    assert last["log"] == pytest.approx(10 * first["log"], rel=0.2)
    assert len(stored(tmp_path)) == 1001


def test_a_thousand_checks_grow_by_less_than_20_megabytes():
    model, x, y = small()
    check = check_of(x, y)
    model.fit(x, y, batch_size=32, epochs=5, verbose=0, callbacks=[check])
    assert len(check.reports) == 11
    before = standing(check)
    for _ in range(99):
        # Each fit begins a new list of reports, as it would be in a loop over folds.
        model.fit(x, y, batch_size=32, epochs=5, verbose=0, callbacks=[check])
    after = standing(check)
    grown = (after["memory"] - before["memory"]) / MEGABYTE
    print(f"{grown:.1f} MB after 99 * 11 more checks")
    assert grown < 20
    for name in ("threads", "handles", "traces", "oracle"):
        assert after[name] == before[name], name
    assert {r.verdict for r in check.reports} == {PASS}
