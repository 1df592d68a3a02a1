"""Claims on Z-IL's three requirements over a whole grid, and on the free energy, from the stage ``conditions``."""

from pcbench.params import Result
from pcbench.report.ledger.words import (
    NOT_TESTED,
    REFUTED,
    REPRODUCED,
    Found,
    Judged,
    Test,
    finite,
    is_zero,
    listed,
    needs,
    plural,
    which,
)
from pcbench.report.writing import scientific, span

RULE = "zil-state"
REQUIREMENTS = {
    "zero_initial_error": "zero initial error",
    "unit_step": "γ = 1",
    "layer_dependent": "the layer-dependent update",
}


@needs("conditions", (RULE,), "grid of conditions")
def sufficient(metrics: Result, found: Found) -> Judged:
    """With all three requirements the update is BP's to rounding, on every task."""
    cells = found[RULE]
    distances = span([cell["relative_l2"] for cell in cells.values()], scientific)
    figures = (
        f"Relative L2 distance from BP's gradient with all three (state form, {plural(cells, 'task')}): {distances}."
    )
    far = [task for task, cell in cells.items() if not cell["sufficient"]]
    return (REFUTED, f"Not so on {which(far, cells)}. {figures}") if far else (REPRODUCED, figures)


@needs("conditions", (RULE,), "grid of conditions")
def ablation(metrics: Result, found: Found) -> Judged:
    """With all three the update is BP's; without one, the others kept, it is so at no point of the grid, on any task."""
    cells = found[RULE]
    apart = "; ".join(
        f"without {words} {span([cell[name]['least'] for cell in cells.values()], scientific)}"
        for name, words in REQUIREMENTS.items()
    )
    points = sum(cell[name]["points"] for cell in cells.values() for name in REQUIREMENTS)
    figures = (
        f"Least relative L2 distance from BP's gradient, over {points} points on {plural(cells, 'task')}: {apart}."
    )
    far = [task for task, cell in cells.items() if not cell["sufficient"]]
    if far:
        return REFUTED, f"There is no equivalence to lose on {which(far, cells)}. {figures}"
    reached = [
        f"without {words} on {task}"
        for name, words in REQUIREMENTS.items()
        for task, cell in cells.items()
        if not cell[name]["necessary"]
    ]
    if reached:
        return REFUTED, f"Zero to rounding is reached {listed(reached)}. {figures}"
    return REPRODUCED, figures


@needs("conditions", (RULE,), "free energy")
def no_free_energy_gradient(metrics: Result, found: Found) -> Judged:
    """Z-IL's update is −∂F/∂θ neither where F is least over the values nor at any one time of its inference."""
    energies = {
        f"{task}, loss as a {reduction}": energy
        for task, cell in found[RULE].items()
        for reduction, energy in cell["free_energy"].items()
    }
    settled, passed = (
        {place: energy[where]["relative_l2"] for place, energy in energies.items()}
        for where in ("settled", "at_one_time")
    )
    losses = dict.fromkeys(reduction for cell in found[RULE].values() for reduction in cell["free_energy"])
    risen = sum(finite(energy["end"]) > finite(energy["start"]) for energy in energies.values())
    figures = (
        f"Relative L2 distance of −∂F/∂θ from Z-IL's update: {span(settled.values(), scientific)} where F is least over the "
        f"values, {span(passed.values(), scientific)} at the nearest time of Z-IL's own inference, along which F rises in "
        f"{risen} of {len(energies)} cases ({plural(found[RULE], 'task')}; loss: {' or '.join(losses)})."
    )
    followed = [place for of_one in (settled, passed) for place, distance in of_one.items() if is_zero(distance)]
    if followed:
        return REFUTED, f"It does on {listed(followed)}. {figures}"
    # What the descent left of the slope is how far "least" may be off.
    unsettled = [
        place for place, distance in settled.items() if finite(distance) <= energies[place]["settled"]["residual"]
    ]
    if unsettled:
        return NOT_TESTED, f"The descent of F ended too early to tell on {listed(unsettled)}. {figures}"
    return REPRODUCED, figures


TESTS: dict[str, Test] = {
    "sufficient": sufficient,
    "ablation": ablation,
    "free-energy": no_free_energy_gradient,
}
