"""The gate's findings for machines: JSON, JUnit's XML, and the annotations of GitHub's workflows."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

from pcbench.check.gate import FAIL, NOT_COMPARABLE, Finding
from pcbench.errors import InvalidParameters
from pcbench.files import write_text


def as_json(findings: Sequence[Finding]) -> str:
    """Return ``[{"verdict", "what", "measured", "expected", "file"}, ...]`` as JSON text."""
    return json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False) + "\n"


def as_junit(findings: Sequence[Finding]) -> str:
    """Return one ``testcase`` a finding as JUnit's XML: its section is the class, what is not comparable is skipped."""
    count = {verdict: str(sum(each.verdict == verdict for each in findings)) for verdict in (FAIL, NOT_COMPARABLE)}
    numbers = {"tests": str(len(findings)), "failures": count[FAIL], "skipped": count[NOT_COMPARABLE]}
    suite = ElementTree.Element("testsuite", {"name": "pcbench check", **numbers})
    for finding in findings:
        section, _, name = finding.what.partition(".")
        case = ElementTree.SubElement(suite, "testcase", classname=f"pcbench.{section}", name=name)
        if finding.verdict == FAIL:
            ElementTree.SubElement(case, "failure", message=_said(finding))
        elif finding.verdict == NOT_COMPARABLE:
            ElementTree.SubElement(case, "skipped", message=str(finding.measured))
    ElementTree.indent(suite)
    text: str = ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
    return text + "\n"


def annotations(findings: Sequence[Finding]) -> list[str]:
    """Return a line for each failure, which GitHub's workflows show beside the file that expects another figure."""
    return [
        f"::error file={each.file},title=pcbench check::{_escaped(f'{each.what}: {_said(each)}')}"
        for each in findings
        if each.verdict == FAIL
    ]


FORMATS: dict[str, Callable[[Sequence[Finding]], str]] = {".json": as_json, ".xml": as_junit}


def write(path: Path, findings: Sequence[Finding]) -> None:
    """Write the findings to ``path``, in the format that its suffix names: ``.json``, or ``.xml`` for JUnit's.

    Raises:
        InvalidParameters: it has another suffix.
        PCBenchError: it cannot be written.
    """
    if path.suffix not in FORMATS:
        raise InvalidParameters(f"{str(path)!r} ends with none of {', '.join(FORMATS)}, which name the format")
    write_text(path, FORMATS[path.suffix](findings))


def _said(finding):
    return f"measured {finding.measured}, expected {finding.expected}"


def _escaped(text):
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
