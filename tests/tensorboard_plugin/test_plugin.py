"""The routes of the plugin inside TensorBoard's own application, and what they refuse."""

import argparse
import json
import subprocess
import sys
import types

import pytest
import werkzeug.test
from tensorboard import errors
from tensorboard.backend import application
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins import base_plugin

from gradhooks.tensorboard_plugin import plugin
from gradhooks.tensorboard_plugin.archive import Archive
from gradhooks.tensorboard_plugin.loader import GradhooksLoader
from tests.tensorboard_plugin import logs
from tests.tensorboard_plugin.serving import WITHOUT_A_FRAMEWORK

BASE = "/data/plugin/gradhooks"


def provider(directory):
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(directory))
    multiplexer.Reload()
    return MultiplexerDataProvider(multiplexer, str(directory))


def client(source):
    flags = argparse.Namespace(
        logdir="", path_prefix="", window_title="", generic_data="true", samples_per_plugin={}
    )
    app = application.TensorBoardWSGIApp(flags, [GradhooksLoader()], data_provider=source)
    return werkzeug.test.Client(app)


@pytest.fixture
def served(tmp_path):
    wrong = logs.comparison(verdict=logs.Verdict.FAIL, reason=logs.Reason.MISMATCH, numeric=2.0)
    logs.write(tmp_path, logs.report(0), logs.report(7, wrong))
    return client(provider(tmp_path))


def identity(served):
    return served.get(f"{BASE}/runs").json["series"][0]["id"]


def test_runs_overview_and_check(served):
    [series] = served.get(f"{BASE}/runs").json["series"]
    assert series["run"] == "gradcheck"
    overview = served.get(f"{BASE}/overview", query_string={"id": series["id"]}).json
    assert [check["verdict"] for check in overview["checks"]] == ["PASS", "FAIL"]
    assert overview["variables"] == ["dense/kernel"]
    assert overview["checks_written"] == 2
    assert overview["headline"]["total"] == [[0, 0.0], [7, pytest.approx(1 / 3)]]
    query = {"id": series["id"], "step": "7", "variable": "dense/kernel"}
    check = served.get(f"{BASE}/check", query_string=query).json
    assert (check["comparisons"][0]["gap"], check["comparisons"][0]["allowed"]) == (1.0, 1e-6)
    assert [a["reason"] for a in check["advice"]] == ["mismatch", "If it is meant"]
    assert check["advice"][1]["explanation"] == "expect={'dense/kernel': 'mismatch'}"


def test_layers_of_a_check(tmp_path):
    logs.write(tmp_path, logs.report(0), logs.placed(7))
    served = client(provider(tmp_path))
    query = {"id": identity(served), "step": "7"}
    found = served.get(f"{BASE}/layers", query_string=query).json
    assert [row["name"] for row in found["rows"] if row["is_place"]] == ["act"]
    assert served.get(f"{BASE}/layers", query_string={**query, "step": "0"}).json["rows"] == []
    assert served.get(f"{BASE}/layers", query_string={**query, "step": "3"}).status_code == 404
    told = served.get(f"{BASE}/words.js")
    assert told.text.startswith("export const WORDS = ")
    assert told.content_type.startswith("text/javascript")


def test_a_new_check_is_a_new_revision_and_only_the_new_report_is_read(tmp_path, monkeypatch):
    sink = logs.TensorBoardSink(tmp_path)
    sink.write(logs.report(0))
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    served = client(MultiplexerDataProvider(multiplexer, str(tmp_path)))
    [before] = served.get(f"{BASE}/runs").json["series"]
    read = []
    column = plugin.Archive.overview.__globals__["reduction"].reduce_report
    monkeypatch.setattr(
        "gradhooks.tensorboard_plugin.reduction.reduce_report",
        lambda *a: read.append(a[0]) or column(*a),
    )
    query = {"id": before["id"]}
    served.get(f"{BASE}/overview", query_string=query)
    sink.write(logs.report(5))
    sink.close()
    multiplexer.Reload()
    [after] = served.get(f"{BASE}/runs").json["series"]
    assert after["id"] == before["id"]
    assert after["revision"] != before["revision"]
    assert len(served.get(f"{BASE}/overview", query_string=query).json["checks"]) == 2
    assert read == [0, 5]


def every_request():
    known = "0123456789abcdef"
    yield "/runs", {}, 200
    yield "/overview", {}, 400
    yield "/overview", {"id": known}, 404
    yield "/overview", {"id": "../../etc/passwd"}, 400
    yield "/overview", {"id": [known, known]}, 400
    yield "/overview", {"id": known, "more": "a" * 100_000}, 400
    yield "/check", {"id": known, "step": "1"}, 400
    yield "/check", {"id": known, "step": "1e9", "variable": "a"}, 400
    yield "/check", {"id": known, "step": "1" * 40, "variable": "a"}, 400
    yield "/check", {"id": known, "step": "1", "variable": ""}, 400
    yield "/check", {"id": known, "step": "1", "variable": "\0<img src=x>"}, 404
    yield "/layers", {"id": known}, 400
    yield "/layers", {"id": known, "step": "1"}, 404
    yield "/layers", {"id": known, "step": "x"}, 400
    yield "/words.js", {}, 200
    yield "/%2e%2e/plugin.py", {}, 404
    yield "/../plugin.py", {}, 404
    yield "/static/index.js", {}, 404
    yield "/index.js%00", {}, 404
    for name in plugin.STATIC_FILES:
        yield f"/{name}", {}, 200


