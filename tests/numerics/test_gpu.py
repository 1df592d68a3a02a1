"""What a GPU computes; oracle: autograd's own gradients there, bit by bit, and the same run once more.

Aimed at: a constant that stays on the CPU, a kernel that does not repeat itself, a dropout mask that another seed drew, a run
on the GPU that starts from other weights. Without a GPU all of it is skipped: nothing stands in for one.
"""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from problems import assert_same_bits, bits, gradients_of

from pcbench import ZIL, Backprop, Captured, Dynamics, devices, params, provenance, stages
from pcbench.cells import Experiment
from pcbench.errors import UnsupportedModule
from pcbench.files import read_json
from pcbench.measure.matched import Matched
from pcbench.randomness import global_stream

ROOT = Path(__file__).resolve().parents[2]
DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here")


@pytest.fixture(autouse=True)
def _reproducible(as_before):
    """As a stage computes."""
    stages.reproducible()


def outcome(problem, dtype, make_rule):
    """Loss, gradients, buffers and the state of the GPU's generator after one update there."""
    device = devices.named(DEVICE)
    model, inputs, targets = devices.moved(problem.build(dtype), device)
    rule = make_rule(model)
    with global_stream(0, "dropout"):
        try:
            loss = rule.backward(inputs, targets, problem.loss)
        except RuntimeError as error:
            if "deterministic" not in str(error):
                raise
            pytest.skip(f"PyTorch's own kernels do not repeat themselves: {error}")
        state = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    return {"loss": loss, "generator": state, **gradients_of(model), **dict(model.named_buffers())}


def test_zil_has_the_bits_of_backprop_which_repeats_itself(problem, dtype):
    expected = outcome(problem, dtype, Backprop)
    assert_same_bits(outcome(problem, dtype, Backprop), expected)
    assert_same_bits(outcome(problem, dtype, ZIL), expected)


def test_a_captured_update_has_the_bits_of_backprop(problem):
    try:
        actual = outcome(problem, torch.float32, lambda model: Captured(ZIL(model)))
    except UnsupportedModule as error:
        pytest.skip(f"no program: {error}")
    assert_same_bits(actual, outcome(problem, torch.float32, Backprop))


def test_the_state_form_is_exact_up_to_rounding(chain):
    expected, actual = (outcome(chain, torch.float64, rule) for rule in (Backprop, Dynamics))
    for name, value in expected.items():
        if value is not None and value.is_floating_point():
            torch.testing.assert_close(actual[name], value, rtol=1e-9, atol=1e-11)
    assert torch.equal(bits(actual["loss"]), bits(expected["loss"]))


def experiment(folder, digits, task):
    """The smoke profile, smaller still."""
    whole = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    whole["profiles"]["smoke"] |= {"seeds": [0], "rounds": 6}
    whole["profiles"]["smoke"]["tasks"][task] = 2
    whole["exactness"] |= {"seeds": [0]}
    whole["conformance"] |= {"rules": ["zil", "fixed-prediction"], "grids": {}}
    whole["conditions"] |= {"gammas": [0.5, 1], "sigmas": [0, 0.01]}
    whole["scaling"] |= {"rounds": 6, "rules": ["bp", "zil"]}
    whole["scaling"]["axes"]["depth"] |= {"sizes": [4], "largest": {}}
    return Experiment(task, "smoke", params.on(whole, DEVICE), digits, folder / "results", folder / "kept")


TASKS = ["digits-mlp", "digits-cnn", "digits-rnn", "digits-transformer"]


@pytest.mark.parametrize("task", TASKS)
def test_a_task_begins_there_with_the_weights_and_the_batch_of_the_cpu(digits, tmp_path, task):
    whole = experiment(tmp_path, digits, task).parameters
    there, here = (Matched.load(params.on(whole, device), task, digits) for device in (DEVICE, "cpu"))
    assert provenance.weights_digest(there.model(0)) == provenance.weights_digest(here.model(0))
    for a, b in zip(there.first_batch(0), here.first_batch(0), strict=True):
        assert a.device == devices.named(DEVICE) and torch.equal(a.cpu(), b)


def twice(stage, task, digits, tmp_path):
    """The result of two runs from nothing, as text, and one of them as a value; the provenance names the GPU."""
    texts = []
    for place in ("first", "second"):
        path = stages.named(stage)(experiment(tmp_path / place, digits, task))
        record = read_json(provenance.sidecar(path))
        assert record["parameters"]["device"] == DEVICE and record["gpu"] == devices.gpu(DEVICE)
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        texts.append([file.read_text() for file in files])
    return texts, [record for text in texts[0] for record in json.loads(text)["results"]]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("stage", ["exactness", "train"])
def test_a_stage_gives_the_same_bits_twice_and_zil_backprops(digits, tmp_path, stage, task):
    (first, second), records = twice(stage, task, digits, tmp_path)
    assert first == second
    for record in records:
        if record["rule"] == "zil":
            if stage == "exactness":
                assert record["metrics"]["bitwise_equal"]
            else:
                assert set(record["metrics"]["divergence"]["l2"]) == {0}


@pytest.mark.parametrize("stage", ["proof", "conformance"])
def test_zils_program_is_backprops_there_too(digits, tmp_path, stage):
    (first, second), records = twice(stage, "digits-cnn", digits, tmp_path)
    assert first == second
    proofs = [r["metrics"] if stage == "proof" else r["metrics"].get("proof") for r in records if r["rule"] == "zil"]
    assert [proof["equal"] for proof in proofs if proof] == [True]


def test_training_that_was_interrupted_goes_on_to_the_same_bits(digits, tmp_path):
    whole = experiment(tmp_path / "whole", digits, "digits-cnn")
    expected = (stages.train(whole) / "seed-0.json").read_text()
    cut = experiment(tmp_path / "cut", digits, "digits-cnn")
    short = copy.deepcopy(cut.parameters)
    short["profiles"]["smoke"]["tasks"]["digits-cnn"] = 1
    stages.train(replace(cut, parameters=short))
    assert (stages.train(cut) / "seed-0.json").read_text() == expected


@pytest.mark.parametrize(("stage", "name"), [("cost", "digits-mlp"), ("scaling", "depth")])
def test_every_update_has_its_time_and_its_operations(digits, tmp_path, stage, name):
    made = replace(experiment(tmp_path, digits, "digits-mlp"), task=name)
    records = read_json(stages.named(stage)(made))["results"]
    counts = {record["rule"]: record["metrics"]["operations"] for record in records}
    assert counts["zil"] == counts["bp"]
    for record in records:
        assert len(record["metrics"]["seconds"]["samples"]) == 6 and min(record["metrics"]["seconds"]["samples"]) > 0
        assert stage == "scaling" or record["metrics"]["peak_bytes"] > 0


def test_a_classifier_of_torchvision_is_bit_identical(digits, tmp_path):
    made = replace(experiment(tmp_path, digits, "digits-mlp"), task="resnet18")
    (record,) = read_json(stages.zoo(made))["results"]
    assert record["metrics"]["bitwise_equal"] and record["metrics"]["bp_repeats_itself"]


def test_conditions_broken_are_broken_there_too(digits, tmp_path):
    """Noise is drawn on the CPU, whatever the device."""
    (first, second), (record,) = twice("conditions", "digits-mlp", digits, tmp_path)
    assert first == second
    for point in record["metrics"]["grid"]:
        kept = (point["gamma"], point["sigma"], point["layer_dependent"]) == (1, 0, True)
        assert (point["relative_l2"] < 1e-10) == kept
