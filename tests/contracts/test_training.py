"""Training and the random streams; oracle: an uninterrupted run, and a loop written out by hand.

Aimed at: a resumed run that sees other batches or masks, an optimizer that forgets its moments, streams that shift each
other, a divergence that is measured before the update.
"""

import copy
import hashlib
import json

import pytest
import torch
from problems import assert_same_bits
from torch import nn
from torch.nn import functional as F

from pcbench import provenance, randomness
from pcbench.data import Dataset, Split
from pcbench.errors import NonFiniteLoss, PCBenchError, ResultError
from pcbench.files import write_json
from pcbench.measure import training as measured
from pcbench.measure.matched import Matched
from pcbench.measure.training import accuracy, train
from pcbench.rules import ZIL, Backprop, Captured
from pcbench.tasks import Task


def synthetic():
    """Three noisy clusters; 22 examples, so that the last batch is smaller."""
    generator = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(3, 5, generator=generator)

    def split(size):
        targets = torch.arange(size) % 3
        return Split(centres[targets] + 0.3 * torch.randn(size, 5, generator=generator), targets)

    return Dataset("synthetic", split(22), split(12), ("left", "middle", "right"))


def model(data, hidden):
    return nn.Sequential(
        nn.Linear(5, hidden), nn.BatchNorm1d(hidden), nn.Tanh(), nn.Dropout(0.3), nn.Linear(hidden, len(data.classes))
    )


TASK = Task("synthetic", "mlp", model)
TASK_SETTINGS = {"model": {"hidden": 6}, "batch_size": 8, "optimizer": {"name": "adam", "lr": 0.05}}
UPDATES = 3  # for each epoch
RULES = {
    "bp": {"label": "BP", "engine": "bp"},
    "zil": {"label": "Z-IL", "engine": "zil"},
    "il": {"label": "IL", "engine": "il", "steps": 3, "gamma": 0.1},
}
WITH_NOISE = {**RULES, "noisy": {"label": "σ = 0.01", "engine": "zil-state", "sigma": 0.01}}


def run(checkpoint, epochs=4, seed=0, rules=RULES, task_settings=TASK_SETTINGS, task=TASK, **options):
    return train(Matched(task, task_settings, synthetic()), {"rules": rules}, seed, epochs, checkpoint, **options)


def by_rule(result):
    return {entry["rule"]: entry["metrics"] for entry in result["results"]}


@pytest.mark.parametrize("finished", [1, 3])
@pytest.mark.parametrize("optimizer", [{"name": "adam", "lr": 0.05}, {"name": "sgd", "lr": 0.1, "momentum": 0.9}])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(tmp_path, finished, optimizer):
    task_settings = {**TASK_SETTINGS, "optimizer": optimizer}
    expected = run(tmp_path / "whole", task_settings=task_settings, rules=WITH_NOISE)
    run(tmp_path / "cut", epochs=finished, task_settings=task_settings, rules=WITH_NOISE)
    torch.randn(7)  # another process draws otherwise
    assert run(tmp_path / "cut", task_settings=task_settings, rules=WITH_NOISE) == expected


class Interrupted(Exception):
    pass


def test_an_interruption_repeats_no_finished_epoch(tmp_path):
    expected = run(tmp_path / "whole")
    epochs = iter(range(10))

    def interrupt():
        if next(epochs) == 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(tmp_path / "cut", advance=interrupt)
    learned = []
    counting = Task("synthetic", "mlp", model, lambda *a: learned.append(1) or F.cross_entropy(*a))
    assert run(tmp_path / "cut", task=counting) == expected
    only_bp = {"bp": RULES["bp"]}
    learned.clear()
    run(tmp_path / "one", epochs=2, rules=only_bp)
    run(tmp_path / "one", epochs=4, rules=only_bp, task=counting)
    assert len(learned) == 2 * UPDATES


