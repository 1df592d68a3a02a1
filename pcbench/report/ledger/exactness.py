"""Claims of equality: of gradients and weights bit by bit, and of programs."""

from functools import partial

from pcbench.params import Result
from pcbench.report.ledger.words import (
    NOT_TESTED,
    REFUTED,
    REPRODUCED,
    Judged,
    Test,
    distances,
    is_zero,
    listed,
    plural,
)
from pcbench.report.writing import count, scientific, span, ulps

RESNET = "resnet18"  # in the name of a task, or of a model of the zoo


def of_family(family: str, name: str, metrics: Result) -> Judged:
    """Gradients of one update in both dtypes, and weights at every update: the same bits as BP's on the family's tasks."""
    tasks = {task: entry for task, entry in metrics["tasks"].items() if entry["family"] == family}
    return _of_tasks(tasks) if tasks else (NOT_TESTED, f"This profile has no {name}.")


def _of_tasks(tasks):
    unlike, missing = [], []
    for task, entry in tasks.items():
        for dtype in ("float32", "float64"):
            found = entry["exactness"].get("zil", {}).get(dtype)
            if found is None:
                missing.append(f"{task}: gradients in {dtype}")
            elif not found["bitwise_equal"]:
                unlike.append(
                    f"{task}: gradients in {dtype} up to {ulps(found['max_ulp'])} ULP, "
                    f"relative L2 {scientific(found['relative_l2'])}"
                )
        weights = entry["weights"].get("zil")
        if weights is None:
            missing.append(f"{task}: weights in training")
        elif weights["max_ulp"] != 0 or not weights["bitwise_equal"]:
            equal = f"{count(weights['updates_equal'])} of {count(weights['updates'])}"
            unlike.append(f"{task}: weights up to {ulps(weights['max_ulp'])} ULP, 0 ULP after {equal} updates")
    if unlike:
        return REFUTED, f"Z-IL differs from BP: {'; '.join(unlike)}."
    if missing:
        return NOT_TESTED, f"No results: {'; '.join(missing)}."
    seeds = sum(
        entry["exactness"]["zil"][dtype]["seeds"] for entry in tasks.values() for dtype in ("float32", "float64")
    )
    updates = count(sum(entry["weights"]["zil"]["updates"] for entry in tasks.values()))
    return REPRODUCED, (
        f"Bit-identical on {listed(tasks)}: {seeds} of {seeds} first gradients (float32 and float64), "
        f"and the weights after {updates} of {updates} updates of training."
    )


def _of_zoo(models):
    unlike = [name for name, found in models.items() if not (found["bitwise_equal"] and found["buffers_equal"])]
    if unlike:
        return REFUTED, f"Z-IL differs from BP on {listed(unlike)}."
    return (
        REPRODUCED,
        f"Bit-identical on torchvision's {listed(models)}, unmodified: one update, gradients and buffers.",
    )


def _together(verdicts):
    """One verdict of several: a difference outweighs what is missing, and that what agrees."""
    worst = next(kind for kind in (REFUTED, NOT_TESTED, REPRODUCED) if any(verdict == kind for verdict, _ in verdicts))
    return worst, " ".join(evidence for verdict, evidence in verdicts if verdict == worst)


def on_resnet(metrics: Result) -> Judged:
    """The same bits on the ResNet-18s that there are, trained or in the zoo."""
    tasks, zoo = (
        {name: entry for name, entry in metrics[kind].items() if RESNET in name.split("-")} for kind in ("tasks", "zoo")
    )
    if not tasks and not zoo:
        return NOT_TESTED, "This profile has no ResNet-18."
    return _together([*([_of_tasks(tasks)] if tasks else []), *([_of_zoo(zoo)] if zoo else [])])


