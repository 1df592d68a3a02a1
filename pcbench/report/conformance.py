"""Table 6: what each published rule's weight update is of backpropagation's."""

import math
from collections.abc import Iterator, Sequence

from pcbench.params import Result
from pcbench.report import peers, verdicts, writing
from pcbench.report.metrics import worst
from pcbench.report.results import Source, TaskResults
from pcbench.report.table import Group, Table, flat, labels_of, range_of
from pcbench.report.writing import BIT_IDENTICAL, MISSING, SAME_PROGRAM

_SIGNS = {"steps": "T", "gamma": "γ", "alpha": "α", "variance": "v", "sigma": "σ"}


def conformance(tasks: Sequence[TaskResults], metrics: Result, libraries: Sequence[Source] = ()) -> Table:
    """Table 6; see `pcbench.report.tables.build` for the arguments.

    What other people's libraries call one of our rules stands below it.
    """
    labels = labels_of(task.conformance for task in tasks)
    rows = [*_ours(tasks, metrics), *_theirs(tasks, metrics, libraries)]
    order = [*labels, *dict.fromkeys(row["like"] for row in rows)]
    rows.sort(key=lambda row: order.index(row["like"]))
    groups = tuple(
        Group(label, tuple((row["task"].name, *_cells(row["cell"])) for row in rows if row["rule"] == rule))
        for rule, label in {row["rule"]: row["label"] for row in rows}.items()
    )
    records = tuple(
        {
            "task": row["task"].name,
            "family": row["task"].family,
            "rule": row["rule"],
            "label": row["label"],
            **{
                key: value
                for key, value in flat({**row["cell"], "options": setting(row["cell"]["options"])}).items()
                if key != "rate"
            },
            **_rate_record(row["cell"]["rate"]),
            "source": row["source"].path.as_posix(),
        }
        for row in rows
    )
    seeds = {len({record["seed"] for record in task.conformance.records}) for task in tasks}
    caption = (
        "One weight update of each rule against BP's, at the best of the settings tried: equal as a program, by every bit, "
        "by every number (zeros may differ in sign) or up to rounding; equal up to scale; approaching it as T grows, or "
        "as another option goes to its limit, with the rate at which the distance falls and its 95 % interval; or none of "
        "these. An approach is one among the settings tried: the distance still falls at their end. Distance: "
        "‖g − g_BP‖ / ‖g_BP‖. Scale: ⟨g, g_BP⟩ / ⟨g_BP, g_BP⟩. After one scale, and after one each tensor: the distance that "
        "is left once g is multiplied by the best number; in brackets of how many "
        "tensors the bits are those of BP's times a power of two. Float64, equality in float32 too; "
        f"{range_of(seeds)} {'seed' if seeds == {1} else 'seeds'}. {_of_libraries(metrics)}Exact."
    )
    heads = (
        "rule",
        "task",
        "verdict",
        "setting",
        "distance",
        "scale",
        "after one scale",
        "after one each tensor",
        "rate",
    )
    title = "Conformance: which predictive coding is backpropagation"
    return Table("conformance", title, caption, heads, groups, records)


def _ours(tasks: Sequence[TaskResults], metrics: Result) -> Iterator[Result]:
    """A row for each of our rules and tasks: what it is like is the rule itself."""
    labels = labels_of(task.conformance for task in tasks)
    for task in tasks:
        for rule, cell in metrics["tasks"][task.name]["conformance"].items():
            yield {
                **{"task": task, "rule": rule, "like": rule, "label": labels[rule]},
                **{"cell": cell, "source": task.conformance},
            }


def _theirs(tasks: Sequence[TaskResults], metrics: Result, libraries: Sequence[Source]) -> Iterator[Result]:
    """The same of the libraries; the figures are those that ours have."""
    named = {task.name: task for task in tasks}
    for source in libraries:
        for rule in source.by_rule:
            found = metrics["peers"][source.task][rule]
            cell = {key: value for key, value in found.items() if key not in peers.BESIDE}
            yield {
                **{"task": named[source.task], "rule": rule, "like": found["like"], "label": peers.heading(found)},
                **{"cell": cell, "source": source},
            }


def _of_libraries(metrics):
    """What the caption says of the libraries' rows, if there are any: how near each is to our rule, on the same loss."""
    found: dict[str, list[Result]] = {}
    for rules in metrics["peers"].values():
        for cell in rules.values():
            if cell["ours"] is not None:
                found.setdefault(peers.heading(cell), []).append(cell["ours"])
    if not found:
        return ""
    distances = (
        f"{heading} {writing.scientific(worst(each['largest'] for each in ours))} "
        f"({sum(each['settings'] for each in ours)})"
        for heading, ours in found.items()
    )
    return (
        "Below a rule: what other people's libraries call it, on the same weights and batch, in float64, at the settings of "
        "our rule. “Summed loss”: values and errors follow from the loss summed over the batch, not from its mean, so that "
        "the output's error is as many times larger as the batch has examples; the update is divided by that. The largest "
        "distance from our rule's own gradient, on the loss that the library takes (settings compared): "
        f"{'; '.join(distances)}. "
    )


def _cells(cell):
    return (
        told(cell),
        setting(cell["options"]) or MISSING,
        writing.scientific(cell["relative_l2"]),
        _number(cell["scale"]),
        writing.scientific(cell["residual"]),
        _by_tensor(cell),
        _rate(cell["rate"]),
    )


def told(cell: Result) -> str:
    """A verdict in words."""
    kind, by = cell["verdict"], cell["by"]
    if kind == verdicts.EQUAL:
        return {verdicts.PROGRAM: SAME_PROGRAM, verdicts.BITS: BIT_IDENTICAL}.get(by, "the same numbers")
    if kind == verdicts.SCALED:
        whose = "one each tensor" if cell["of"] == verdicts.MEASURES["tensor_residual"] else "one for all"
        return f"{kind} ({whose}), {'bit for bit' if by == verdicts.BITS else 'and to rounding'}"
    return f"{kind} {cell['of']}" if kind == verdicts.APPROACHES else kind


def setting(options: Result) -> str:
    """A rule's options for people: ``T = 20, γ = 0.1``."""
    return ", ".join(f"{_SIGNS.get(name, name)} = {_short(value)}" for name, value in options.items())


def _short(value):
    """A setting's value; a small power of two, which is exact, as that."""
    if isinstance(value, float) and value > 0:
        mantissa, exponent = math.frexp(value)
        if mantissa == 0.5 and exponent < -5:
            return f"2^−{1 - exponent}"
        return f"{value:g}"
    return value


def _number(value):
    return writing.NOT_FINITE if value is None else f"{value:.4g}".replace("-", "−")


def _by_tensor(cell):
    if cell["tensor_residual"] is None:
        return writing.NOT_FINITE
    return f"{writing.scientific(cell['tensor_residual'])} ({cell['scaled_tensors']} of {cell['tensors']})"


def _rate(rate):
    if rate is None:
        return MISSING
    sign = _SIGNS.get(rate["option"], rate["option"])
    value, low, high = (f"{rate[key]:.2g}".replace("-", "−") for key in ("value", "low", "high"))
    power = f"exp({value} {sign})" if rate["kind"] == "per step" else f"{sign}^{value}"
    return f"{power} [{low}, {high}]"


def _rate_record(rate):
    keys = ("option", "kind", "value", "low", "high")
    return {f"rate.{key}": "" if rate is None else rate[key] for key in keys}