@pytest.mark.parametrize("done", [0, 2], ids=["from the start", "resumed"])
def test_captured_rules_give_the_very_result_of_the_rules_themselves(tmp_path, monkeypatch, done):
    """Buffers, dropout masks, noise and the smaller last batch included; IL, which dropout forbids to capture, goes on."""
    expected = run(tmp_path / "eager", rules=WITH_NOISE)
    if done:
        run(tmp_path / "captured", epochs=done, rules=WITH_NOISE)
    made, replayed = [], []
    init, backward = Captured.__init__, Captured.backward
    monkeypatch.setattr(Captured, "__init__", lambda self, rule: made.append(type(rule)) or init(self, rule))
    monkeypatch.setattr(Captured, "backward", lambda self, *batch: replayed.append(self) or backward(self, *batch))
    monkeypatch.setattr(measured, "REPAID", 2)
    assert run(tmp_path / "captured", rules=WITH_NOISE) == expected
    assert ZIL in made and Backprop not in made  # the reference is autograd's, always
    (zil,) = {rule for rule in replayed if type(rule.rule) is ZIL}
    assert zil.captures == 1 and replayed.count(zil) == (4 - done) * (UPDATES - 1)


def test_what_would_not_be_repaid_is_not_captured(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "Captured", None)
    assert run(tmp_path / "checkpoint")


def test_progress_counts_every_epoch_once_resumed_or_not(tmp_path):
    for done in (0, 2):
        counted = []
        if done:
            run(tmp_path / f"{done}", epochs=done)
        run(tmp_path / f"{done}", advance=lambda counted=counted: counted.append(1))
        assert len(counted) == 4


def test_zil_stays_at_no_ulp_from_backprop_at_every_update_and_il_does_not(tmp_path):
    found = by_rule(run(tmp_path / "checkpoint"))
    assert found["zil"]["divergence"] == {key: [0] * 4 * UPDATES for key in ("l2", "relative_l2", "max_ulp")}
    assert found["zil"]["weights_sha256"] == found["bp"]["weights_sha256"]
    assert [e["test_accuracy"] for e in found["zil"]["epochs"]] == [e["test_accuracy"] for e in found["bp"]["epochs"]]
    assert all(distance > 1e-4 for distance in found["il"]["divergence"]["relative_l2"])
    assert found["il"]["weights_sha256"] != found["bp"]["weights_sha256"]
    assert found["bp"]["divergence"] is None


def test_training_is_the_textbook_loop(tmp_path):
    """Initial weights, order and masks from their streams, written out here with autograd alone."""
    data, seed, epochs = synthetic(), 3, 2
    with randomness.global_stream(seed, "init"):
        network = model(data, hidden=6)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05, fused=True)  # whose square roots are exact
    losses = []
    for epoch in range(epochs):
        order = torch.randperm(22, generator=randomness.stream(seed, "order", epoch))
        losses.append(0.0)
        for step, indices in enumerate((order[:8], order[8:16], order[16:])):
            optimizer.zero_grad()
            with randomness.global_stream(seed, "dropout", epoch, step):
                loss = F.cross_entropy(network(data.train.inputs[indices]), data.train.targets[indices])
            loss.backward()
            optimizer.step()
            losses[-1] += loss.item() * len(indices) / 22
    network.eval()
    correct = (network(data.test.inputs).argmax(1) == data.test.targets).float().mean().item()
    found = by_rule(run(tmp_path / "checkpoint", epochs=epochs, seed=seed))["bp"]
    assert found["weights_sha256"] == provenance.weights_digest(network)
    assert [e["train_loss"] for e in found["epochs"]] == pytest.approx(losses, rel=1e-12)
    assert found["test_accuracy"] == found["epochs"][-1]["test_accuracy"] == pytest.approx(correct)
    assert found["majority_accuracy"] == pytest.approx(4 / 12)
    assert found["updates"] == epochs * UPDATES


def test_training_learns(tmp_path):
    found = by_rule(run(tmp_path / "checkpoint", epochs=15))
    for name in RULES:
        assert found[name]["test_accuracy"] > 0.9, name


