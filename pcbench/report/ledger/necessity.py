"""Claims on what exactness needs, and on what inference without it comes near to."""

from functools import partial

from pcbench.params import Result
from pcbench.report.ledger.words import (
    NOT_TESTED,
    REFUTED,
    REPRODUCED,
    Judged,
    Test,
    distances,
    finite,
    is_zero,
    label,
    listed,
    plural,
    which,
)
from pcbench.report.writing import scientific, span

_Condition = tuple[str | None, str]  # in words, or None for the rule's label; and the rule


def necessary(condition: _Condition, instead: _Condition, metrics: Result) -> Judged:
    """Is the condition necessary for zero divergence: is zero reached with it, and never without it?

    Args:
        condition, instead: with the condition and without it, both in state form, so that nothing but the condition
            differs between the two.
        metrics: see `pcbench.report.ledger.words.Test`.
    """
    (with_it, rule), (without, other) = ((words or label(metrics, name), name) for words, name in (condition, instead))
    found, missing = distances(metrics, (rule, other))
    if missing:
        return NOT_TESTED, missing
    kept, broken = found[rule], found[other]
    figures = (
        f"{_measured(kept)}: {span(kept.values(), scientific)} with {with_it}, "
        f"{span(broken.values(), scientific)} with {without}."
    )
    if all(map(is_zero, kept.values())) and not any(map(is_zero, broken.values())):
        return REPRODUCED, figures
    if all(map(is_zero, broken.values())) and not any(map(is_zero, kept.values())):
        return REFUTED, f"The opposite holds. {figures}"
    reached = [task for task, value in broken.items() if is_zero(value)]
    if reached:
        return REFUTED, f"Zero to rounding is reached with {without} on {which(reached, broken)}. {figures}"
    return REFUTED, f"Zero is reached neither way on every task. {figures}"


def _measured(by_task):
    return f"Relative L2 distance from BP's gradient (state form, float64, {plural(by_task, 'task')})"


def levelling(metrics: Result) -> Judged:
    """`necessary`, on the tasks whose graphs have edges that skip levels: elsewhere there is nothing to level."""
    tasks = {name: entry for name, entry in metrics["tasks"].items() if entry["identities"] > 0}
    if not tasks:
        return NOT_TESTED, "This profile has no task whose graph has edges that skip levels."
    conditions: tuple[_Condition, _Condition] = ("identity vertices", "zil-state"), (None, "not-levelled")
    verdict, found = necessary(*conditions, {**metrics, "tasks": tasks})
    return verdict, f"{found} Edges skip levels on {listed(tasks)}."


def approximates(metrics: Result) -> Judged:
    """IL with more steps is nearer to BP on every task, and on none is it there."""
    found, missing = distances(metrics, ("il-20", "il-100"))
    if missing:
        return NOT_TESTED, missing
    few, many = found["il-20"], found["il-100"]
    figures = (
        f"Relative L2 distance from BP's gradient, {label(metrics, 'il-20')} against {label(metrics, 'il-100')} (float64): "
        f"{'; '.join(f'{task} {scientific(few[task])} against {scientific(many[task])}' for task in few)}."
    )
    exact = [task for task, value in many.items() if is_zero(value)]
    if exact:
        return REFUTED, f"Zero to rounding, no approximation, on {which(exact, many)}. {figures}"
    farther = [task for task in few if finite(many[task]) >= finite(few[task])]
    if farther:
        return REFUTED, f"Not closer with more steps on {which(farther, few)}. {figures}"
    return REPRODUCED, figures


TESTS: dict[str, Test] = {
    "necessity-levelling": levelling,
    "necessity-layer-dependent": partial(
        necessary, ("the layer-dependent update", "zil-state"), ("every weight updated at t = T", "not-layer-dependent")
    ),
    "necessity-epsilon": partial(necessary, (None, "sigma-6e-1"), ("zero initial error", "zil-state")),
    "necessity-gamma": partial(necessary, (None, "gamma-half"), ("γ = 1", "zil-state")),
    "il-approximates": approximates,
}