def on_all(metrics: Result) -> Judged:
    """Every task and every model of the zoo: the same bits as BP's."""
    zoo = metrics["zoo"]
    verdicts = [_of_tasks({name: entry}) for name, entry in metrics["tasks"].items()]
    verdict, evidence = _together([*verdicts, *([_of_zoo(zoo)] if zoo else [])])
    if verdict != REPRODUCED:
        return verdict, evidence
    if not zoo:
        return NOT_TESTED, "This profile has no zoo of larger graphs."
    branching = sum(entry["identities"] > 0 for entry in metrics["tasks"].values())
    return REPRODUCED, (
        f"Bit-identical on all {plural(metrics['tasks'], 'task')}, {branching} of them with edges that skip levels, and on "
        f"{len(zoo)} of {len(zoo)} classifiers of torchvision, unmodified. No finite number of graphs proves “any”."
    )


def same_program(metrics: Result) -> Judged:
    """Certificates on every task and every model; a certificate that no control can fail would be none."""
    found = {name: entry["proof"].get("zil") for name, entry in metrics["tasks"].items()}
    tasks, found = len(found), {**found, **{name: entry.get("proof") for name, entry in metrics["zoo"].items()}}
    controls = [
        (f"{label} on {name}", cell["equal"])
        for name, entry in metrics["tasks"].items()
        for label, cell in entry["proof"].items()
        if label != "zil" and "refused" not in cell
    ]
    told = sum(len(entry["proof"]) - ("zil" in entry["proof"]) for entry in metrics["tasks"].values())
    unlike = [name for name, cell in found.items() if cell and not cell["equal"] and "refused" not in cell]
    if unlike:
        return REFUTED, f"Another program than BP's on {listed(unlike)}."
    missing = [name for name, cell in found.items() if not cell]
    if missing:
        return NOT_TESTED, f"No certificates: {listed(missing)}."
    refused = [name for name, cell in found.items() if "refused" in cell]
    if refused:
        return NOT_TESTED, f"No program can be captured on {listed(refused)}."
    blind = [name for name, equal in controls if equal]
    if blind or not controls:
        return NOT_TESTED, f"No control fails{f', but is BP’s program too: {listed(blind)}' if blind else ''}."
    sizes = [cell["operations"] for cell in found.values()]
    return REPRODUCED, (
        f"The same operations on the same operands as BP's, {span(sizes, count)} of them, on {tasks} of {tasks} tasks and "
        f"{len(found) - tasks} of {len(found) - tasks} classifiers of torchvision. Of {told} controls {len(controls)} have a "
        "program, and each is another one. It rests on kernels that repeat themselves."
    )


def same_computations(metrics: Result) -> Judged:
    """With the constant (x = μ + ε, ε = x − μ: state form) BP's gradient to rounding; without (error form) its program."""
    proofs = {name: entry["proof"].get("zil") for name, entry in metrics["tasks"].items()}
    found, missing = distances(metrics, ("zil-state",))
    lacking = [name for name, cell in proofs.items() if cell is None or "refused" in cell]
    unlike = [name for name, cell in proofs.items() if name not in lacking and not cell["equal"]]
    far = [name for name, value in found.get("zil-state", {}).items() if not is_zero(value)]
    if unlike:
        return REFUTED, f"Without the constant, too, Z-IL is another program than BP on {listed(unlike)}."
    if far:
        return REFUTED, f"With the constant Z-IL is farther from BP than rounding is on {listed(far)}."
    if missing or lacking:
        return NOT_TESTED, missing or f"No certificates: {listed(lacking)}."
    sizes = [cell["operations"] for cell in proofs.values()]
    return REPRODUCED, (
        f"The constant is the forward pass's μ, in x = μ + ε and ε = x − μ. Without it (error form) Z-IL's program is BP's "
        f"on {plural(proofs, 'task')}, {span(sizes, count)} operations. With it (state form) rounding is left: relative L2 "
        f"{span(found['zil-state'].values(), scientific)} in float64."
    )


TESTS: dict[str, Test] = {
    "exact-mlp": partial(of_family, "mlp", "multilayer perceptron"),
    "exact-cnn": partial(of_family, "cnn", "convolutional network"),
    "exact-rnn": partial(of_family, "rnn", "recurrent network"),
    "exact-transformer": partial(of_family, "transformer", "transformer"),
    "exact-resnet": on_resnet,
    "exact-graph": on_all,
    "same-program": same_program,
    "same-computations": same_computations,
}
