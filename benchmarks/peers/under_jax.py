"""What the libraries that compute with JAX share: its settings, and arrays to and from PyTorch."""

import os
from types import ModuleType

import numpy as np
import torch

from pcbench.errors import InvalidParameters

# Read once, when JAX is first asked for a device. One thread and one instruction set, so that a result repeats its bits.
_FLAGS = "--xla_cpu_max_isa=AVX2 --xla_cpu_multi_thread_eigen=false"


def started(library: str, environment: str) -> ModuleType:
    """Import JAX, in double precision and on the processor.

    Args:
        library: the adapter that asks.
        environment: the environment that has it.

    Raises:
        InvalidParameters: it is not installed.
    """
    os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": _FLAGS}
    try:
        import jax
    except ImportError as error:
        raise absent(library, environment) from error
    jax.config.update("jax_enable_x64", True)
    return jax


def absent(library: str, environment: str) -> InvalidParameters:
    """The error of a library that is not installed."""
    return InvalidParameters(f"{library} is not installed here; `make peers` sets up {environment}, which has it")


def array(tensor: torch.Tensor) -> np.ndarray:
    """A tensor for JAX."""
    return tensor.numpy()


def tensor(value: object, like: torch.Tensor) -> torch.Tensor:
    """An array of JAX as a tensor of the dtype and shape of ``like``.

    Raises:
        ValueError: it has another number of elements.
    """
    return torch.from_numpy(np.array(value)).to(like.dtype).reshape(like.shape)
