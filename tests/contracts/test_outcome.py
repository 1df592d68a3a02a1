"""The gate's findings for machines; oracle: parsers that are not ours, and GitHub's own rules for its commands.

Aimed at: a failure that a reader of the file counts as a pass, and a line that breaks in two.
"""

import json
from xml.etree import ElementTree

import pytest

from pcbench.check.gate import FAIL, NOT_COMPARABLE, PASS, Finding
from pcbench.check.outcome import annotations, write
from pcbench.errors import InvalidParameters

FINDINGS = [
    Finding(PASS, "exactness.digits-mlp.zil.float32.max_ulp", 0, "= 0"),
    Finding(FAIL, "cost.digits-mlp.zil.ratio.median", 7.5, "≤ 6.0 & <more>"),
    Finding(FAIL, "zoo.resnet18.bitwise_equal", "missing", "= True, 100 %\nof it"),
    Finding(NOT_COMPARABLE, "accuracy.fashion-cnn.bp.mean", "not of this profile", "≥ 0.9"),
]


def test_json_has_every_finding_with_its_figure(tmp_path):
    write(tmp_path / "gate.json", FINDINGS)
    found = json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))
    assert [(each["verdict"], each["what"], each["measured"]) for each in found] == [
        (each.verdict, each.what, each.measured) for each in FINDINGS
    ]


def test_junit_counts_failures_and_skips_and_names_both(tmp_path):
    write(tmp_path / "gate.xml", FINDINGS)
    suite = ElementTree.parse(tmp_path / "gate.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "2", "1")
    cases = {f"{case.get('classname')}.{case.get('name')}": case for case in suite}
    assert set(cases) == {f"pcbench.{each.what}" for each in FINDINGS}
    kinds = [[child.tag for child in case] for case in suite]
    assert kinds == [[], ["failure"], ["failure"], ["skipped"]]
    assert suite[1][0].get("message") == "measured 7.5, expected ≤ 6.0 & <more>"


def test_an_annotation_is_one_line_for_each_failure():
    lines = annotations(FINDINGS)
    assert len(lines) == 2 and all(line.startswith("::error file=expectations.yaml") for line in lines)
    assert "cost.digits-mlp.zil.ratio.median: measured 7.5" in lines[0]
    assert lines[1].endswith("= True, 100 %25%0Aof it") and "\n" not in lines[1]


def test_another_suffix_is_refused_with_those_that_exist(tmp_path):
    with pytest.raises(InvalidParameters, match=r"gate\.txt' ends with none of \.json, \.xml"):
        write(tmp_path / "gate.txt", FINDINGS)
    assert not list(tmp_path.iterdir())
