"""What all rules' runs of a task have in common; oracle: every example once, and a function of seed and epoch alone.

Aimed at: a text whose label is another's, an epoch that repeats the last one, and a model or an optimizer that is none of
the settings'.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pcbench import tasks
from pcbench.data import Dataset, Split
from pcbench.errors import InvalidParameters
from pcbench.measure.matched import Matched

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES, LENGTH = 37, 12
SETTINGS = {
    "network": "mlp",
    "data": "numbers",
    "model": {"hidden": 3},
    "batch_size": 8,
    "optimizer": {"name": "sgd", "lr": 0.25, "momentum": 0.5},
}


def split(bucketed):
    lengths = torch.randint(1, LENGTH + 1, (EXAMPLES,), generator=torch.Generator().manual_seed(0))
    targets = torch.arange(EXAMPLES)
    # The last token, which no batch cuts off, names the example.
    inputs = torch.where(torch.arange(LENGTH) >= LENGTH - lengths[:, None], targets[:, None] + 1, 0)
    return Split(inputs, targets, bucketed)


def matched(bucketed=False, **changes):
    examples = split(bucketed)
    data = Dataset("numbers", examples, examples, tuple(map(str, range(EXAMPLES))))
    return Matched(tasks.named("numbers-mlp", "mlp"), {**SETTINGS, **changes}, data)


@pytest.mark.parametrize("bucketed", [False, True])
def test_every_example_comes_once_and_with_its_own_target(bucketed):
    batches = list(matched(bucketed).batches(seed=0, epoch=0))
    assert all(torch.equal(inputs[:, -1] - 1, targets) for inputs, targets in batches)
    assert sorted(torch.cat([targets for _, targets in batches]).tolist()) == list(range(EXAMPLES))
    assert sorted(len(targets) for _, targets in batches) == [EXAMPLES % 8, 8, 8, 8, 8]


@pytest.mark.parametrize("bucketed", [False, True])
def test_the_order_is_a_function_of_seed_and_epoch(bucketed):
    def order(seed, epoch):
        return torch.cat([targets for _, targets in matched(bucketed).batches(seed, epoch)]).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) != order(1, 1)


@pytest.mark.parametrize("bucketed", [False, True])
def test_the_first_batch_is_the_first_epoch_s(bucketed):
    first = next(matched(bucketed).batches(seed=1, epoch=0))
    assert all(map(torch.equal, matched(bucketed).first_batch(seed=1), first))


def test_bucketed_batches_leave_out_padding_only():
    widths = set()
    for inputs, targets in matched(bucketed=True).batches(seed=0, epoch=0):
        widths.add(inputs.shape[1])
        whole = split(bucketed=True).inputs[targets]
        assert torch.equal(whole[:, -inputs.shape[1] :], inputs)
        assert not whole[:, : -inputs.shape[1]].any()
    assert len(widths) > 1


def test_the_initial_weights_are_a_function_of_the_seed_and_take_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    first, again, other = (matched().model(seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not any(torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.parametrize("bucketed", [False, True])
def test_models_and_batches_are_made_on_the_cpu_and_moved_to_the_device(bucketed):
    """On `meta` tensors have a place and no numbers: enough to see that they were moved."""
    task = replace(matched(bucketed), device=torch.device("meta"))
    before = torch.get_rng_state()
    batches = [tensor for batch in task.batches(seed=0, epoch=0) for tensor in batch]
    assert {tensor.device.type for tensor in (*task.model(seed=0).parameters(), *batches)} == {"meta"}
    assert {tensor.device.type for tensor in (task.data.train.inputs, task.data.train.targets)} == {"cpu"}
    assert [tensor.shape for tensor in batches] == [t.shape for b in matched(bucketed).batches(0, 0) for t in b]
    assert torch.equal(torch.get_rng_state(), before)


def test_the_model_is_made_with_the_settings_numbers_and_in_training_mode():
    model = matched().model(seed=0)
    assert model.training
    assert model.readout.weight.shape == (EXAMPLES, 3)


def test_a_model_that_cannot_be_made_names_the_task_the_numbers_and_where_they_stand():
    with pytest.raises(InvalidParameters, match=r"'numbers-mlp'.*\{'depth': 2\}.*tasks\.numbers-mlp\.model in params"):
        matched(model={"depth": 2}).model(seed=0)


def test_the_optimizer_is_the_settings_own_over_all_of_the_model():
    task = matched()
    model = task.model(seed=0)
    optimizer = task.optimizer(model)
    (group,) = optimizer.param_groups
    assert type(optimizer) is torch.optim.SGD
    assert (group["lr"], group["momentum"]) == (0.25, 0.5)
    assert list(map(id, group["params"])) == list(map(id, model.parameters()))
    assert task.optimizer(model) is not optimizer


@pytest.mark.parametrize(
    ("optimizer", "says"),
    [
        ({"name": "lion"}, "unknown optimizer 'lion'; the optimizers are adam, sgd"),
        ({"name": "sgd", "speed": 1}, "optimizer 'sgd' with {'speed': 1}: .*speed"),
        ({"name": "adam", "lr": -1.0}, "optimizer 'adam' with {('fused': True, )?'lr': -1.0}: .*learning rate"),
        ({"name": "adam", "fused": True, "foreach": True}, "adam' with {'fused': True, 'foreach': True}: .*foreach"),
    ],
    ids=["name", "argument", "value", "two that exclude each other"],
)
def test_an_optimizer_that_cannot_be_made_is_told(optimizer, says):
    task = matched(optimizer=optimizer)
    with pytest.raises(InvalidParameters, match=says):
        task.optimizer(task.model(seed=0))


STEPS = """
import hashlib, torch
from pcbench.measure.matched import Matched
generator = torch.Generator().manual_seed(0)
model = torch.nn.Linear(100, 100)
torch.nn.init.uniform_(model.weight, generator=generator)
torch.nn.init.zeros_(model.bias)
optimizer = Matched(None, {"optimizer": {"name": "adam", "lr": 0.01}}, None).optimizer(model)
for _ in range(5):
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
for tensor in (model.weight.detach(), torch.rand(100_000, generator=generator).sqrt()):
    print(hashlib.sha256(tensor.numpy().tobytes()).hexdigest())
"""


@pytest.mark.skipif(torch.__version__ < (2, 4), reason="no other Adam on the CPU")
def test_a_step_of_adam_has_the_same_bits_however_mkl_takes_square_roots():
    """Its ways differ from processor to processor, and on one processor by what MKL is held to."""
    found = {}
    for branch in ("COMPATIBLE", "AVX2", "AUTO"):
        environment = {**os.environ, "MKL_CBWR": branch, "ATEN_CPU_CAPABILITY": "avx2", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", STEPS], env=environment, capture_output=True, text=True, check=True
        )
        found[branch] = done.stdout.split()
    weights, roots = (set(each) for each in zip(*found.values(), strict=True))
    if len(roots) == 1:
        pytest.skip("MKL has one way to take square roots here")
    assert len(weights) == 1


def test_a_task_that_is_none_is_told(tmp_path):
    parameters = {"device": "cpu", "tasks": {"numbers-mlp": SETTINGS}}
    with pytest.raises(InvalidParameters, match="unknown task 'nope'; the tasks are numbers-mlp"):
        Matched.load(parameters, "nope", tmp_path)
    with pytest.raises(InvalidParameters, match="unknown data set 'numbers'"):
        Matched.load(parameters, "numbers-mlp", tmp_path)
