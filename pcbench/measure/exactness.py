"""Table 1: how far one weight update of each rule is from backpropagation's."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from pcbench.files import finite_or_none
from pcbench.graph import Graph
from pcbench.measure.divergence import compare, weight_update
from pcbench.measure.fingerprint import trace
from pcbench.measure.matched import Matched, make_rule
from pcbench.params import Result, Settings
from pcbench.randomness import global_stream
from pcbench.rules import Backprop, Loss, Rule
from pcbench.tasks import Task


@dataclass(frozen=True)
class FirstUpdate:
    """The first weight update of a task's training, which is the same one for every rule.

    Attributes:
        model: with the initial weights of ``seed``, in one dtype; no update changes it.
        inputs, targets: the first batch.
        loss: maps ``(outputs, targets)`` to the mean loss over the batch.
        seed: what dropout masks are drawn from.
    """

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    loss: Loss
    seed: int

    @classmethod
    def of(cls, matched: Matched, dtype: str, seed: int) -> Self:
        """Return it for one dtype, ``"float32"`` or ``"float64"``, and one seed of the initial weights and the batch.

        Raises:
            InvalidParameters: no model can be made of the task's settings.
        """
        inputs, targets = matched.first_batch(seed)
        model = matched.model(seed).to(getattr(torch, dtype))
        inputs = inputs.to(getattr(torch, dtype)) if inputs.is_floating_point() else inputs
        return cls(model, inputs, targets, matched.task.loss, seed)

    def gradients(self, rule: Callable[[nn.Module], Rule], loss: Loss | None = None) -> dict[str, Tensor | None]:
        """Return each parameter's gradient, or None, under ``rule(model)``; on another ``loss`` if one is given.

        Raises:
            NonFiniteLoss: the loss is NaN or infinite.
        """
        with global_stream(self.seed, "dropout", 0):
            return weight_update(self.model, rule, self.inputs, self.targets, loss or self.loss).gradients


def batches(settings: Settings) -> list[tuple[str, int]]:
    """What is compared: every dtype with every seed, as pairs."""
    return [(dtype, seed) for dtype in settings["dtypes"] for seed in settings["seeds"]]


def compare_rules(
    matched: Matched, settings: Settings, dtype: str, seed: int, advance: Callable[[], None] = lambda: None
) -> Result:
    """Compare every rule's first weight update with backpropagation's, for one dtype and seed.

    Args:
        matched: `pcbench.measure.matched.Matched`.
        settings: the section ``exactness`` of params.yaml.
        dtype: ``"float32"`` or ``"float64"``.
        seed: initial weights, the batch, dropout masks and noise are streams of it.
        advance: called after every comparison.

    Returns:
        ``{"identities", "results"}``: how many identity vertices levelling adds, and a record for each rule, in which a
        metric that is not a finite number is None.

    Raises:
        InvalidParameters: no model, or no rule, can be made of their entries.
        NonFiniteLoss: the loss is NaN or infinite.
    """
    first = FirstUpdate.of(matched, dtype, seed)
    reference = first.gradients(Backprop)
    results = []
    for name, entry in settings["rules"].items():
        actual = first.gradients(partial(make_rule, entry, seed=seed))
        metrics = {key: finite_or_none(value) for key, value in asdict(compare(actual, reference)).items()}
        record = {"rule": name, "label": entry["label"], "dtype": dtype, "seed": seed, "metrics": metrics}
        results.append({**record, "fingerprints": trace(actual)})
        advance()
    return {"identities": _identities(first.model, first.inputs), "results": results}


def exactness(task: Task, compared: Sequence[Result]) -> Result:
    """Put what `compare_rules` found for each of the `batches`, in their order, into the result, a JSON value."""
    return {
        "schema": 1,
        "stage": "exactness",
        "task": task.name,
        "family": task.family,
        "identities": compared[0]["identities"],
        "results": [record for part in compared for record in part["results"]],
    }


def _identities(model, inputs):
    """How many identity vertices levelling adds; with none, there is nothing that levelling could change."""
    graph = Graph.from_module(model, inputs)
    return len(graph.levelled().vertices) - len(graph.vertices)
