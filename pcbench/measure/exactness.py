"""Table 1: how far one weight update of each rule is from backpropagation's."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

from pcbench.files import finite_or_none
from pcbench.graph import Graph
from pcbench.measure.divergence import compare
from pcbench.measure.fingerprint import trace
from pcbench.measure.first import FirstUpdate
from pcbench.measure.matched import Matched, make_rule
from pcbench.params import Result, Settings
from pcbench.rules import Backprop
from pcbench.tasks import Task


def batches(settings: Settings) -> list[tuple[str, int]]:
    """What is compared: every dtype with every seed, as pairs."""
    return [(dtype, seed) for dtype in settings["dtypes"] for seed in settings["seeds"]]


def size(settings: Settings) -> int:
    """How often `compare_rules` calls ``advance`` for all `batches` together."""
    return len(batches(settings)) * len(settings["rules"])


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
