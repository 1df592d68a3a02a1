"""README.md's table: what was measured of every library, from the results beside it."""

from pathlib import Path

from tabulate import tabulate

from pcbench import params
from pcbench.errors import ResultError
from pcbench.files import write_text
from pcbench.report import peers, writing
from pcbench.report.conformance import setting, told
from pcbench.report.results import read_source

HERE = Path(__file__).parent
README = HERE / "README.md"
BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->\n"


def write() -> None:
    """Write the table into README.md.

    Raises:
        ResultError: a result is of another form, or README.md has no place for the table.
    """
    write_text(README, written(README.read_text(encoding="utf-8")))


def written(text: str) -> str:
    """README.md's text with the table of the results.

    Raises:
        ResultError: see `write`.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ResultError(
            f"{str(README)!r} has no lines {BEGIN.strip()} and {END.strip()}; the table stands between them"
        )
    return f"{before}{begin}\n{measured()}\n{end}{after}"


def measured(folder: Path = HERE / "results") -> str:
    """The table of all results of a folder, in Markdown."""
    parameters = params.load(HERE.parents[1] / "params.yaml")
    sources = [
        read_source("peers", path.stem, path) for path in sorted(folder.glob("*/[!.]*.json")) if _is_result(path)
    ]
    rows = [
        (
            task,
            f"{cell['title']} {cell['version']}",
            cell["label"],
            parameters["rules"][cell["like"]]["label"],
            "sum" if cell["summed"] else "mean",
            told(cell),
            setting(cell["options"]) or writing.MISSING,
            writing.scientific(cell["relative_l2"]),
            f"{writing.scientific(cell['ours']['largest'])} ({cell['ours']['settings']})"
            if cell["ours"]
            else writing.MISSING,
        )
        for task, rules in peers.summary(sources).items()
        for cell in rules.values()
    ]
    heads = ("task", "library", "its rule", "ours", "loss", "verdict", "setting", "distance from BP", "from ours")
    return tabulate(rows, heads, "pipe", disable_numparse=True) + "\n"


def _is_result(path):
    return not path.name.endswith(".provenance.json")
