"""Random numbers: named streams from one seed, and the global generators' states, torch's, NumPy's and Python's.

One seed is split into independent named streams (``init``, ``order``, ``dropout``, ``noise``), so that drawing more
from one of them changes nothing in the others, and matched models share exactly what they should.
"""

import hashlib
import json
import pickle
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for the stream ``names`` of ``seed``: the same on every platform and Python version."""
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, *names: str | int) -> torch.Generator:
    """Return a CPU generator for the stream ``names`` of ``seed``."""
    return torch.Generator().manual_seed(derive(seed, *names))


@contextmanager
def global_stream(seed: int, *names: str | int) -> Iterator[None]:
    """Run the block with torch's global generators set to a named stream, and restore them afterwards.

    For what draws from the global generator only: modules' initialisation, and dropout masks.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, *names))
        yield


def random_state() -> list[torch.Tensor]:
    """The states of torch's global generators, the CPU's first: uint8 ``(bytes,)``, each."""
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *on_gpu]


def set_random_state(state: Sequence[torch.Tensor]) -> None:
    """Set torch's global generators to what `random_state` has returned."""
    torch.set_rng_state(state[0])
    if state[1:]:
        torch.cuda.set_rng_state_all(state[1:])


def random_digest(torchs: bool = True) -> str:
    """The SHA-256 over the states of NumPy's and Python's global generators and, unless ``torchs`` is false, torch's."""
    sha = hashlib.sha256()
    for state in random_state() if torchs else ():
        sha.update(state.numpy().tobytes())
    sha.update(repr((random.getstate(), pickle.dumps(np.random.get_state()))).encode())
    return sha.hexdigest()


@contextmanager
def kept_randomness() -> Iterator[None]:
    """Run the block, and leave torch's, NumPy's and Python's global generators as they were before it."""
    torchs, numpys, pythons = random_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        set_random_state(torchs)
        np.random.set_state(numpys)
        random.setstate(pythons)
