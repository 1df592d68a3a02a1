"""Tables 8 and 9: whether each of Z-IL's conditions is needed, and Z-IL's update beside the slope of a free energy."""

import math
from collections.abc import Sequence

from pcbench.params import Result
from pcbench.report import writing
from pcbench.report.metrics import CONDITIONS
from pcbench.report.results import TaskResults
from pcbench.report.table import Group, Table, exported, flat, section
from pcbench.report.writing import MISSING, NECESSARY, SUFFICIENT

_HEADS = {"zero_initial_error": "zero initial error", "unit_step": "γ = 1", "layer_dependent": "layer-dependent update"}
_REDUCTIONS = {
    "mean": "mean over the batch, as trained",
    "sum": "sum over the batch, each example’s own F",
}


def conditions(tasks: Sequence[TaskResults], metrics: Result) -> Table:
    """Table 8; see `pcbench.report.tables.build` for the arguments."""
    found = _of_tasks(metrics)
    groups = (
        Group("verdict", tuple((task, *_verdicts(cell)) for task, cell in found.items())),
        Group("relative L2 distance from BP", tuple((task, *_distances(cell)) for task, cell in found.items())),
    )
    records = tuple(record for task in tasks for record in _records(task, found[task.name]))
    rounding = max(task.conditions.files[0]["rounding"] for task in tasks)
    points = found[tasks[0].name]["otherwise"]["points"] + 1
    caption = (
        f"One weight update of Z-IL in state form, float64, one seed, at {points} points: every γ × every σ of the initial "
        "error × layer-dependent or not. Sufficient: with all three conditions the gradient is BP's to rounding, a relative "
        f"distance of {writing.scientific(rounding)} or less. Necessary, judged apart from that: without the condition, the "
        "other two kept, it is BP's at no point. Distances are from the least to the largest of these points. Any other "
        "combination: all points but the one that has all three. Exact."
    )
    heads = ("quantity", "task", "all three together", *(_HEADS[name] for name in CONDITIONS), "any other combination")
    return Table("conditions", "Conditions", caption, heads, groups, records)


def _of_tasks(metrics):
    """The figures of the one rule that is broken, by task."""
    return {task: next(iter(rules.values())) for task, rules in section(metrics, "conditions").items()}


def _verdicts(cell):
    yield SUFFICIENT if cell["sufficient"] else "not sufficient"
    for name in CONDITIONS:
        yield NECESSARY if cell[name]["necessary"] else "not necessary"
    yield f"{cell['otherwise']['zero']} of {cell['otherwise']['points']} zero to rounding"


def _distances(cell):
    yield writing.scientific(cell["relative_l2"])
    for name in (*CONDITIONS, "otherwise"):
        yield writing.span([cell[name][end] for end in ("least", "largest")], writing.scientific)


def _records(task, cell):
    (record,) = task.conditions.records
    head = {"task": task.name, "family": task.family, "rule": record["rule"], "label": record["label"]}
    together = {
        "points": 1,
        "zero": int(cell["sufficient"]),
        **dict.fromkeys(("least", "largest"), cell["relative_l2"]),
    }
    kept = {"all three together": ("sufficient", cell["sufficient"], together)}
    kept |= {f"all but {_HEADS[name]}": ("necessary", cell[name]["necessary"], cell[name]) for name in CONDITIONS}
    kept |= {"any other combination": ("", "", cell["otherwise"])}
    for combination, (question, answer, spread) in kept.items():
        ends = {key: exported(spread[key]) for key in ("least", "largest")}
        counts = {key: spread[key] for key in ("points", "zero")}
        yield {
            **head,
            **{"conditions": combination, "question": question, "answer": answer},
            **counts,
            **ends,
            "source": task.conditions.path.as_posix(),
        }


def free_energy(tasks: Sequence[TaskResults], metrics: Result) -> Table:
    """Table 9; see `pcbench.report.tables.build` for the arguments."""
    found = {task: cell["free_energy"] for task, cell in _of_tasks(metrics).items()}
    reductions = list(next(iter(found.values())))
    groups = tuple(
        Group(_REDUCTIONS[reduction], tuple((task, *_energies(cells[reduction])) for task, cells in found.items()))
        for reduction in reductions
    )
    records = tuple(
        {
            **{"task": task.name, "family": task.family, "loss": reduction},
            **flat(cell),
            "source": task.conditions.path.as_posix(),
        }
        for task in tasks
        for reduction, cell in found[task.name].items()
    )
    caption = (
        "F = L + ½ Σ ‖ε‖² over the hidden vertices: at the start (the forward pass, where it is the loss) and at the end of "
        "Z-IL's inference, and at its least over the values, where IL comes to rest. Left of the slope: the largest ∂F/∂x "
        "where the descent ended, over the largest at the start; at a kink (ReLU, max pooling), or after all its "
        "evaluations, some of it remains. Then the angle between Z-IL's update and −∂F/∂θ, and their distance over the norm "
        "of Z-IL's update: settled, at the values at which F is least; at one time, with all errors those of one step of "
        "Z-IL's inference, and the nearest step counts. Exact."
    )
    heads = (
        *("loss", "task", "F at the start", "F at the end", "F at its least", "left of the slope"),
        *("settled: angle, degrees", "settled: distance", "at one time: angle, degrees", "at one time: distance"),
    )
    title = "Z-IL's update and the slope of the free energy"
    return Table("energy", title, caption, heads, groups, records)


def _energies(cell):
    settled, passed = cell["settled"], cell["at_one_time"]
    yield from (_four(value) for value in (cell["start"], cell["end"], settled["energy"]))
    yield writing.scientific(settled["residual"])
    for compared in (settled, passed):
        yield _degrees(compared["cosine"])
        yield writing.scientific(compared["relative_l2"])


def _four(value):
    """An energy to four digits: it differs little from its least."""
    if value is None:
        return writing.NOT_FINITE
    mantissa, _, exponent = f"{value:#.4g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa.rstrip(".")


def _degrees(cosine):
    return MISSING if cosine is None else f"{math.degrees(math.acos(max(-1.0, min(1.0, cosine)))):.1f}"
