"""The table in docs/training_runs.md is made of the names and the results of tests."""

import itertools
import pathlib
from xml.etree import ElementTree

from tests.runs import training
from tests.runs.training import PASS, check_of, small
from tools import outcomes

XML = """
<testsuite>
  <testcase name="test_kind[nested]">
    <properties><property name="outcome" value="PASS"/></properties>
  </testcase>
  <testcase name="test_kind[shared layers]">
    <properties><property name="outcome" value="PASS"/></properties>
  </testcase>
  <testcase name="test_a_full_disk">
    <properties><property name="outcome" value="PASS; one warning"/></properties>
    <failure message="no"/>
  </testcase>
  <testcase name="test_who_leads[a]"/>
</testsuite>
"""
EXPECTED = """| what happens | what was tried |
| --- | --- |
| PASS | kind (nested, shared layers) |
| THE TEST FAILED; PASS; one warning | a full disk |"""


def test_tests_are_grouped_by_what_happens():
    cases = ElementTree.fromstring(XML).iter("testcase")
    assert outcomes.format_table(outcomes.group_by_outcome(cases)) == EXPECTED


def test_an_outcome_is_what_the_runs_show():
    plain, checked = training.run(small), training.run(small, check_of)
    assert training.outcome([plain]) == ""
    assert training.outcome([plain, checked]) == "PASS; every bit the same"
    other = checked._replace(digest={}, complaints=["a"], error=OSError())
    assert training.outcome([plain, other]) == "PASS; one warning; OSError comes out"
    assert checked.verdicts == {PASS}


def test_the_table_in_the_documents_names_tests_that_exist():
    documents = pathlib.Path(__file__).parents[2] / "docs"
    lines = (documents / "training_runs.md").read_text().splitlines()
    start = lines.index("| what happens | what was tried |") + 2
    rows = [
        line.strip("|").split("|")
        for line in itertools.takewhile(lambda line: line.startswith("|"), lines[start:])
    ]
    code = "\n".join(path.read_text() for path in pathlib.Path(__file__).parent.glob("test_*.py"))
    tried = [name.split(" (")[0].strip() for _, names in rows for name in names.split("; ")]
    assert len(tried) > 20
    assert not [name for name in tried if f"def test_{name.replace(' ', '_')}(" not in code]
    assert not [outcome for outcome, _ in rows if "FAILED" in outcome]
