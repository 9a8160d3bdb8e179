"""The pages of the documentation: their Python runs and prints what they say; none is missing."""

import importlib.metadata
import pathlib
import re
import typing

import pytest

import gradhooks
from gradhooks import testing
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.reasons import Reason
from tools import pages

DOCS = pages.ROOT / "docs"
KINDS = typing.get_args(typing.get_type_hints(Culprit)["kind"])
VERSIONS = re.compile(r"(TensorFlow|Keras) (\d+\.\d+)\.\d+")


def names_in(folder):
    """The names of the pages in a folder, without its index."""
    return {path.stem for path in (DOCS / folder).glob("*.md")} - {"index"}


def list_pages():
    return [pytest.param(p, id=str(p.relative_to(pages.ROOT))) for p in pages.list_pages()]


def skip_for_other_versions(text):
    """Skips a page that says what certain versions of other packages do."""
    for package, series in set(VERSIONS.findall(text)):
        installed = importlib.metadata.version(package.lower())
        if not installed.startswith(f"{series}."):
            pytest.skip(f"written with {package} {series}, here is {installed}")


@pytest.mark.parametrize("path", list_pages())
def test_a_page_says_what_its_python_prints(path, tmp_path):
    text = path.read_text(encoding="utf-8")
    blocks = pages.find_blocks(text)
    if missing := pages.find_missing(blocks):
        pytest.skip(f"needs {', '.join(missing)}")
    skip_for_other_versions(text)
    for block, printed in zip(blocks, pages.run(blocks, tmp_path), strict=True):
        if block.printed is not None:
            assert pages.without_numbers(block.printed) == pages.without_numbers(printed)


def test_every_reason_has_a_page_and_every_page_a_reason():
    assert names_in("reasons") == {str(reason) for reason in Reason}


def test_every_kind_of_culprit_has_a_page_and_every_page_a_kind():
    assert names_in("culprits") == set(KINDS)


@pytest.mark.parametrize("reason", Reason, ids=str)
def test_the_page_of_a_reason_shows_it(reason):
    text = (DOCS / "reasons" / f"{reason}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# `{reason}`\n")
    (block,) = pages.find_blocks(text)
    assert re.search(rf"\b{reason}\b", block.printed)
    assert "\n## What to do\n" in text or reason is Reason.AGREES


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_of_a_kind_of_culprit_shows_it(kind):
    text = (DOCS / "culprits" / f"{kind}.md").read_text(encoding="utf-8")
    (block,) = pages.find_blocks(text)
    assert block.printed.startswith(f"{kind} ")
    assert "\n## What to do\n" in text


def test_every_reason_and_kind_is_in_the_tables():
    text = (DOCS / "verdicts.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\(reasons/(\w+)\.md\)", text)) == {str(reason) for reason in Reason}
    assert set(re.findall(r"\(culprits/(\w+)\.md\)", text)) == set(KINDS)


def test_every_public_name_is_in_the_reference():
    text = "\n".join(p.read_text(encoding="utf-8") for p in (DOCS / "reference").glob("*.md"))
    described = set(re.findall(r"^\.\. (?:auto\w+|py:data):: (\w+)\b", text, re.MULTILINE))
    assert described >= {*gradhooks.__all__, *testing.__all__}


PAGE = """# A page

```python
print("the gap is", 0.5)
```

```text
the gap is 0.25
```
"""


@pytest.mark.parametrize(
    ("said", "is_other"),
    [
        ("the gap is 0.25", False),
        ("the  gap\nis 1e-07", False),
        ("the gap is 2026-11-27T13:18:16Z", False),
        ("the error is 0.25", True),
    ],
)
def test_words_count_and_numbers_do_not(said, is_other, tmp_path):
    page = PAGE.replace("the gap is 0.25", said)
    blocks = pages.find_blocks(page)
    printed = pages.run(blocks, tmp_path)
    assert [pages.differs(*pair) for pair in zip(blocks, printed, strict=True)] == [is_other]
    expected = PAGE.replace("0.25", "0.5") if is_other else page
    assert pages.corrected(page, blocks, printed) == expected


def test_what_a_page_sets_is_put_back(tmp_path):
    import keras

    before = keras.config.dtype_policy().name
    code = 'import keras\nkeras.config.set_dtype_policy("mixed_bfloat16")\n'
    pages.run([pages.Block(code, None, (-1, -1))], tmp_path)
    assert keras.config.dtype_policy().name == before
    assert pathlib.Path.cwd() != tmp_path
