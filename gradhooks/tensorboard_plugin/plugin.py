"""The plugin as TensorBoard knows it: routes, and what a request may ask for."""

import logging
import pathlib
import re

from tensorboard import errors, plugin_util
from tensorboard.backend.http_util import Respond
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from gradhooks.tensorboard_plugin import words
from gradhooks.tensorboard_plugin.archive import PLUGIN_NAME, Archive
from gradhooks.tensorboard_plugin.parsing import LONGEST_LABEL, UnreadableError

_log = logging.getLogger("gradhooks")
_STATIC = pathlib.Path(__file__).parent / "static"
_JAVASCRIPT = "text/javascript"
# The only files that are read from disk.
STATIC_FILES = {
    "index.js": _JAVASCRIPT,
    "answers.js": _JAVASCRIPT,
    "charts.js": _JAVASCRIPT,
    "colours.js": _JAVASCRIPT,
    "data.js": _JAVASCRIPT,
    "detail.js": _JAVASCRIPT,
    "dom.js": _JAVASCRIPT,
    "failures.js": _JAVASCRIPT,
    "layers.js": _JAVASCRIPT,
    "legend.js": _JAVASCRIPT,
    "matrix.js": _JAVASCRIPT,
    "painter.js": _JAVASCRIPT,
    "runs.js": _JAVASCRIPT,
    "table.js": _JAVASCRIPT,
    "style.css": "text/css",
}
# Every character of a label may become twelve in a URL; the rest is room for the other parameters.
LONGEST_QUERY = 16 * LONGEST_LABEL
# Forms of a series' identity and of a step.
_ID, _STEP = r"[0-9a-f]{16}", r"-?[0-9]{1,19}"


class GradhooksPlugin(base_plugin.TBPlugin):
    """Serves the Gradient Check tab: its files, the runs, overviews and details of checks."""

    plugin_name = PLUGIN_NAME

    def __init__(self, context):
        super().__init__(context)
        self._archive = Archive(context.data_provider)

    def get_plugin_apps(self):
        """Returns the routes, each an application of its own."""
        routes = {}
        for name, kind in STATIC_FILES.items():
            routes[f"/{name}"] = _application(_file(name, kind))
        routes["/words.js"] = _application(_words)
        routes["/runs"] = _application(self._runs)
        routes["/overview"] = _application(self._overview)
        routes["/check"] = _application(self._check)
        routes["/layers"] = _application(self._layers)
        routes["/report"] = _application(self._report)
        return routes

    def is_active(self):
        """Returns False: TensorBoard lists a plugin that has data without asking it."""
        return False

    def frontend_metadata(self):
        """Returns what the tab is called and where its page begins."""
        return base_plugin.FrontendMetadata(
            es_module_path="/index.js", tab_name="Gradient Check", disable_reload=True
        )

    def _runs(self, request):
        _parameters(request, {})
        listed = self._archive.series(*_who(request))
        return _json(request, {"series": [series.for_page() for series in listed]})

    def _overview(self, request):
        asked = _parameters(request, {"id": _ID})
        return _json(request, self._archive.overview(*_who(request), asked["id"]))

    def _check(self, request):
        asked = _parameters(request, {"id": _ID, "step": _STEP, "variable": r"(?s:.+)"})
        found = self._archive.detail(
            *_who(request), asked["id"], int(asked["step"]), asked["variable"]
        )
        return _json(request, found)

    def _layers(self, request):
        asked = _parameters(request, {"id": _ID, "step": _STEP})
        found = self._archive.layers(*_who(request), asked["id"], int(asked["step"]))
        return _json(request, found)

    def _report(self, request):
        asked = _parameters(request, {"id": _ID, "step": _STEP})
        name, text = self._archive.report(*_who(request), asked["id"], int(asked["step"]))
        # A name may hold anything, and ends up in a header and on somebody's disk.
        file_name = f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)[:100]}-step-{int(asked['step'])}.json"
        headers = [("Content-Disposition", f'attachment; filename="{file_name}"')]
        return _respond(request, text, "application/json", 200, headers)


def _application(answer):
    """A WSGI application that answers GET alone, in JSON whatever happens."""

    @wrappers.Request.application
    def application(request):
        try:
            if request.method not in ("GET", "HEAD"):
                return _json(
                    request, {"error": "only GET is answered here"}, 405, [("Allow", "GET, HEAD")]
                )
            return answer(request)
        except UnreadableError as error:
            # The request is valid and the server works: the page shows a card in place of the data.
            return _json(request, {"error": str(error)})
        except errors.PublicError as error:
            return _json(request, {"error": str(error)}, error.http_code, error.headers)
        except Exception as error:
            _log.warning(
                "a request to the Gradient Check tab failed: %s: %s", type(error).__name__, error
            )
            return _json(
                request,
                {"error": f"the request could not be answered ({type(error).__name__})"},
                500,
            )

    return application


def _file(name, kind):
    def answer(request):
        try:
            content = (_STATIC / name).read_bytes()
        except OSError as error:
            raise errors.NotFoundError(
                f"{name} is missing from the installation of gradhooks"
            ) from error
        return _respond(request, content, kind)

    return answer


def _words(request):
    return _respond(request, words.build_module(), _JAVASCRIPT)


def _json(request, content, code=200, headers=()):
    return _respond(request, content, "application/json", code, headers)


def _respond(request, content, kind, code=200, headers=()):
    # TensorBoard sets its policy for pages only; the same one suits every answer here.
    policy = Respond(request, "", "text/html").headers["Content-Security-Policy"]
    return Respond(
        request, content, kind, code, headers=[*headers, ("Content-Security-Policy", policy)]
    )


def _who(request):
    return plugin_util.context(request.environ), plugin_util.experiment_id(request.environ)


def _parameters(request, patterns):
    """The query as a dict, each parameter exactly once and of the form asked for.

    Raises:
        tensorboard.errors.InvalidArgumentError: If it is anything else.
    """
    if len(request.query_string) > LONGEST_QUERY:
        raise errors.InvalidArgumentError("the query is too long")
    asked = request.args.to_dict(flat=False)
    for name, pattern in patterns.items():
        if len(asked.get(name, ())) != 1 or not re.fullmatch(pattern, asked[name][0]):
            raise errors.InvalidArgumentError(f"{name} is needed, once, in the form {pattern}")
    return {name: asked[name][0] for name in patterns}
