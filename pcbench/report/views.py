"""What DVC's own views read: `dvc metrics` a few figures of each task, `dvc plots` curves, a row a point."""

import csv
import io
from collections.abc import Iterable, Sequence

import numpy as np

from pcbench.params import REFERENCE, Result
from pcbench.report.panels import binned, trajectories
from pcbench.report.results import TaskResults

MOST_POINTS = 60  # of a curve: the file is kept by git


def headline(metrics: Result) -> Result:
    """Return the figures that two runs are first compared by, all of them numbers.

    Args:
        metrics: the content of metrics.json.

    Returns:
        ``{task: {"accuracy": {rule: mean over seeds}, "equal_gradients", "equal_weights": fractions of Z-IL's comparisons,
        "time": {rule: median ratio to BP}}, "claims": {verdict: how many}}``; what a profile lacks is left out.
    """
    found: Result = {name: _of_task(task) for name, task in metrics["tasks"].items()}
    verdicts = [entry["verdict"] for entry in metrics["claims"].values()]
    return {**found, "claims": {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}}


def _of_task(task):
    cells, weights = task["exactness"].get("zil", {}).values(), task["weights"].get("zil")
    found = {"accuracy": {rule: cell["mean"] for rule, cell in task["accuracy"].items()}}
    if cells:
        found["equal_gradients"] = sum(cell["seeds_equal"] for cell in cells) / sum(cell["seeds"] for cell in cells)
    if weights is not None:
        found["equal_weights"] = weights["updates_equal"] / weights["updates"]
    times = {rule: cell["ratio"]["median"] for rule, cell in task["cost"].items() if "refused" not in cell}
    return {**found, "time": {rule: ratio for rule, ratio in times.items() if rule != REFERENCE}}


def curves(tasks: Sequence[TaskResults]) -> dict[str, str]:
    """Return ``{name: CSV}``: ``training``, loss and accuracy by epoch, means over seeds; and ``distance``, the relative L2
    distance of the weights from BP's by weight update, medians over seeds.

    Args:
        tasks: list of `pcbench.report.results.TaskResults`.
    """
    return {
        "training": _csv(("task", "rule", "epoch", "train_loss", "test_accuracy"), _epochs(tasks)),
        "distance": _csv(("task", "rule", "update", "distance"), _distances(tasks)),
    }


def _epochs(tasks):
    for task in tasks:
        for records in task.train.by_rule.values():
            runs = [record["metrics"]["epochs"] for record in records]
            for epoch, entries in enumerate(zip(*runs, strict=True), 1):
                means = (float(np.mean([entry[key] for entry in entries])) for key in ("train_loss", "test_accuracy"))
                yield task.name, records[0]["label"], epoch, *means


def _distances(tasks):
    for task in tasks:
        for rule, records in task.train.by_rule.items():
            if rule != REFERENCE:
                updates, _, median, _ = binned(trajectories(records), MOST_POINTS)
                for update, distance in zip(updates.tolist(), median.tolist(), strict=True):
                    yield task.name, records[0]["label"], update, distance


def _csv(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return text.getvalue()
