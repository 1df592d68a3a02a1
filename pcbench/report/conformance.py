"""Table 6: what each published rule's weight update is of backpropagation's."""

import math
from collections.abc import Sequence

from pcbench.params import Result
from pcbench.report import verdicts, writing
from pcbench.report.results import TaskResults
from pcbench.report.table import Group, Table, flat, labels_of, range_of
from pcbench.report.writing import BIT_IDENTICAL, MISSING, SAME_PROGRAM

_SIGNS = {"steps": "T", "gamma": "γ", "alpha": "α", "variance": "v", "sigma": "σ"}


def conformance(tasks: Sequence[TaskResults], metrics: Result) -> Table:
    """Table 6; see `pcbench.report.tables.build` for the arguments."""
    labels = labels_of(task.conformance for task in tasks)
    found = {task.name: metrics["tasks"][task.name]["conformance"] for task in tasks}
    groups = tuple(
        Group(label, tuple((name, *_cells(rules[rule])) for name, rules in found.items() if rule in rules))
        for rule, label in labels.items()
    )
    records = tuple(
        {
            "task": task.name,
            "family": task.family,
            "rule": rule,
            "label": labels[rule],
            **{
                key: value
                for key, value in flat({**cell, "options": setting(cell["options"])}).items()
                if key != "rate"
            },
            **_rate_record(cell["rate"]),
            "source": task.conformance.path.as_posix(),
        }
        for task in tasks
        for rule, cell in found[task.name].items()
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
        f"{range_of(seeds)} {'seed' if seeds == {1} else 'seeds'}. Exact."
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
