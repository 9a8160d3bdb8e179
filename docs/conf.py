"""How Sphinx builds the documentation: `python -m sphinx -W -n docs site`.

Every warning is an error: a broken link, a reference to a name that does not exist, a page in no
table of contents.
"""

import re

from docutils import nodes

import gradhooks

project = "gradhooks"
author = "The gradhooks authors"
copyright = author
release = version = gradhooks.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["pictures"]

# Links to headings, as in `page.md#a-heading`.
myst_heading_anchors = 3

# Docstrings are Markdown in what they use of it: `code`, and fenced blocks.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
# Names of types in signatures that have no page: those of other packages, and private aliases.
nitpick_ignore_regex = [
    ("py:(class|exc)", r"(?!gradhooks\.(testing\.)?\w+$).*"),
]

html_theme = "pydata_sphinx_theme"
html_title = f"gradhooks {version}"
html_static_path = ["_static"]
html_css_files = ["gradhooks.css"]
html_show_sourcelink = False
html_theme_options = {
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
pygments_style = "tango"

FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def fences_to_blocks(app, what, name, obj, options, lines):
    """Turns fenced blocks of a docstring into what reStructuredText has for them."""

    def indent(found):
        code = found[1].replace("\n", "\n    ")
        return f".. code-block:: python\n\n    {code}"

    lines[:] = FENCE.sub(indent, "\n".join(lines)).splitlines()


def prepare_page(app, doctree):
    """Marks long lines for the style sheet, and gives pages with reports the whole width."""
    for block in doctree.findall(nodes.literal_block):
        # Longer than those of a report, so that it is a message.
        if max(map(len, block.astext().splitlines()), default=0) > 100:
            block["classes"].append("long-lines")
    if app.env.docname.startswith(("reasons/", "culprits/")):
        app.env.metadata[app.env.docname]["html_theme.sidebar_secondary.remove"] = "true"


def setup(app):
    """Docstrings are changed before napoleon, whose priority is 500, reads their sections."""
    app.connect("autodoc-process-docstring", fences_to_blocks, priority=400)
    app.connect("doctree-read", prepare_page)
