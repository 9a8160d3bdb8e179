"""Reads reports as TensorBoard keeps them: lists the runs, reduces their reports. No HTTP."""

import collections
import dataclasses
import hashlib
import threading
from collections.abc import Sequence
from typing import Any

from tensorboard import errors
from tensorboard.data.provider import RunTagFilter

from gradhooks.tensorboard_plugin import detail, layers, overview, reduction
from gradhooks.tensorboard_plugin.cells import ALL_TERMS
from gradhooks.tensorboard_plugin.parsing import UnreadableError, clip, read_text

PLUGIN_NAME = "gradhooks"
SUFFIX = "/report_json"
# What is asked for; TensorBoard keeps fewer unless it is started with --samples_per_plugin.
MOST_CHECKS, MOST_SCALARS = 10_000, 1000
# Runs whose reduced reports are kept in memory: a free choice, more than a page shows at once.
_REMEMBERED_SERIES = 64


@dataclasses.dataclass(frozen=True)
class Series:
    """The reports of one run.

    Args:
        identity: Stands for run and tag in URLs, which may hold anything.
        run: Name of the run.
        tag: Tag of the reports.
        revision: Changes when a report is added.
    """

    identity: str
    run: str
    tag: str
    revision: str

    @property
    def name(self) -> str:
        """Name of the check, the prefix of its tags."""
        return self.tag.removesuffix(SUFFIX)

    def for_page(self) -> dict[str, str]:
        """Returns the series as a dict for JSON."""
        run, name = clip(self.run, 200), clip(self.name, 200)
        title = run if run.endswith(name) else f"{run} ({name})"
        return {"id": self.identity, "run": title, "revision": self.revision}


