"""The cost of an update; oracle: the documented contract, and a rule that can be nothing but as dear as itself.

No time is asserted: a test machine's clock proves nothing.
Aimed at: ratios of medians for medians of ratios, a round that left out a rule, timings that are not of an update.
"""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from test_training import RULES as EAGER
from test_training import TASK, TASK_SETTINGS, model, synthetic
from torch import nn
from torch.nn import functional as F

from pcbench.files import write_json
from pcbench.measure.cost import cost
from pcbench.measure.matched import Matched
from pcbench.measure.updates import median_interval
from pcbench.tasks import Task

ROUNDS = 8
CAPTURED = {f"{name}-captured": {**entry, "captured": True} for name, entry in EAGER.items()}
RULES = {**EAGER, **CAPTURED}
SETTINGS = {"warmup": 1, "rules": RULES}


def without_dropout(data, hidden):
    return nn.Sequential(*(layer for layer in model(data, hidden) if not isinstance(layer, nn.Dropout)))


@pytest.fixture(scope="module")
def result():
    task = Task("synthetic", "mlp", without_dropout)
    return cost(Matched(task, TASK_SETTINGS, synthetic()), SETTINGS, ROUNDS)


def of(result):
    return {entry["rule"]: entry["metrics"] for entry in result["results"]}


def test_every_rule_has_its_seconds_ratio_and_memory(result):
    assert [entry["rule"] for entry in result["results"]] == list(RULES)
    for entry in result["results"]:
        metrics = entry["metrics"]
        assert entry["label"] == RULES[entry["rule"]]["label"]
        assert len(metrics["seconds"]["samples"]) == ROUNDS
        assert all(sample > 0 for sample in metrics["seconds"]["samples"])
        for quantity in ("seconds", "ratio"):
            assert 0 < metrics[quantity]["q1"] <= metrics[quantity]["median"] <= metrics[quantity]["q3"]
        assert metrics["peak_bytes"] > 0


def test_backprops_ratio_to_itself_is_exactly_one(result):
    bp = result["results"][0]["metrics"]
    assert bp["ratio"] == dict.fromkeys(("median", "q1", "q3", "low", "high"), 1.0)
    assert bp["peak_ratio"] == 1.0


def test_a_ratio_is_the_median_over_rounds_of_each_rounds_ratio(result):
    reference = result["results"][0]["metrics"]["seconds"]["samples"]
    for entry in result["results"]:
        samples = entry["metrics"]["seconds"]["samples"]
        expected = sorted(a / b for a, b in zip(samples, reference, strict=True))
        assert entry["metrics"]["ratio"]["median"] == pytest.approx((expected[3] + expected[4]) / 2)
        assert (entry["metrics"]["ratio"]["low"], entry["metrics"]["ratio"]["high"]) == (expected[0], expected[-1])
        assert entry["metrics"]["seconds"]["median"] == pytest.approx(np.median(samples))


def test_a_captured_rule_is_held_beside_captured_backprop_round_by_round(result):
    reference = of(result)["bp-captured"]["seconds"]["samples"]
    assert of(result)["bp-captured"]["captured_ratio"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    for name in CAPTURED:
        metrics = of(result)[name]
        ratios = np.divide(metrics["seconds"]["samples"], reference)
        found = metrics["captured_ratio"]
        assert found["median"] == pytest.approx(np.median(ratios))
        assert ratios.min() <= found["low"] <= found["median"] <= found["high"] <= ratios.max()
        assert metrics["capture_seconds"] > 0
    assert all("captured_ratio" not in of(result)[name] and "capture_seconds" not in of(result)[name] for name in EAGER)


def test_a_medians_interval_is_that_of_the_order_statistics():
    """Of eight values the least and the largest: 1 - 2 / 2^8 > 95 %, and the next ones in enclose it less often."""
    assert median_interval([5, 3, 1, 2, 8, 7, 6, 4]) == {"median": 4.5, "low": 1.0, "high": 8.0}
    assert median_interval([1, 2, 3, 4, 5]) == {"median": 3.0, "low": None, "high": None}  # 1 - 2 / 2^5 < 95 %


def test_zil_is_backprop_operation_for_operation_captured_or_not(result):
    """Counted below autograd, with no clock: what is done twice would show. A program drops what nothing reads."""
    counts = {name: (metrics["operations"], metrics["flops"]) for name, metrics in of(result).items()}
    assert counts["zil"] == counts["bp"] and counts["zil-captured"] == counts["bp-captured"]
    assert counts["il"][0] > 3 * counts["bp"][0]
    assert all(counts[f"{name}-captured"][i] <= counts[name][i] for name in EAGER for i in (0, 1))
    assert counts["bp-captured"][1] == counts["bp"][1]


def test_floating_point_operations_are_those_of_the_products_worked_out_by_hand(result):
    """Two products a layer and the gradients of weights and values, but not of the data: 2 · batch · in · out each."""
    batch, sizes = 8, (5, 6, 3)
    layers = [2 * batch * a * b for a, b in pairwise(sizes)]
    assert of(result)["bp"]["flops"] == 2 * layers[0] + 3 * layers[1]


def test_a_rule_that_cannot_be_captured_says_why_and_stops_no_other():
    """IL repeats a dropout mask at every step."""
    found = cost(Matched(TASK, TASK_SETTINGS, synthetic()), SETTINGS, 2)
    assert [entry["rule"] for entry in found["results"]] == list(RULES)
    refused = [entry for entry in found["results"] if "refused" in entry]
    assert [entry["rule"] for entry in refused] == ["il-captured"] and refused[0]["metrics"] is None
    assert "dropout" in refused[0]["refused"]
    assert all(entry["metrics"]["operations"] > 0 for entry in found["results"] if "refused" not in entry)


def test_every_rule_is_run_as_often_as_every_other():
    """Warm-up, timed rounds, once for the memory and once for the operations; each of its own rule's own model."""
    calls, progress = [], []
    counting = Task("synthetic", "mlp", TASK.network, lambda *a: calls.append(1) or F.cross_entropy(*a))
    rules = {name: EAGER[name] for name in ("bp", "zil")}
    settings = {"warmup": 2, "rules": rules}
    cost(Matched(counting, TASK_SETTINGS, synthetic()), settings, 3, advance=lambda: progress.append(1))
    assert len(calls) == len(rules) * (2 + 3 + 1 + 1)
    assert len(progress) == 2 + 3


def test_inference_needs_more_memory_the_more_values_it_keeps_but_not_the_more_steps_it_makes():
    """Peak memory is of what is alive at once: a meter that adds up all allocations would grow with the steps."""
    rules = {"bp": RULES["bp"]} | {
        f"il-{steps}": {"label": "IL", "engine": "il", "steps": steps, "gamma": 0.1} for steps in (5, 50)
    }
    found = cost(Matched(TASK, TASK_SETTINGS, synthetic()), {"warmup": 1, "rules": rules}, 1)["results"]
    few, many = (entry["metrics"]["peak_bytes"] for entry in found[1:])
    assert many == pytest.approx(few, rel=0.05)  # the profiler of torch 2.3 counts a scalar or two more


def test_the_result_says_what_it_is_and_is_json(result, tmp_path):
    head = {key: result[key] for key in ("schema", "stage", "task", "family", "threads")}
    assert head == {
        "schema": 1, "stage": "cost", "task": "synthetic", "family": "mlp", "threads": torch.get_num_threads()
    }  # fmt: skip
    write_json(tmp_path / "cost.json", result)
    assert json.loads((tmp_path / "cost.json").read_text()) == result