def test_seeds_differ_and_a_seed_is_repeatable(tmp_path):
    digests = [
        by_rule(run(tmp_path / f"{i}", seed=seed, epochs=1))["bp"]["weights_sha256"] for i, seed in enumerate((0, 1, 0))
    ]
    assert digests[0] == digests[2] != digests[1]


def test_the_result_is_json_that_every_parser_reads(tmp_path):
    """A rule that runs away has no finite distance any more: JSON has no infinity."""
    result = run(tmp_path / "checkpoint", epochs=2)
    write_json(tmp_path / "result.json", result)
    assert json.loads((tmp_path / "result.json").read_text()) == result


def test_a_loss_that_is_not_finite_names_rule_seed_epoch_and_update(tmp_path):
    calls = iter(range(100))

    def loss(outputs, targets):
        # Two rules a step: the second one's loss in the second update of the second epoch.
        return F.cross_entropy(outputs, targets) * (float("nan") if next(calls) == 2 * (UPDATES + 1) + 1 else 1.0)

    rules = {key: RULES[key] for key in ("bp", "zil")}
    with pytest.raises(NonFiniteLoss, match="synthetic, rule 'zil', seed 5, epoch 2, update 2: the loss is nan"):
        run(tmp_path / "checkpoint", seed=5, rules=rules, task=Task("synthetic", "mlp", model, loss))


@pytest.mark.parametrize("content", [b"", b"no checkpoint"], ids=["empty", "text"])
def test_a_broken_checkpoint_is_named_with_the_remedy(tmp_path, content):
    (tmp_path / "checkpoint").write_bytes(content)
    with pytest.raises(ResultError, match=r"checkpoint '.*checkpoint' cannot be read.*; delete it and run again"):
        run(tmp_path / "checkpoint")


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path / "checkpoint", epochs=1)
    with pytest.raises(PCBenchError, match="delete it and run again"):
        run(tmp_path / "checkpoint", task_settings={**TASK_SETTINGS, "model": {"hidden": 7}})


def test_accuracy_is_measured_in_evaluation_mode_and_the_mode_restored():
    data = synthetic()
    network = model(data, hidden=6)
    before = copy.deepcopy(network.state_dict())
    for training in (True, False):
        network.train(training)
        first = accuracy(network, data.test)
        assert first == accuracy(network, data.test, batch_size=5)
        assert network.training == training
    assert_same_bits(network.state_dict(), before)


NAMES = [("init",), ("order", 0), ("order", 1), ("dropout", 0, 0), ("dropout", 0, 1), ("dropout", 1, 0), ("noise",)]


def test_streams_are_independent_and_each_repeatable():
    drawn = [torch.randn(4, generator=randomness.stream(seed, *name)).tolist() for seed in (0, 1) for name in NAMES]
    assert len({tuple(task_settings) for task_settings in drawn}) == len(drawn)
    torch.randn(100)
    assert torch.randn(4, generator=randomness.stream(0, "init")).tolist() == drawn[0]


def test_a_streams_seed_is_the_documented_function_of_its_names():
    """The first eight bytes of a SHA-256: the same on every platform, for results are compared between them."""
    first = hashlib.sha256(b'[7, "order", 2]').digest()[:8]
    assert randomness.derive(7, "order", 2) == int.from_bytes(first, "big") // 2


def test_a_global_stream_restores_what_was_there():
    state = torch.get_rng_state()
    with randomness.global_stream(0, "dropout"):
        inside = torch.randn(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(inside, torch.randn(3, generator=randomness.stream(0, "dropout")))


def test_the_digest_of_weights_sees_names_shapes_types_buffers_and_signs_of_zeros():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    digests = {provenance.weights_digest(network)}
    for change in (
        lambda m: m[0].weight.data[0, 0].add_(1e-7),
        lambda m: m[1].bias.data[0].neg_(),
        lambda m: m[1].num_batches_tracked.add_(1),
        lambda m: m.double(),
    ):
        change(network)
        digests.add(provenance.weights_digest(network))
    assert len(digests) == 5
    assert provenance.weights_digest(copy.deepcopy(network)) in digests
