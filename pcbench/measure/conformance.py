"""Table 6: what every published rule's weight update is of backpropagation's, at each of its settings."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, partial
from typing import Any

from pcbench.files import finite_or_none
from pcbench.graph import Graph
from pcbench.grids import combinations
from pcbench.measure.divergence import compare
from pcbench.measure.first import FirstUpdate
from pcbench.measure.matched import Matched, make_rule
from pcbench.measure.proof import as_metrics, canonical_update, certify
from pcbench.measure.scale import Gradients, fit
from pcbench.params import Result, Settings
from pcbench.rules import Backprop
from pcbench.tasks import Task

# Distances are measured where rounding is least; what is equal there has to be so in the other dtype too.
DISTANCES, EQUALITY = "float64", "float32"


def of_rule(matched: Matched, settings: Settings, rule: str) -> Result:
    """Compare one rule's first weight update with backpropagation's, at each of its settings.

    In float64; in float32 too where it is equal there, or equal up to powers of two. Of the first setting whose bits are
    backpropagation's in both, the program is compared as well.

    Args:
        matched: `pcbench.measure.matched.Matched`.
        settings: the section ``conformance`` of params.yaml.
        rule: the rule's identifier, one of ``settings["rules"]``.

    Returns:
        ``{"levels", "results"}``: how many levels the network has, and a record for each combination of the rule's options,
        dtype and seed, in which a metric that is not a finite number is None.

    Raises:
        InvalidParameters: no model, or no rule, can be made of their entries.
        NonFiniteLoss: the loss is NaN or infinite.
    """
    entry, grid = settings["rules"][rule], settings["grids"].get(rule, {})
    records: list[Result] = []
    depth = levels(matched)
    for seed in settings["seeds"]:
        measured = _comparing(matched, seed)
        for options in combinations(grid, depth):
            made, proven = {**entry, **options}, any("proof" in record["metrics"] for record in records)
            found = {DISTANCES: measured(made, DISTANCES)}
            if claims(found[DISTANCES]):
                found[EQUALITY] = measured(made, EQUALITY)
            if not proven and len(found) == 2 and all(metrics["bitwise_equal"] for metrics in found.values()):
                found[EQUALITY]["proof"] = as_metrics(partial(_certificate, matched, seed, made))
            for dtype, metrics in found.items():
                head = {"rule": rule, "label": entry["label"], "options": options, "dtype": dtype, "seed": seed}
                records.append({**head, "metrics": metrics})
    return {"levels": depth, "results": records}


def conformance(task: Task, measured: Sequence[Result]) -> Result:
    """Put what `of_rule` found for each of the rules, in their order, into the result, a JSON value."""
    return {
        "schema": 1,
        "stage": "conformance",
        "task": task.name,
        "family": task.family,
        "levels": measured[0]["levels"],
        "results": [record for part in measured for record in part["results"]],
    }


def levels(matched: Matched) -> int:
    """How many levels the task's network has: one more than its largest."""
    inputs, _ = matched.first_batch(seed=0)
    return Graph.from_module(matched.model(seed=0), inputs).depth + 1


def _comparing(matched, seed):
    """A function that measures a rule's entry in a dtype; backpropagation's gradient is computed once."""

    @cache
    def reference(dtype):
        first = FirstUpdate.of(matched, dtype, seed)
        return first, first.gradients(Backprop)

    def measured(entry, dtype):
        first, expected = reference(dtype)
        return figures(first.gradients(partial(make_rule, entry, seed=seed)), expected)

    return measured


def figures(actual: Gradients, expected: Gradients) -> dict[str, Any]:
    """What a gradient is of backpropagation's: the distance, and what is left of it after a scale.

    Args:
        actual, expected: the gradients by name, None where a parameter has none; backpropagation's second.

    Returns:
        The fields of `Divergence`, None in place of what is not a finite number, and those of `Scale`.

    Raises:
        ValueError: see `pcbench.measure.divergence.compare`.
    """
    distance = {key: finite_or_none(value) for key, value in asdict(compare(actual, expected)).items()}
    return distance | asdict(fit(actual, expected))


def claims(metrics: dict[str, Any]) -> bool:
    """Whether a gradient is backpropagation's, but perhaps for the signs of zeros, or each tensor's times a power of two."""
    return metrics["l2"] == 0 or metrics["scaled_tensors"] == len(metrics["scales"])


def _certificate(matched, seed, entry):
    first = FirstUpdate.of(matched, EQUALITY, seed)
    rules = partial(make_rule, entry, seed=seed), Backprop
    own, expected = (
        canonical_update(first.model, make, first.inputs, first.targets, first.loss, lines=False) for make in rules
    )
    return certify(own, expected)
