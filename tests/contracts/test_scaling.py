"""How cost grows; oracle: what is known of the networks without a clock.

No time is asserted: a test machine's clock proves nothing.
Aimed at: a network that does not grow along its axis, a rule left out where it should be measured, an engine that does more
than its share of work in a larger network.
"""

import json

import pytest
import torch

from pcbench.files import write_json
from pcbench.measure.scaling import Unrolled, scaling, synthetic_update
from pcbench.measure.updates import counted

RULES = {
    "bp": {"label": "BP", "engine": "bp"},
    "zil": {"label": "Z-IL", "engine": "zil"},
    "zil-captured": {"label": "Z-IL, captured", "engine": "zil", "captured": True},
    "il": {"label": "IL", "engine": "il", "steps": 3, "gamma": 0.1},
}
AXES = {
    "depth": {"sizes": [2, 4, 8], "width": 3, "batch": 2, "largest": {"il": 4}},
    "length": {"sizes": [2, 4, 8], "width": 3, "batch": 2, "largest": {"il": 4}},
    "width": {"sizes": [2, 4, 8], "depth": 2, "batch": 2},
    "batch": {"sizes": [2, 4, 8], "depth": 2, "width": 3},
}
SETTINGS = {"warmup": 1, "rounds": 3, "rules": RULES, "axes": AXES}


@pytest.fixture(scope="module", params=AXES)
def result(request):
    return scaling(request.param, SETTINGS)


def test_every_rule_is_measured_at_every_size_up_to_its_largest(result):
    axis = AXES[result["task"]]
    for rule in RULES:
        found = [record for record in result["results"] if record["rule"] == rule]
        largest = axis.get("largest", {}).get(rule, 8)
        assert [record["size"] for record in found] == [size for size in axis["sizes"] if size <= largest]
        for record in found:
            assert len(record["metrics"]["seconds"]["samples"]) == SETTINGS["rounds"]
            assert record["metrics"]["ratio"]["median"] > 0


def test_backprop_is_the_reference_at_its_own_size(result):
    ratios = [record["metrics"]["ratio"] for record in result["results"] if record["rule"] == "bp"]
    assert ratios == [{"median": 1.0, "q1": 1.0, "q3": 1.0, "low": None, "high": None}] * 3  # of three rounds


def test_operations_grow_by_the_same_for_each_layer_and_each_step_and_not_at_all_with_width_and_batch(result):
    """From 2 to 4 and from 4 to 8: what is added doubles, if each layer costs the same whatever lies around it."""
    for rule in ("bp", "zil", "zil-captured"):
        few, more, most = (r["metrics"]["operations"] for r in result["results"] if r["rule"] == rule)
        assert most - more == 2 * (more - few)
        assert (more > few) == (result["task"] in ("depth", "length"))


def test_zil_takes_backprops_operations_at_every_size(result):
    counts = {
        rule: [(r["metrics"]["operations"], r["metrics"]["flops"]) for r in result["results"] if r["rule"] == rule]
        for rule in ("bp", "zil", "zil-captured")
    }
    assert counts["zil"] == counts["bp"] and [f for _, f in counts["zil-captured"]] == [f for _, f in counts["bp"]]
    assert all(
        captured <= eager for (captured, _), (eager, _) in zip(counts["zil-captured"], counts["bp"], strict=True)
    )


def test_a_signal_reaches_the_first_layer_of_a_deep_network_and_the_first_step_of_a_long_one():
    """Subnormal numbers, which a processor takes hundreds of cycles for, would be timed instead."""
    numbers = {"width": 16, "batch": 4}
    for more in ({"depth": 256}, {"length": 512}):
        update = synthetic_update({**numbers, **more}, RULES["bp"])
        _, gradients = update.rule.gradients(update.inputs, update.targets, update.loss_fn)
        assert all(gradient.abs().max() > 1e-20 for gradient in gradients.values())


def test_the_unrolled_cell_is_pytorchs_own_recurrent_network():
    network, theirs = Unrolled(3), torch.nn.RNN(3, 3, batch_first=True)
    theirs.load_state_dict({f"{name}_l0": value for name, value in network.cell.state_dict().items()})
    inputs = torch.randn(2, 5, 3)
    torch.testing.assert_close(network(inputs), theirs(inputs)[1][0])


def test_an_update_is_repeatable_and_learns():
    first, second = (synthetic_update({"depth": 2, "width": 3, "batch": 4}, RULES["zil"]) for _ in range(2))
    assert torch.equal(first.inputs, second.inputs)
    before = [p.detach().clone() for p in first.rule.model.parameters()]
    first()
    assert all(not torch.equal(a, b) for a, b in zip(before, first.rule.model.parameters(), strict=True))
    assert counted(second) == counted(first)


def test_the_result_is_json(result, tmp_path):
    head = {key: result[key] for key in ("schema", "stage", "family", "threads")}
    family = "rnn" if result["task"] == "length" else "mlp"
    assert head == {"schema": 1, "stage": "scaling", "family": family, "threads": torch.get_num_threads()}
    write_json(tmp_path / "scaling.json", result)
    assert json.loads((tmp_path / "scaling.json").read_text()) == result
