"""Claims on what published rules are of backpropagation, from the verdicts of the stage ``conformance``."""

from pcbench.params import Result
from pcbench.report import verdicts
from pcbench.report.conformance import told
from pcbench.report.ledger.words import (
    NOT_TESTED,
    REFUTED,
    REPRODUCED,
    Found,
    Judged,
    Test,
    label,
    needs,
    of_tasks,
    plural,
    which,
)
from pcbench.report.writing import scientific, span

EXACT = (verdicts.EQUAL, verdicts.ROUNDING)
_WITHOUT = ("strict", "il")  # what predicts from the values as they move
_BP = verdicts.MEASURES["relative_l2"]  # what `approaches` says where the distance itself falls


def arrives(cell: Result) -> bool:
    """Whether a rule has BP's gradient at some setting, or comes nearer and nearer to it."""
    return cell["verdict"] in EXACT or (cell["verdict"] == verdicts.APPROACHES and cell["of"] == _BP)


@needs("conformance", ("fixed-prediction",), "verdicts on rules")
def converges(metrics: Result, found: Found) -> Judged:
    """Under fixed predictions BP's gradient is reached or approached, on every task."""
    cells = found["fixed-prediction"]
    figures = _told(metrics, "fixed-prediction", cells)
    lost = [task for task, cell in cells.items() if not arrives(cell)]
    return (REFUTED, f"Not so on {which(lost, cells)}. {figures}") if lost else (REPRODUCED, figures)


@needs("conformance", ("one-step",), "verdicts on rules")
def one_step_scaled(metrics: Result, found: Found) -> Judged:
    """One step of error optimisation has BP's gradient, or a multiple of it, at some setting, on every task."""
    cells = found["one-step"]
    residuals = span([cell["tensor_residual"] for cell in cells.values()], scientific)
    scaled, tensors = (sum(cell[key] for cell in cells.values()) for key in ("scaled_tensors", "tensors"))
    figures = (
        f"{_told(metrics, 'one-step', cells)} With a scale for each tensor {residuals} of it is left; {scaled} of {tensors} "
        "tensors are BP's times a power of two, bit for bit."
    )
    other = [task for task, cell in cells.items() if cell["verdict"] not in EXACT and not _scaled(cell)]
    return (REFUTED, f"Not by one scale on {which(other, cells)}. {figures}") if other else (REPRODUCED, figures)


def _scaled(cell):
    return cell["verdict"] == verdicts.SCALED and cell["of"] == verdicts.MEASURES["residual"]


@needs("conformance", ("fixed-prediction",), "verdicts on rules")
def fixed_prediction_is_backprop(metrics: Result, found: Found) -> Judged:
    """Under fixed predictions with γ = 1: BP's program on every task; the same numbers alone are functional equality."""
    cells = found["fixed-prediction"]
    figures = _told(metrics, "fixed-prediction", cells)
    unlike = [
        task for task, cell in cells.items() if cell["verdict"] not in EXACT or cell["options"].get("gamma", 1) != 1
    ]
    if unlike:
        return REFUTED, f"Not BP's gradient with γ = 1 on {which(unlike, cells)}. {figures}"
    apart = [task for task, cell in cells.items() if cell["by"] != verdicts.PROGRAM]
    if apart:
        return REFUTED, f"Functionally so; but no certificate calls it BP's program on {which(apart, cells)}. {figures}"
    return REPRODUCED, figures


@needs("conformance", ("fixed-prediction", *_WITHOUT), "verdicts on rules")
def special_case(metrics: Result, found: Found) -> Judged:
    """Under fixed predictions BP's gradient is reached on every task, and without them, at no setting, on none."""
    figures = " ".join(_told(metrics, rule, cells) for rule, cells in found.items())
    lost = [task for task, cell in found["fixed-prediction"].items() if cell["verdict"] not in EXACT]
    if lost:
        return REFUTED, f"Not even under fixed predictions on {which(lost, found['fixed-prediction'])}. {figures}"
    there = {task for rule in _WITHOUT for task, cell in found[rule].items() if cell["verdict"] in EXACT}
    if there:
        return REFUTED, f"Without them too on {which(sorted(there), found['il'])}. {figures}"
    return REPRODUCED, figures


@needs("conformance", ("output-variance",), "verdicts on rules")
def finite_variance(metrics: Result, found: Found) -> Judged:
    """With a variance at the output BP's gradient is reached on no task, at no setting."""
    cells = found["output-variance"]
    figures = _told(metrics, "output-variance", cells)
    exact = [task for task, cell in cells.items() if cell["verdict"] in EXACT]
    return (REFUTED, f"It is on {which(exact, cells)}. {figures}") if exact else (REPRODUCED, figures)


def margin_and_asymptote(metrics: Result) -> Judged:
    """IL comes to BP within a margin on MLPs, and under fixed predictions all the way on the other families."""
    families = {name: entry["family"] for name, entry in metrics["tasks"].items()}
    layered = [name for name, family in families.items() if family == "mlp"]
    if not layered or len(layered) == len(families):
        return NOT_TESTED, "This profile has not both a multilayer perceptron and another network."
    found, missing = of_tasks(metrics, "conformance", ("il", "fixed-prediction"), "verdicts on rules")
    if missing:
        return NOT_TESTED, missing
    margin = {task: found["il"][task] for task in layered}
    rest = {task: cell for task, cell in found["fixed-prediction"].items() if task not in margin}
    figures = f"{_told(metrics, 'il', margin)} {_told(metrics, 'fixed-prediction', rest)}"
    exact = [task for task, cell in margin.items() if arrives(cell)]
    if exact:
        return REFUTED, f"No margin is left on {which(exact, margin)}. {figures}"
    lost = [task for task, cell in rest.items() if not arrives(cell)]
    if lost:
        return REFUTED, f"Not asymptotically on {which(lost, rest)}. {figures}"
    return REPRODUCED, figures


def _told(metrics, rule, cells):
    """Verdicts with the tasks that they are of, and how far the best settings are from BP."""
    by_verdict = {}
    for task, cell in cells.items():
        words = "neither equal to BP nor approaching it" if cell["verdict"] == verdicts.DOES_NOT else told(cell)
        by_verdict.setdefault(words, []).append(task)
    listed = "; ".join(f"{words} on {which(tasks, cells)}" for words, tasks in by_verdict.items())
    distances = span([cell["relative_l2"] for cell in cells.values()], scientific)
    head = f"{label(metrics, rule)}, at the best of its settings ({plural(cells, 'task')})"
    return f"{head}: {listed}; relative L2 distance {distances}."


TESTS: dict[str, Test] = {
    "fixed-prediction-converges": converges,
    "fixed-prediction-is-backprop": fixed_prediction_is_backprop,
    "special-case": special_case,
    "margin-and-asymptote": margin_and_asymptote,
    "finite-variance": finite_variance,
    "one-step-scaled": one_step_scaled,
}
