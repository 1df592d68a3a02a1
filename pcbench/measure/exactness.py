"""Table 1: how far one weight update of each rule is from backpropagation's."""

from dataclasses import asdict

import torch

from pcbench.graph import Graph
from pcbench.measure._setup import finite_or_none, first_batch, initial_model, make_rule
from pcbench.measure.divergence import compare, weight_update
from pcbench.provenance import global_stream
from pcbench.rules import Backprop


def exactness(task, numbers, data, settings, advance=lambda: None):
    """Compare every rule's first weight update with backpropagation's, for every seed and dtype.

    Args:
        task: `pcbench.tasks.Task`.
        numbers: the task's numbers from params.yaml.
        data: `pcbench.data.Dataset`.
        settings: the section ``exactness`` of params.yaml.
        advance: called after every comparison.

    Returns:
        The result as a JSON value; a metric that is not a finite number is None.
    """
    results = []
    identities = None
    for dtype in settings["dtypes"]:
        for seed in settings["seeds"]:
            inputs, targets = first_batch(data.train, numbers["batch_size"], seed)
            model = initial_model(task, numbers, data, seed).to(getattr(torch, dtype))
            inputs = inputs.to(getattr(torch, dtype)) if inputs.is_floating_point() else inputs

            def update(rule, model=model, inputs=inputs, targets=targets, seed=seed):
                with global_stream(seed, "dropout", 0):
                    return weight_update(model, rule, inputs, targets, task.loss).gradients

            identities = _identities(model, inputs)
            reference = update(Backprop)
            for name, entry in settings["rules"].items():
                actual = update(lambda copied, entry=entry, seed=seed: make_rule(entry, copied, seed))
                metrics = {key: finite_or_none(value) for key, value in asdict(compare(actual, reference)).items()}
                record = {"rule": name, "label": entry["label"], "dtype": dtype, "seed": seed, "metrics": metrics}
                results.append(record)
                advance()
    return {
        "schema": 1,
        "stage": "exactness",
        "task": task.name,
        "family": task.family,
        "identities": identities,
        "results": results,
    }


def _identities(model, inputs):
    """How many identity vertices levelling adds; with none, there is nothing that levelling could change."""
    graph = Graph.from_module(model, inputs)
    return len(graph.levelled().vertices) - len(graph.vertices)


def comparisons(settings):
    """How many comparisons `exactness` makes."""
    return len(settings["dtypes"]) * len(settings["seeds"]) * len(settings["rules"])
