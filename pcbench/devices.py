"""The device that everything is computed on: whether it is there, and what makes a GPU compute the same bits every time."""

import os
import re
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pcbench.errors import InvalidParameters
from pcbench.params import DEVICES, DEVICES_SAID

CPU = torch.device("cpu")


def named(name: str) -> torch.device:
    """The device of a name: ``"cpu"``, ``"cuda"`` or, where there are several GPUs, ``"cuda:1"``.

    Raises:
        InvalidParameters: devices have no such names, or PyTorch sees no such one here.
    """
    if not re.fullmatch(DEVICES, name):
        raise InvalidParameters(f"unknown device {name!r}; {DEVICES_SAID}")
    if name == CPU.type:
        return CPU
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(name.partition(":")[2] or 0)
    if index >= found:
        seen = ", ".join(f"cuda:{i}" for i in range(found)) or "no GPU"
        raise InvalidParameters(
            f"device {name!r} is not here: PyTorch {torch.__version__} sees {seen}; name another one by --device or under "
            "`device` in params.yaml (without a GPU: cpu), or install a PyTorch and a driver that see it"
        )
    return torch.device("cuda", index)


def gpu(name: str) -> str | None:
    """What the GPU of that name calls itself; None of the CPU.

    Raises:
        InvalidParameters: see `named`.
    """
    device = named(name)
    return None if device == CPU else torch.cuda.get_device_name(device)


def moved(tree: Any, device: torch.device) -> Any:
    """A pytree of models, batches and losses on a device: tensors without history, and whatever else can be moved."""
    return pytree.tree_map(lambda leaf: _moved(leaf, device), tree)


def deterministic() -> None:
    """Hold CUDA's libraries to what gives the same bits every time, in full float32; on the CPU nothing changes.

    PyTorch refuses operations for which there is no such way only where deterministic algorithms are asked for.
    """
    # cuBLAS reads it when it is first used, worker processes inherit it. Another size of the workspace may be another kernel.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.backends.cudnn.benchmark = False  # it would choose kernels by the clock
    # TF32 drops 13 of 23 digits. By these names, for with the newer ones PyTorch's own `cudnn.flags` fails.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def _moved(leaf, device):
    if isinstance(leaf, torch.Tensor):
        return leaf.detach().to(device).requires_grad_(leaf.requires_grad)
    return leaf.to(device) if hasattr(leaf, "to") else leaf
