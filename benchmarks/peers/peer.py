"""What a library is to us: its own backpropagation, to check what was carried over, and its rules."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benchmarks.peers.problem import Problem
from pcbench.params import Settings

# By parameter name, in the sign and with the reduction of `param.grad`.
Gradients = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class PeerRule:
    """One of a library's learning rules, and which of ours it is.

    Attributes:
        label: the library's own name for it.
        like: the identifier in params.yaml of our rule; its settings in Table 6 are the ones tried.
        gradients: maps ``(problem, options)`` to `Gradients`.
        summed: whether the library infers on the loss summed over the batch and divides the update by the batch afterwards,
            instead of inferring on the mean.
        as_ours: maps the library's options to those at which our rule is to give the same numbers; None if there are none.
    """

    label: str
    like: str
    gradients: Callable[[Problem, Settings], Gradients]
    summed: bool = False
    as_ours: Callable[[Settings], Settings | None] = dict


@dataclass(frozen=True)
class Peer:
    """A library.

    Attributes:
        name: of its adapter.
        title: as its authors write it.
        version: of the library; of one file, its SHA-256.
        packages: what it computes with, by name; their versions are recorded.
        backprop: maps a problem to the loss and `Gradients` that the library itself calls backpropagation's.
        rules: by identifier.
    """

    name: str
    title: str
    version: str
    packages: tuple[str, ...]
    backprop: Callable[[Problem], tuple[float, Gradients]]
    rules: Mapping[str, PeerRule]
