"""The cost of an update; oracle: the documented contract, and a rule that can be nothing but as dear as itself.

No time is asserted: a test machine's clock proves nothing.
Aimed at: ratios of medians for medians of ratios, a round that left out a rule, timings that are not of an update.
"""

import json

import numpy as np
import pytest
import torch
from test_training import NUMBERS, RULES, TASK, synthetic
from torch.nn import functional as F

from pcbench.files import write_json
from pcbench.measure.cost import cost
from pcbench.tasks import Task

ROUNDS = 4
SETTINGS = {"warmup": 1, "rules": RULES}


@pytest.fixture(scope="module")
def result():
    return cost(TASK, NUMBERS, synthetic(), SETTINGS, ROUNDS)


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
    assert bp["ratio"] == {"median": 1.0, "q1": 1.0, "q3": 1.0}
    assert bp["peak_ratio"] == 1.0


def test_a_ratio_is_the_median_over_rounds_of_each_rounds_ratio(result):
    reference = result["results"][0]["metrics"]["seconds"]["samples"]
    for entry in result["results"]:
        samples = entry["metrics"]["seconds"]["samples"]
        expected = sorted(a / b for a, b in zip(samples, reference, strict=True))
        assert entry["metrics"]["ratio"]["median"] == pytest.approx((expected[1] + expected[2]) / 2)
        assert entry["metrics"]["seconds"]["median"] == pytest.approx(np.median(samples))


def test_every_rule_is_run_as_often_as_every_other():
    """Warm-up, timed rounds, and once for the memory; each an update of its own rule's own model."""
    calls, progress = [], []
    counting = Task("synthetic", "mlp", "synthetic", TASK.model, lambda *a: calls.append(1) or F.cross_entropy(*a))
    rules = {name: RULES[name] for name in ("bp", "zil")}
    settings = {"warmup": 2, "rules": rules}
    cost(counting, NUMBERS, synthetic(), settings, 3, advance=lambda: progress.append(1))
    assert len(calls) == len(rules) * (2 + 3 + 1)
    assert len(progress) == 2 + 3


def test_inference_needs_more_memory_the_more_values_it_keeps_but_not_the_more_steps_it_makes():
    """Peak memory is of what is alive at once: a meter that adds up all allocations would grow with the steps."""
    rules = {"bp": RULES["bp"]} | {
        f"il-{steps}": {"label": "IL", "rule": "il", "steps": steps, "gamma": 0.1} for steps in (5, 50)
    }
    found = cost(TASK, NUMBERS, synthetic(), {"warmup": 1, "rules": rules}, 1)["results"]
    few, many = (entry["metrics"]["peak_bytes"] for entry in found[1:])
    assert many == pytest.approx(few, rel=0.05)  # the profiler of torch 2.3 counts a scalar or two more


def test_the_result_says_what_it_is_and_is_json(result, tmp_path):
    head = {key: result[key] for key in ("schema", "stage", "task", "family", "threads")}
    assert head == {
        "schema": 1, "stage": "cost", "task": "synthetic", "family": "mlp", "threads": torch.get_num_threads()
    }  # fmt: skip
    write_json(tmp_path / "cost.json", result)
    assert json.loads((tmp_path / "cost.json").read_text()) == result
