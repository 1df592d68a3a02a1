"""Claims on training: accuracies, and where the weights end."""

from functools import partial

from pcbench.params import REFERENCE, Result
from pcbench.report.ledger.words import (
    NOT_TESTED,
    REFUTED,
    REPRODUCED,
    Judged,
    Test,
    label,
    listed,
    of_tasks,
    which,
)
from pcbench.report.writing import count, percent, points, scientific, span

# Between IL (γ < 1, every weight updated at t = T) and Z-IL (γ = 1, each at its level) there are two mixtures; both begin at
# the forward pass.
MIXTURES = {
    "gamma-half": "IL's integration step with Z-IL's layer-dependent update",
    "not-layer-dependent": "Z-IL's integration step with IL's update at t = T",
}


def same_accuracy(metrics: Result) -> Judged:
    """On convolutional and recurrent networks, mean and interval over the seeds are BP's to the last digit."""
    tasks = {name: entry for name, entry in metrics["tasks"].items() if entry["family"] in ("cnn", "rnn")}
    if not tasks:
        return NOT_TESTED, "This profile has no convolutional or recurrent network."
    found, missing = of_tasks({"tasks": tasks}, "accuracy", (REFERENCE, "zil"), "accuracies")
    if missing:
        return NOT_TESTED, missing
    bp, zil = found[REFERENCE], found["zil"]
    figures = "; ".join(
        f"{task} {percent(zil[task]['mean'])} % against {percent(bp[task]['mean'])} %" for task in tasks
    )
    unlike = [task for task in tasks if zil[task] != bp[task]]
    if unlike:
        return REFUTED, f"Another accuracy than BP's on {listed(unlike)}. Z-IL against BP: {figures}."
    return REPRODUCED, f"The same to the last digit, over all seeds. Z-IL against BP: {figures}."


def same_point(rule: str, metrics: Result) -> Judged:
    """The final weights are BP's, bit by bit, for every seed of every task."""
    found, missing = of_tasks(metrics, "weights", (rule,), "weights in training")
    if missing:
        return NOT_TESTED, missing
    weights = found[rule]
    apart = [task for task, cell in weights.items() if not cell["bitwise_equal"]]
    updates, equal = (sum(cell[key] for cell in weights.values()) for key in ("updates", "updates_equal"))
    figures = (
        f"{label(metrics, rule)} has BP's weights after {count(equal)} of {count(updates)} updates; the last ones are "
        f"{span([cell['final_l2'] for cell in weights.values()], scientific)} apart (L2)."
    )
    return (REFUTED, f"Another point on {which(apart, weights)}. {figures}") if apart else (REPRODUCED, figures)


def performs_equally(rule: str, metrics: Result) -> Judged:
    """On every task the intervals of the mean accuracy meet."""
    found, missing = of_tasks(metrics, "accuracy", (REFERENCE, rule), "accuracies")
    if missing:
        return NOT_TESTED, f"{missing} A profile trains what `train.rules` lists in params.yaml."
    bp, other = found[REFERENCE], found[rule]
    figures = "; ".join(f"{task} {percent(other[task]['mean'])} % against {percent(bp[task]['mean'])} %" for task in bp)
    apart = [task for task in bp if _below(other[task], bp[task]) or _below(bp[task], other[task])]
    if apart:
        return (
            REFUTED,
            f"The 95 % intervals do not meet on {which(apart, bp)}. {label(metrics, rule)} against BP: {figures}.",
        )
    return REPRODUCED, f"The 95 % intervals of the mean meet. {label(metrics, rule)} against BP: {figures}."


def _below(first, second):
    """Whether the first accuracy's interval ends below the second's; one without an interval is its mean."""
    high, low = (cell["mean"] if cell[end] is None else cell[end] for cell, end in ((first, "high"), (second, "low")))
    return high < low


def hybrid(metrics: Result) -> Judged:
    """One of the mixtures of IL and Z-IL is more accurate than Z-IL, and than BP, by more than the seeds scatter.

    On every task: one on which it is not refutes a mixture, and no fewer than all reproduce the claim. The source does not
    say what the hybrid is; so that it is refuted, each of the mixtures must be.
    """
    tasks = metrics["tasks"]
    tried = {rule: [task for task, entry in tasks.items() if rule in entry["accuracy"]] for rule in MIXTURES}
    some = {task: entry for task, entry in tasks.items() if any(task in names for names in tried.values())}
    found, missing = of_tasks({"tasks": some}, "accuracy", (REFERENCE, "zil"), "accuracies")
    if missing or not some:
        return NOT_TESTED, (
            f"{missing or 'No mixture is trained.'} What the hybrid is, the source does not say. Two mixtures are possible: "
            f"{_readings(MIXTURES)}; a mixture is trained on the tasks that `train.only` in params.yaml lists for it."
        )
    told, beaten, unbeaten = [], [], []
    for rule, names in tried.items():
        cells = {task: tasks[task]["accuracy"][rule] for task in names}
        better = [task for task in names if all(_below(found[other][task], cells[task]) for other in found)]
        if names and len(better) < len(names):
            beaten.append(rule)
        elif names and len(names) == len(tasks):
            unbeaten.append(rule)
        gaps = [100 * (cells[task]["mean"] - found["zil"][task]["mean"]) for task in names]
        above = (
            f"above Z-IL and BP on {listed(better) or 'none'}, {span(gaps, points)} points from Z-IL" if names else ""
        )
        where = f"trained on {which(names, tasks)}, {above}" if names else "not trained"
        told.append(f"{label(metrics, rule)} ({MIXTURES[rule]}): {where}")
    figures = f"{'; '.join(told)}."
    if unbeaten:
        return REPRODUCED, f"Above by more than the seeds scatter. {figures}"
    if len(beaten) == len(MIXTURES):
        return REFUTED, f"Neither mixture beats them wherever it was trained, by more than the seeds scatter. {figures}"
    left = [rule for rule in MIXTURES if rule not in beaten]
    return NOT_TESTED, f"Neither refuted nor trained on every task: {_readings(left)}. {figures}"


def _readings(rules):
    return " or ".join(f"{MIXTURES[rule]} ({rule!r})" for rule in rules)


TESTS: dict[str, Test] = {
    "same-accuracy": same_accuracy,
    "il-same-point": partial(same_point, "il-20"),
    "equivalent-accuracy": partial(performs_equally, "fixed-prediction"),
    "hybrid": hybrid,
}
