"""Tables 8 and 9: which of Z-IL's conditions backpropagation's gradient needs, and what Z-IL has to do with a free energy's.

The conditions (zero initial error, σ = 0; integration step γ = 1; layer-dependent update) are broken one by one and together,
and not at one point but on a grid: every γ × every σ × layer-dependent or not.
"""

from collections.abc import Callable, Sequence
from functools import partial

from pcbench.files import finite_or_none
from pcbench.measure.divergence import compare
from pcbench.measure.first import FirstUpdate
from pcbench.measure.free_energy import free_energy
from pcbench.measure.matched import Matched, make_rule
from pcbench.params import Result, Settings
from pcbench.rules import Backprop
from pcbench.tasks import Task

Part = tuple[str, float | str]


def parts(settings: Settings) -> list[Part]:
    """What is measured by itself: each ``("free energy", reduction)``, then each row of the grid, ``("sigma", σ)``."""
    reductions: list[Part] = [("free energy", reduction) for reduction in settings["free_energy"]["reductions"]]
    return [*reductions, *(("sigma", sigma) for sigma in settings["sigmas"])]


def size(settings: Settings) -> int:
    """How often `measure` calls ``advance`` for all `parts` together."""
    row = 2 * len(settings["gammas"])
    return len(settings["rules"]) * sum(row if what == "sigma" else 1 for what, _ in parts(settings))


def measure(
    matched: Matched, settings: Settings, what: str, value: float | str, advance: Callable[[], None] = lambda: None
) -> Result:
    """Measure one of the `parts`, for every rule, on the first weight update of the task's training.

    Args:
        matched: `pcbench.measure.matched.Matched`.
        settings: the section ``conditions`` of params.yaml. Its rules have the options ``gamma``, ``sigma`` and
            ``layer_dependent``, and are Z-IL without any.
        what, value: the part.
        advance: called after every comparison.

    Returns:
        ``{rule: found}``: of a row of the grid its points, dicts of ``gamma``, ``sigma``, ``layer_dependent`` and
        ``relative_l2``, the distance from backpropagation's gradient, None where that is not a finite number; of the free
        energy, see `pcbench.measure.free_energy.free_energy`.

    Raises:
        InvalidParameters: no model, or no rule, can be made of their entries.
        NonFiniteLoss: the loss is NaN or infinite.
    """
    first = FirstUpdate.of(matched, settings["dtype"], settings["seed"])
    if what == "sigma":
        return {rule: _row(first, entry, settings, value, advance) for rule, entry in settings["rules"].items()}
    found = {}
    for rule, entry in settings["rules"].items():
        zil = partial(make_rule, entry, seed=settings["seed"])
        found[rule] = free_energy(first, zil, settings["free_energy"], str(value))
        advance()
    return found


def _row(first, entry, settings, sigma, advance):
    reference = first.gradients(Backprop)
    points = []
    for layer_dependent in (True, False):
        for gamma in settings["gammas"]:
            at = {"gamma": gamma, "sigma": sigma, "layer_dependent": layer_dependent}
            # The noise is the same at every point: only σ, which scales it, is another.
            found = first.gradients(partial(make_rule, {**entry, **at}, seed=settings["seed"]))
            points.append({**at, "relative_l2": finite_or_none(compare(found, reference).relative_l2)})
            advance()
    return points


def conditions(task: Task, settings: Settings, measured: Sequence[Result]) -> Result:
    """Put what `measure` found for each of the `parts`, in their order, into the result, a JSON value."""
    found = list(zip(parts(settings), measured, strict=True))
    results = [
        {
            "rule": rule,
            "label": entry["label"],
            "dtype": settings["dtype"],
            "seed": settings["seed"],
            "metrics": {
                "grid": [point for (what, _), of in found if what == "sigma" for point in of[rule]],
                "free_energy": {reduction: of[rule] for (what, reduction), of in found if what == "free energy"},
            },
        }
        for rule, entry in settings["rules"].items()
    ]
    head = {"schema": 1, "stage": "conditions", "task": task.name, "family": task.family}
    return {**head, "rounding": settings["rounding"], "results": results}
