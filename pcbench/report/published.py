"""What was published, as published.yaml has it: sources, sentences and values, and where each was read."""

from functools import cache
from pathlib import Path
from typing import Any, Literal

from pcbench.errors import PCBenchError
from pcbench.files import read_yaml
from pcbench.forms import Form, NotEmpty, Some, Table, Text, fault
from pcbench.params import STAGES, Settings
from pcbench.report.results import FAMILIES

_DATA = Path(__file__).with_name("published.yaml")
_Stage = Literal[STAGES]  # type: ignore[valid-type]
_Family = Literal[FAMILIES]  # type: ignore[valid-type]


class _Source(Form):
    short: Text
    citation: Text


class _Sentence(Form):
    id: Text
    sentence: Text
    quote: Text | None = None
    source: Text
    read: Literal["abstract", "text", "reported", "own"]
    reported_by: Text | None = None
    stages: Some[_Stage]


class _Value(Form):
    network: Text
    task: Text | None = None
    family: _Family | None = None
    source: Text
    reported_by: Text | None = None


class _Time(_Value):
    zil: float
    bp: float
    unit: Text


class _Distance(_Value):
    rule: Text
    value: float
    model: Text | None = None


class _Published(Form):
    sources: Table[_Source]
    claims: NotEmpty[_Sentence]
    times: NotEmpty[_Time]
    divergences: NotEmpty[_Distance]


@cache
def load(path: Path = _DATA) -> dict[str, Any]:
    """Return published.yaml's tables ``sources``, ``claims``, ``times`` and ``divergences``, as they stand there.

    Raises:
        PCBenchError: the file is unreadable, not of its form, or names a source that it does not have.
    """
    published = read_yaml(path, PCBenchError)
    wrong = fault(published, _Published) or _dangling(published)
    if wrong is not None:
        raise PCBenchError(f"{str(path)!r}: {wrong}; mend it")
    return published


def _dangling(published):
    """The first entry whose source says less than it must, in words."""
    for table, key in (("claims", "id"), ("times", "network"), ("divergences", "network")):
        for entry in published[table]:
            where, by = f"{table}, {entry[key]}", entry.get("reported_by")
            for name in filter(None, (entry["source"], by)):
                if name not in published["sources"]:
                    return f"{where}: there is no source {name!r}; the sources are {', '.join(published['sources'])}"
            read = entry.get("read", "reported" if by else "text")
            if (read == "reported") != (by is not None):
                return f"{where}: what is `reported` says `reported_by` whom, and nothing else does"
            if (read == "own") != ("quote" not in entry) and table == "claims":
                return f"{where}: what is not the source's `own` sentence has the `quote` that was read"
    identifiers = [entry["id"] for entry in published["claims"]]
    twice = [name for name in identifiers if identifiers.count(name) > 1]
    return f"claims has {twice[0]!r} twice" if twice else None


def claimed_in(entry: Settings) -> str:
    """Say in short who published a sentence or a value, and where it was read: in the abstract, or in whose report."""
    sources = load()["sources"]
    short = sources[entry["source"]]["short"]
    if entry.get("reported_by"):
        return f"{short}, as reported in {sources[entry['reported_by']]['short']}"
    return f"{short}, abstract" if entry.get("read") == "abstract" else short


def citation(entry: Settings) -> str:
    """The full citation of a sentence or a value, with that of who reports it."""
    sources = load()["sources"]
    named = [entry["source"], *filter(None, [entry.get("reported_by")])]
    return " Reported in: ".join(sources[name]["citation"] for name in named)
