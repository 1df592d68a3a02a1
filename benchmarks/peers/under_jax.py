"""What the libraries that compute with JAX share: its settings, and arrays to and from PyTorch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from pcbench.errors import InvalidParameters

# Read once, when JAX is first asked for a device. One thread and one instruction set, so that a result repeats its bits.
_FLAGS = "--xla_cpu_max_isa=AVX2 --xla_cpu_multi_thread_eigen=false"


@contextmanager
def package(name: str, environment: str, path: Path | None) -> Iterator[None]:
    """Run the block, which imports a library, with JAX in double precision and on the processor.

    Args:
        name: the library.
        environment: the environment that has it.
        path: None; it is a package.

    Raises:
        InvalidParameters: it is not installed, or a path is given.
    """
    if path is not None:
        raise InvalidParameters(f"{name} is a package, which {environment} has; leave --path out")
    os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": _FLAGS}
    try:
        import jax

        jax.config.update("jax_enable_x64", True)
        yield
    except ImportError as error:
        raise InvalidParameters(
            f"{name} is not installed here; `make peers` sets up {environment}, which has it"
        ) from error


def array(tensor: torch.Tensor) -> np.ndarray:
    """A tensor for JAX."""
    return tensor.numpy()


def tensor(value: object, like: torch.Tensor) -> torch.Tensor:
    """An array of JAX as a tensor of the dtype and shape of ``like``.

    Raises:
        ValueError: it has another number of elements.
    """
    return torch.from_numpy(np.array(value)).to(like.dtype).reshape(like.shape)
