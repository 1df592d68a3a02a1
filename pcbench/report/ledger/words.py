"""Verdicts, thresholds, and what all tests of claims look up and write."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sized
from functools import wraps
from typing import Any

from pcbench.params import Result
from pcbench.report.verdicts import ROUNDING_LEVEL
from pcbench.report.writing import ratio, span

REPRODUCED = "reproduced"
REFUTED = "refuted as worded"
NOT_TESTED = "not tested"

Judged = tuple[str, str]  # a verdict, and its evidence: one or more whole sentences
Test = Callable[[Result], Judged]  # of the metrics, see `pcbench.report.metrics.summarise`
Found = dict[str, dict[str, Any]]  # {rule: {task: entry}}


def label(metrics: Result, rule: str) -> str:
    """A rule's name for people."""
    return metrics["labels"].get(rule, rule)


def listed(names: Iterable[str]) -> str:
    """Names in a row."""
    return ", ".join(names)


def which(names: Collection[str], every: Sized) -> str:
    """Names in a row; ``every task`` where all tasks are named."""
    return "every task" if len(names) == len(every) > 1 else listed(names)


def plural(things: Sized, noun: str) -> str:
    """How many there are: ``1 task``, ``7 tasks``."""
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def is_zero(relative_l2: float | None) -> bool:
    """Whether a distance is zero to the rounding of float64; one that is not finite, None, is not."""
    return relative_l2 is not None and relative_l2 <= ROUNDING_LEVEL


def finite(distance: float | None) -> float:
    """A distance that can be ordered: None is infinite."""
    return float("inf") if distance is None else distance


def needs(section: str, rules: Collection[str], what: str) -> Callable[[Callable[[Result, Found], Judged]], Test]:
    """Make a test of a function of the metrics and of what `of_tasks` finds in them: not tested where that is missing."""

    def made(judge: Callable[[Result, Found], Judged]) -> Test:
        @wraps(judge)
        def test(metrics: Result) -> Judged:
            found, missing = of_tasks(metrics, section, rules, what)
            return (NOT_TESTED, missing) if missing else judge(metrics, found)

        return test

    return made


def of_tasks(metrics: Result, section: str, rules: Collection[str], what: str) -> tuple[Found, str | None]:
    """Look up one section's entries of some rules on every task.

    Returns:
        ``({rule: {task: entry}}, None)``, or ``({}, why)`` where an entry is missing, or was refused.
    """
    return looked_up({name: entry[section] for name, entry in metrics["tasks"].items()}, rules, what)


def distances(metrics: Result, rules: Collection[str]) -> tuple[dict[str, dict[str, float | None]], str | None]:
    """Look up the relative L2 distances from BP's gradient in float64, as `of_tasks` does its entries."""
    cells = {
        task: {rule: by_dtype["float64"] for rule, by_dtype in entry["exactness"].items() if "float64" in by_dtype}
        for task, entry in metrics["tasks"].items()
    }
    found, missing = looked_up(cells, rules, "float64 gradients")
    return {rule: {task: cell["relative_l2"] for task, cell in row.items()} for rule, row in found.items()}, missing


def looked_up(cells: Mapping[str, Mapping[str, Any]], rules: Collection[str], what: str) -> tuple[Found, str | None]:
    """Turn ``{task: {rule: entry}}`` into ``({rule: {task: entry}}, None)``, or ``({}, why)`` where one is missing."""
    lacking = {
        rule: [task for task, row in cells.items() if rule not in row or "refused" in row[rule]] for rule in rules
    }
    if any(lacking.values()):
        told = "; ".join(f"{rule} on {which(tasks, cells)}" for rule, tasks in lacking.items() if tasks)
        return {}, f"No {what}: {told}."
    return {rule: {task: row[rule] for task, row in cells.items()} for rule in rules}, None


def ratios(costs: Mapping[str, Result]) -> str:
    """The range over the tasks of a rule's time, as a multiple of BP's."""
    return span([cost["ratio"]["median"] for cost in costs.values()], ratio)
