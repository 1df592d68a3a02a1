"""The device; oracle: what a name means, and where tensors say that they are.

Aimed at: a stage that computes somewhere else than was asked for, and a GPU that is found to be missing when half is done.
What a GPU computes is looked at in numerics/test_cuda.py.
"""

import os

import pytest
import torch
from torch import nn

from pcbench import devices
from pcbench.errors import InvalidParameters

GPUS = torch.cuda.device_count()


def test_a_device_that_is_here_is_found_by_its_name():
    assert devices.named("cpu") == torch.device("cpu") == devices.CPU
    for i in range(GPUS):
        assert devices.named(f"cuda:{i}") == torch.device("cuda", i)
    if GPUS:
        assert devices.named("cuda") == torch.device("cuda", 0)


@pytest.mark.parametrize("name", ["gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "meta", "", " cpu"])
def test_what_is_no_devices_name_is_told(name):
    with pytest.raises(InvalidParameters, match=rf"unknown device {name!r}; the devices are cpu, cuda, and cuda:1"):
        devices.named(name)


def test_a_gpu_that_is_not_here_is_told_with_those_that_are_and_a_remedy():
    seen = f"cuda:{GPUS - 1};" if GPUS else "no GPU;"
    with pytest.raises(InvalidParameters, match=rf"device 'cuda:{GPUS}' is not here.*{seen}.*--device.*params\.yaml"):
        devices.named(f"cuda:{GPUS}")


def test_the_cpu_is_no_gpu():
    assert devices.gpu("cpu") is None


@pytest.fixture
def _as_before():
    """What is set for a whole process, put back."""
    backends = ((torch.backends.cudnn, "benchmark"), (torch.backends.cudnn, "allow_tf32"))
    backends += ((torch.backends.cuda.matmul, "allow_tf32"),)
    before, workspace = [getattr(*each) for each in backends], os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    yield
    for each, value in zip(backends, before, strict=True):
        setattr(*each, value)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    if workspace is not None:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace


@pytest.mark.usefixtures("_as_before")
def test_cudas_libraries_are_held_to_full_precision_and_to_no_choice_by_the_clock():
    torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"
    devices.deterministic()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.backends.cudnn.benchmark
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32


# On `meta` tensors have a place and no numbers: enough to see that they were moved.
META = torch.device("meta")


def test_a_network_with_its_batch_and_its_loss_is_moved_and_what_cannot_be_stays():
    inputs = {"x": torch.ones(2), "y": (torch.zeros(1, requires_grad=True), 3)}
    made = nn.Linear(2, 1), inputs, None, nn.CrossEntropyLoss(torch.ones(3))
    model, moved, targets, loss = devices.moved(made, META)
    assert targets is None
    places = [*model.parameters(), moved["x"], moved["y"][0], loss.weight]
    assert all(tensor.device == META for tensor in places)
    assert moved["y"][1] == 3 and not moved["x"].requires_grad
    assert moved["y"][0].requires_grad and moved["y"][0].is_leaf  # a copy with a history would learn for another