@pytest.mark.parametrize(
    ("route", "query", "code"), list(every_request()), ids=lambda value: repr(value)[:60]
)
def test_every_answer_is_inert(served, route, query, code):
    answer = served.get(BASE + route, query_string=query)
    assert answer.status_code == code
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Traceback" not in answer.text
    if code != 404 or "id" in query:  # an unknown route is answered by TensorBoard itself
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "text/html" not in answer.headers["Content-Type"]


def test_queries_that_are_no_text(served):
    for query in ("id=%ff%fe", "id=%00", "%", "&&&===", "id[]=1", "id=" + "%41" * 4000):
        assert served.get(f"{BASE}/overview?{query}").status_code == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("route", ["/runs", "/overview", "/check", "/index.js"])
def test_only_get_is_answered(served, route, method):
    answer = served.open(BASE + route, method=method, data=b"x" * 1000)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_a_step_that_is_not_kept_is_not_found(served):
    query = {"id": identity(served), "step": "99", "variable": "dense/kernel"}
    assert served.get(f"{BASE}/check", query_string=query).status_code == 404


def test_hostile_tensors_are_cards(tmp_path):
    texts = [
        "",
        "{",
        "[" * 50_000,
        "NaN",
        json.dumps({"a": 1e308}),
        "\ud800".encode("utf-8", "surrogatepass"),
    ]
    tensors = [
        logs.tensor(t)
        for t in (1.5, [1, 2, 3], b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.", [b"a", b"b"])
    ]
    stored = [t if isinstance(t, str) else logs.tensor(t) for t in texts] + tensors
    logs.write_tensors(tmp_path, *enumerate(stored))
    served = client(provider(tmp_path))
    answer = served.get(f"{BASE}/overview", query_string={"id": identity(served)})
    checks = answer.json["checks"]
    assert answer.status_code == 200
    assert {check["verdict"] for check in checks} == {"UNREADABLE"}
    assert len(checks) == len(stored)
    for check in checks:
        query = {"id": identity(served), "step": check["step"], "variable": "a"}
        detail = served.get(f"{BASE}/check", query_string=query)
        assert detail.status_code == 200
        assert detail.json["error"]
    assert not (tmp_path / "owned").exists()


class Failing:
    """A data provider like the fast loader's when a message is too large."""

    def __init__(self, error):
        self.error = error

    def list_plugins(self, *args, **kwargs):
        return ["gradhooks"]

    def list_tensors(self, *args, **kwargs):
        return {
            "run": {"gradcheck/report_json": types.SimpleNamespace(max_step=1, max_wall_time=1.0)}
        }

    def read_tensors(self, *args, **kwargs):
        raise self.error

    read_scalars = read_tensors


@pytest.mark.parametrize(
    "error", [RuntimeError("secret path"), MemoryError(), errors.NotFoundError("gone")]
)
def test_a_run_that_cannot_be_read_is_a_card(error):
    served = client(Failing(error))
    answer = served.get(f"{BASE}/overview", query_string={"id": identity(served)})
    assert answer.status_code == 200
    assert "TensorBoard could not read the reports of this run" in answer.json["error"]
    assert "secret" not in answer.text


def test_what_nobody_foresaw_is_told_without_a_trace(monkeypatch, served):
    monkeypatch.setattr(Archive, "series", lambda *_: 1 / 0)
    answer = served.get(f"{BASE}/runs")
    assert answer.status_code == 500
    assert answer.json == {"error": "the request could not be answered (ZeroDivisionError)"}


def test_tensorboard_starts_with_static_files_gone(monkeypatch, served, tmp_path):
    monkeypatch.setattr(plugin, "_STATIC", tmp_path / "gone")
    answer = served.get(f"{BASE}/index.js")
    assert answer.status_code == 404
    assert "index.js is missing" in answer.text
    assert served.get(f"{BASE}/runs").status_code == 200


def test_the_tab_is_listed_with_data_and_without(served, tmp_path):
    (tmp_path / "empty").mkdir()
    with_data = served.get("/data/plugins_listing").json["gradhooks"]
    without = client(provider(tmp_path / "empty")).get("/data/plugins_listing").json["gradhooks"]
    assert (with_data["enabled"], without["enabled"]) == (True, False)
    assert with_data["tab_name"] == "Gradient Check"
    assert with_data["loading_mechanism"] == {
        "type": "IFRAME",
        "module_path": "/data/plugin/gradhooks/index.js",
    }


def test_without_a_data_provider_there_are_no_runs():
    made = plugin.GradhooksPlugin(base_plugin.TBContext())
    answer = werkzeug.test.Client(made.get_plugin_apps()["/runs"]).get("/")
    assert answer.json == {"series": []}


def test_a_plugin_that_cannot_be_made_is_left_out(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "gradhooks.tensorboard_plugin.plugin", None)
    assert GradhooksLoader().load(base_plugin.TBContext()) is None
    assert "The Gradient Check tab is left out: ModuleNotFoundError" in caplog.text


def test_the_plugin_imports_no_framework():
    script = (
        f"{WITHOUT_A_FRAMEWORK}\nfrom tensorboard.plugins import base_plugin\n"
        "from gradhooks.tensorboard_plugin.loader import GradhooksLoader\n"
        "inside = 'gradhooks.tensorboard_plugin.'\n"
        "early = [name for name in sys.modules if name.startswith(inside)]\n"
        "print(early, GradhooksLoader().load(base_plugin.TBContext()).plugin_name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['gradhooks.tensorboard_plugin.loader'] gradhooks"


def test_every_module_of_the_page_is_served():
    present = {path.name for path in plugin._STATIC.iterdir()}
    assert present == set(plugin.STATIC_FILES)
    for path in plugin._STATIC.iterdir():
        text = path.read_text()
        assert "innerHTML" not in text
        assert "https://" not in text
