"""Published values beside what was measured here: one row a value, the range over what stands beside it."""

from collections.abc import Sequence

from pcbench.params import Result
from pcbench.report import published, writing
from pcbench.report.results import Source, TaskResults
from pcbench.report.table import Group, Table, exported
from pcbench.report.writing import BIT_IDENTICAL, MISSING

NO_COUNTERPART = "no counterpart"
_KEYS = ("network", "figure", "published", "measured", "captured", "on", "published_in", "citation", "source")


def build(tasks: Sequence[TaskResults], metrics: Result, zoo: Sequence[Source]) -> Table:
    """The table; see `pcbench.report.tables.build` for the arguments."""
    values, by_name = published.load(), {task.name: task for task in tasks}
    times = [
        _beside(value, "time ratio", value["zil"] / value["bp"], _times(value, by_name, metrics))
        for value in values["times"]
    ]
    distances = [
        _beside(value, "L2 distance", value["value"], _distances(value, by_name, metrics, zoo))
        for value in values["divergences"]
    ]
    groups = (
        Group(
            "time of a weight update, ratio of Z-IL to BP",
            tuple(_row(of_one, writing.ratio, writing.ratio) for of_one in times),
        ),
        Group("L2 distance from BP", tuple(_row(of_one, writing.scientific, _distance) for of_one in distances)),
    )
    reporters = dict.fromkeys(record["published_in"] for of_one in times + distances for record in of_one)
    caption = (
        f"Published: {'; '.join(reporters)}. Measured: the range over what is named; where a profile has not the published "
        "network, over the tasks of its family. Of published times the ratio alone is compared, with the median over rounds: "
        "timings, on other machines. Captured: both updates replayed as programs. How the published divergence is measured "
        "was not read: nothing but zero can be compared. Here it is the L2 distance of the gradients of one update, float64: "
        "exact."
    )
    heads = ("quantity", "network", "published", "measured", "captured", "on")
    records = tuple(record for of_one in times + distances for record in of_one)
    return Table("published", "Published and measured", caption, heads, groups, records)


def _beside(value, figure, number, found):
    """One record for each task, or model, that stands beside a published value; one that says so where none does."""
    own = {
        **{"network": value["network"], "figure": figure, "published": number},
        **{"published_in": published.claimed_in(value), "citation": published.citation(value)},
    }
    missing = {"measured": "", "captured": "", "on": "", "source": ""}
    return [{key: (own | measured)[key] for key in _KEYS} for measured in list(found) or [missing]]


def _times(value, tasks, metrics):
    for name in _counterparts(value, metrics):
        cost = metrics["tasks"][name]["cost"]
        if "zil" in cost:
            captured = cost.get("zil-captured", {}).get("captured_ratio", {"median": ""})["median"]
            source = tasks[name].cost.path.as_posix()
            yield {"measured": cost["zil"]["ratio"]["median"], "captured": captured, "on": name, "source": source}


def _distances(value, tasks, metrics, zoo):
    found = {
        name: (metrics["tasks"][name]["exactness"].get(value["rule"], {}).get("float64"), tasks[name].exactness)
        for name in _counterparts(value, metrics)
    }
    models = {source.task: (metrics["zoo"][source.task], source) for source in zoo if source.task == value.get("model")}
    for name, (cell, source) in {**found, **models}.items():
        if cell is not None:
            measured = 0.0 if cell["bitwise_equal"] else exported(cell["l2"])
            yield {"measured": measured, "captured": "", "on": name, "source": source.path.as_posix()}


def _counterparts(value, metrics):
    """The tasks that stand beside a published value: without levelling, of those that have something to level."""
    if value.get("task") in metrics["tasks"]:
        return [value["task"]]
    if value.get("rule") == "not-levelled":
        return [name for name, entry in metrics["tasks"].items() if entry["identities"] > 0]
    return [name for name, entry in metrics["tasks"].items() if entry["family"] == value.get("family")]


def _row(records, write_published, write):
    """A published value's row: the range over what stands beside it."""
    number, network = write_published(records[0]["published"]), records[0]["network"]
    if not records[0]["on"]:
        return network, number, NO_COUNTERPART, MISSING, MISSING
    measured = [None if record["measured"] == writing.NOT_FINITE else record["measured"] for record in records]
    captured = [record["captured"] for record in records if record["captured"] != ""]
    return (
        network,
        number,
        writing.span(measured, write),
        writing.span(captured, write) if captured else MISSING,
        ", ".join(record["on"] for record in records),
    )


def _distance(value):
    return BIT_IDENTICAL if value == 0 else writing.scientific(value)
