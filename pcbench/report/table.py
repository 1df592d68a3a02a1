"""What a table is, how it is written, and what all of them are made with."""

import csv
import io
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from pcbench.errors import InvalidParameters
from pcbench.params import Result
from pcbench.report import writing
from pcbench.report.results import Source
from pcbench.report.writing import MISSING

# The tables of measured figures in their order, and the stage that each is first of all made from; None of the one that is
# made of several stages' figures. A table keeps its number in a profile that lacks another one.
STAGE_OF: dict[str, str | None] = {
    **{"exactness": "exactness", "cost": "cost", "accuracy": "train", "zoo": "zoo"},
    **{"certificates": "proof", "conformance": "conformance", "scaling": "scaling"},
    **{"conditions": "conditions", "energy": "conditions"},
    "published": None,
}


@dataclass(frozen=True)
class Group:
    """Rows of one quantity: ``heading`` names it, each row is a label and one cell a column."""

    heading: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Table:
    """One table, written as Markdown, LaTeX and CSV, and shown on the page.

    Attributes:
        name: the stem of its files.
        title, caption: what it shows; how many seeds, and of which kind the figures are.
        heads: the heads of the group's heading, of the rows' labels, and of the cells.
        groups: the rows for people, rounded; a row's label is the first value of the records that it sums up.
        records: the rows for machines: dicts with the same keys, unrounded; ``source`` is the result's path, empty where
            nothing was measured.
    """

    name: str
    title: str
    caption: str
    heads: tuple[str, ...]
    groups: tuple[Group, ...]
    records: tuple[dict[str, Any], ...]

    @property
    def number(self) -> int | None:
        """Its place in `STAGE_OF`, from 1; None of a table that measures nothing itself."""
        return list(STAGE_OF).index(self.name) + 1 if self.name in STAGE_OF else None


def markdown(table: Table) -> str:
    """Write ``table`` as a GitHub-flavoured Markdown table, its caption below."""
    heads, rows = _flat(table)
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    text = tabulate(rows, heads, "pipe", disable_numparse=True, colalign=_alignment(table, heads)) + "\n"
    return (
        text if table.name == "headline" else f"{text}\n**{table.title}.** {table.caption}\n"
    )  # README says what that is


def latex(table: Table) -> str:
    """Write ``table`` as a LaTeX ``tabular`` with booktabs' rules, in ASCII: it compiles under every engine.

    A letter of a label loses its accents; a sign that is neither ASCII nor known here becomes a question mark.
    """
    heads, rows = _flat(table)
    return (
        _ascii(tabulate(rows, heads, "latex_booktabs", disable_numparse=True, colalign=_alignment(table, heads))) + "\n"
    )


def latex_text(text: str) -> str:
    """Write running text as LaTeX in ASCII, see `latex`."""
    return _ascii("".join(_SPECIAL.get(sign, sign) for sign in text))


def _ascii(text):
    plain = unicodedata.normalize("NFKD", text.translate(_LATEX))
    return "".join(sign for sign in plain if not unicodedata.combining(sign)).encode("ascii", "replace").decode()


def as_csv(table: Table) -> str:
    """Write ``table``'s records as CSV, unrounded, each with the path of the result that it came from."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table.records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.records)
    return text.getvalue()


# What a table is written as: the format's name, the suffix of its file, and how.
FORMATS: dict[str, tuple[str, Callable[[Table], str]]] = {
    **{"md": ("md", markdown), "latex": ("tex", latex), "csv": ("csv", as_csv)},
}


def found(tables: Sequence[Table], which: str) -> Table:
    """Return the table of a number or a name.

    Raises:
        InvalidParameters: there is none; says which there are.
    """
    for table in tables:
        if which == table.name or (which.isdecimal() and int(which) == table.number):
            return table
    known = (table.name if table.number is None else f"{table.number} {table.name}" for table in tables)
    raise InvalidParameters(f"there is no table {which!r} in this profile's report; there are: {', '.join(known)}")


_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
}
_LATEX = str.maketrans(
    {
        "σ": r"$\sigma$",
        "γ": r"$\gamma$",
        "μ": r"$\mu$",
        "ε": r"$\varepsilon$",
        "α": r"$\alpha$",
        "⟨": r"$\langle$",
        "⟩": r"$\rangle$",
        "θ": r"$\theta$",
        "∂": r"$\partial$",
        "Σ": r"$\sum$",
        "½": r"$\frac{1}{2}$",
        "²": r"$^2$",
        "–": "--",
        "—": "---",
        "×": r"$\times$",
        "−": "$-$",
        "’": "'",
        "“": "``",
        "”": "''",
        "‖": r"$\|$",
        "\u202f": r"\,",
    }
)


def _flat(table):
    """Heads and rows with the group's heading in a column of its own, once a group; without it where none has one."""
    titled = any(group.heading for group in table.groups)
    rows = [
        [*([group.heading if i == 0 else ""] if titled else []), *row]
        for group in table.groups
        for i, row in enumerate(group.rows)
    ]
    return list(table.heads if titled else table.heads[1:]), rows


def _alignment(table, heads):
    all_words = table.name in ("claims", "zoo", "certificates", "conformance", "published", "headline")
    words = len(heads) - len(table.heads[2:]) * (not all_words)
    return ["left"] * words + ["right"] * (len(heads) - words)


def section(metrics: Result, name: str) -> dict[str, Result]:
    """One section of the metrics, by task."""
    return {task: entry[name] for task, entry in metrics["tasks"].items()}


def labels_of(sources: Iterable[Source]) -> dict[str, str]:
    """The rules' labels by rule, over all results of a stage, in the order of params.yaml."""
    return {record["rule"]: record["label"] for source in sources for record in source.records}


def labels_shared(sources: Iterable[Source]) -> dict[str, str]:
    """As `labels_of`, of the rules that every one of the results has."""
    sources = list(sources)
    return {
        rule: label for rule, label in labels_of(sources).items() if all(rule in source.by_rule for source in sources)
    }


def flat(cell: Result) -> dict[str, Any]:
    """A figure's parts for machines, each in a column of its own: ``{"ratio.median": 1.2, ...}``; None is empty."""
    found: dict[str, Any] = {}
    for key, value in cell.items():
        inner = flat(value) if isinstance(value, dict) else {"": "" if value is None else value}
        found |= {f"{key}.{part}".rstrip("."): each for part, each in inner.items()}
    return found


def rows_of(
    labels: Iterable[str], found: Mapping[str, Result], write: Callable[[Any], str], *more: str
) -> tuple[tuple[str, ...], ...]:
    """One row a task, one cell a rule, then the cells ``more``; a dash where the task lacks the rule."""
    return tuple(
        (task, *(write(cells[rule]) if rule in cells else MISSING for rule in labels), *more)
        for task, cells in found.items()
    )


def exported(value: float | None) -> float | str:
    """A divergence for machines: words where it is no finite number."""
    return writing.NOT_FINITE if value is None else value


def range_of(values: Collection[int]) -> str:
    """Numbers in words: from the least to the largest, or the one that they all are."""
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
