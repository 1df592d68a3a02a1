"""Fingerprints of tensors: small, independent of the order of additions, and enough to find a single element that differs.

Of tensors whose bits, cut into words of at most 32 and read as integers, are b_i (i over all tensors in their order), a
fingerprint holds two sums modulo 2⁶⁴: Σ b_i, and Σ r_i b_i with pseudo-random odd r_i, a universal hash. If one word differs,
by d, the sums differ by d and r_i d: that names i. Where no i fits, several words differ.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from pcbench.params import Result

Tensors = Mapping[str, torch.Tensor | None]  # by name
Layout = list[list[Any]]  # see `layout`

_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int32}


@dataclass(frozen=True)
class Element:
    """One element that differs.

    Attributes:
        tensor: its tensor's name.
        index: its place in the flattened tensor.
        distance: the second's bits less the first's, both read as integers: ±2ᵏ if bit k alone is flipped, and for floats of
            one sign the difference in units in the last place.
    """

    tensor: str
    index: int
    distance: int

    def __str__(self) -> str:
        size = abs(self.distance)
        bit = f"bit {size.bit_length() - 1}" if size & (size - 1) == 0 else f"{size} units in the last place"
        return f"{self.tensor}, element {self.index}, {bit}"


def fingerprint(tensors: Tensors) -> str:
    """Return the fingerprint of a dict of tensors, 32 hexadecimal digits; None in place of a tensor counts as no element."""
    words = [_bits(tensor) for tensor in tensors.values() if tensor is not None]
    bits = np.concatenate(words) if words else np.zeros(0, np.uint64)
    plain, weighted = bits.sum(dtype=np.uint64), (bits * _multipliers(len(bits))).sum(dtype=np.uint64)
    return f"{int(plain):016x}{int(weighted):016x}"


def layout(tensors: Tensors) -> Layout:
    """Return what `locate` needs to know of a dict of tensors: ``[[name, elements, words an element], ...]``."""
    plain = {name: _plain(tensor) for name, tensor in tensors.items() if tensor is not None}
    return [[name, tensor.numel(), max(1, tensor.element_size() // 4)] for name, tensor in plain.items()]


class Trace:
    """Fingerprints of a model's tensors after weight updates, as a result holds them.

    ``updates`` has one of all tensors together for every update. Those of each tensor by itself, ``tensors``, would be large:
    they are kept after updates 1, 2, 4, 8, ... and where `note` is told to.
    """

    def __init__(self, updates: Iterable[str] = (), tensors: Mapping[str, dict[str, str]] | tuple[()] = ()) -> None:
        self.updates, self.tensors = list(updates), dict(tensors)

    def add(self, tensors: Tensors) -> None:
        """Add the next update's."""
        self.updates.append(fingerprint(tensors))
        count = len(self.updates)
        if count & (count - 1) == 0:
            self.note(tensors)

    def note(self, tensors: Tensors) -> None:
        """Keep each tensor's own fingerprint for the last update."""
        each = {name: fingerprint({name: tensor}) for name, tensor in tensors.items()}
        self.tensors[str(len(self.updates))] = each

    def value(self, tensors: Tensors) -> Result:
        """Return the JSON value: ``{"updates": [...], "tensors": {update: {name: ...}}, "layout": [...]}``."""
        return {"updates": self.updates, "tensors": self.tensors, "layout": layout(tensors)}


def trace(tensors: Tensors) -> Result:
    """Return the JSON value of the `Trace` of a single update."""
    found = Trace()
    found.add(tensors)
    return found.value(tensors)


def locate(first: str, second: str, layout: Layout) -> Element | None:
    """Find the one element by which two fingerprints differ.

    Args:
        first, second: fingerprints of tensors of the same names, shapes and dtypes.
        layout: see the function `layout`.

    Returns:
        `Element`; None if they are equal, or if more than one word differs.
    """
    plain, weighted = ((int(second[at], 16) - int(first[at], 16)) % 2**64 for at in (slice(16), slice(16, 32)))
    distance = plain - 2**64 if plain >= 2**63 else plain
    if distance == 0 or abs(distance) >= 2**32:
        return None
    multipliers = _multipliers(sum(elements * words for _, elements, words in layout))
    places = np.flatnonzero(multipliers * np.uint64(plain) == np.uint64(weighted))
    if len(places) != 1:  # two fit by chance: in 2³² words about once
        return None
    place = int(places[0])
    for name, elements, words in layout:
        if place < elements * words:
            # Of the two words of 64 bits the low one comes first.
            return Element(name, place // words, distance * 2 ** (32 * (place % words)))
        place -= elements * words
    raise AssertionError("unreachable")


def _plain(tensor):
    tensor = tensor.detach().cpu()
    tensor = tensor.to_dense() if tensor.layout is not torch.strided else tensor
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _bits(tensor):
    """The words as 64-bit integers, flat."""
    flat = _plain(tensor).contiguous().view(-1)
    words = flat.view(_WORDS[flat.element_size()]).numpy()
    return words.view(f"u{words.itemsize}").astype(np.uint64)


@lru_cache(maxsize=4)
def _multipliers(count):
    """``count`` odd 64-bit numbers, the same everywhere: SplitMix64 of the place."""
    with np.errstate(over="ignore"):
        x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (x ^ (x >> np.uint64(31))) | np.uint64(1)