class Archive:
    """Reads reports through TensorBoard's data provider.

    Args:
        provider: A `tensorboard.data.provider.DataProvider`, or None.
    """

    def __init__(self, provider):
        self._provider = provider
        self._lock = threading.Lock()
        # A report is reduced once and its JSON forgotten: identity -> {(step, wall time): Column}.
        self._columns = collections.OrderedDict()

    def series(self, context: Any, experiment: str) -> list[Series]:
        """Returns all `Series` of an experiment by run and tag."""
        if self._provider is None:
            return []
        runs = (
            self._provider.list_tensors(context, experiment_id=experiment, plugin_name=PLUGIN_NAME)
            or {}
        )
        listed = []
        for run, tags in sorted(runs.items()):
            for tag, stored in sorted(tags.items()):
                revision = f"{stored.max_step}@{stored.max_wall_time!r}"
                listed.append(Series(_identity(run, tag), run, tag, revision))
        return listed

    def overview(self, context: Any, experiment: str, identity: str) -> dict[str, Any]:
        """Returns what the page draws of a series, as a dict for JSON."""
        series = self._find(context, experiment, identity)
        columns = self._reduce(experiment, series, self._read(context, experiment, series))
        scalars = self._scalars(context, experiment, series)
        headline = {term: scalars.get(f"relative_difference/{term}", []) for term in ALL_TERMS}
        view = overview.build_overview(columns, headline)
        # Every check writes this scalar, and TensorBoard keeps more scalars than reports.
        written = max(len(scalars.get("failures", [])), view["checks_written"])
        return {**series.for_page(), **view, "checks_written": written}

    def detail(
        self, context: Any, experiment: str, identity: str, step: int, variable: str
    ) -> dict[str, Any]:
        """Returns what the report of a step says about a variable, as a dict for JSON."""
        page, text = self._stored(context, experiment, identity, step)
        return {**page, "step": step, **detail.describe_variable(text, variable)}

    def layers(self, context: Any, experiment: str, identity: str, step: int) -> dict[str, Any]:
        """Returns the layers of the model with what was measured there, as a dict for JSON."""
        page, text = self._stored(context, experiment, identity, step)
        return {**page, "step": step, **layers.describe_layers(text)}

    def report(self, context: Any, experiment: str, identity: str, step: int) -> tuple[str, str]:
        """Returns the name of the check, and the JSON of the report of a step as it is stored."""
        series = self._find(context, experiment, identity)
        _, text = self._stored(context, experiment, identity, step)
        return series.name, text

    def _stored(
        self, context: Any, experiment: str, identity: str, step: int
    ) -> tuple[dict[str, str], str]:
        """The series for the page, and the JSON of the report of a step."""
        series = self._find(context, experiment, identity)
        stored = [datum for datum in self._read(context, experiment, series) if datum.step == step]
        if not stored:
            raise errors.NotFoundError("TensorBoard keeps no report of this step")
        latest = max(stored, key=lambda datum: datum.wall_time)
        return series.for_page(), read_text(latest.numpy)

    def _find(self, context: Any, experiment: str, identity: str) -> Series:
        for series in self.series(context, experiment):
            if series.identity == identity:
                return series
        raise errors.NotFoundError("there is no such run")

    def _read(self, context: Any, experiment: str, series: Series) -> Sequence[Any]:
        """The stored tensors of one series.

        Raises:
            UnreadableError: If TensorBoard cannot read them; other runs may be fine.
        """
        try:
            read = self._provider.read_tensors(
                context,
                experiment_id=experiment,
                plugin_name=PLUGIN_NAME,
                downsample=MOST_CHECKS,
                run_tag_filter=RunTagFilter(runs=[series.run], tags=[series.tag]),
            )
        # A data provider may raise anything for damaged or oversized tensors.
        except Exception as error:
            raise UnreadableError(
                f"TensorBoard could not read the reports of this run ({type(error).__name__}); "
                "they may be too large together: try --samples_per_plugin=gradhooks=20, or "
                "--load_fast=false"
            ) from error
        return read.get(series.run, {}).get(series.tag, [])

    def _reduce(
        self, experiment: str, series: Series, stored: Sequence[Any]
    ) -> list[reduction.Column]:
        key = (experiment, series.identity)
        with self._lock:
            known = self._columns.get(key, {})
        columns = {}
        for datum in stored:
            place = (datum.step, datum.wall_time)
            column = columns.get(place) or known.get(place)
            if column is None:
                column = reduction.reduce_report(datum.step, datum.wall_time, datum.numpy)
            columns[place] = column
        with self._lock:
            self._columns[key] = columns
            self._columns.move_to_end(key)
            while len(self._columns) > _REMEMBERED_SERIES:
                self._columns.popitem(last=False)
        return list(columns.values())

    def _scalars(
        self, context: Any, experiment: str, series: Series
    ) -> dict[str, list[tuple[int, float]]]:
        """Tag without prefix -> [(step, value), ...]; empty if the scalars cannot be read."""
        tags = {f"{series.name}/failures": "failures"}
        for term in ALL_TERMS:
            name = f"relative_difference/{term}"
            tags[f"{series.name}/{name}"] = name
        try:
            read = self._provider.read_scalars(
                context,
                experiment_id=experiment,
                plugin_name="scalars",
                downsample=MOST_SCALARS,
                run_tag_filter=RunTagFilter(runs=[series.run], tags=list(tags)),
            )
        # The reports hold the same numbers, if of fewer checks.
        except Exception:
            return {}
        scalars = {}
        for tag, data in read.get(series.run, {}).items():
            written = sorted(data, key=lambda d: d.wall_time)
            scalars[tags[tag]] = _drop_repeated([(d.step, d.value) for d in written])
        return scalars


def _drop_repeated(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Of points in the order of writing, those that no later fit, whose steps go back, repeats."""
    kept: list[tuple[int, float]] = []
    for point in points:
        while kept and kept[-1][0] >= point[0]:
            kept.pop()
        kept.append(point)
    return kept


def _identity(run: str, tag: str) -> str:
    return hashlib.sha256(repr((run, tag)).encode("utf-8", "backslashreplace")).hexdigest()[:16]
