"""What PyTorch before 2.4 does not tell of an autograd node, noted while the nodes arise.

There a node knows neither how many outputs it has nor their shapes, to which the engine fits every error; the engine starts
at tensors only, and a custom function's node lives no longer than what it has made. Most outputs are tensors that a mode
sees. The others are made inside operations that call others (`torch.einsum`), below every function mode: a node takes its
sequence number just before its operation is dispatched, so that a `TorchDispatchMode` knows whose outputs it sees. And of
``h[i]`` a function mode is shown some only.
"""

import re
from collections import namedtuple
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode, _get_current_function_mode, _pop_mode_temporarily
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from pcbench.aside import Patches

Metadata = namedtuple("Metadata", "shape dtype device")


class Untold(TorchDispatchMode):
    """The nodes of one forward pass: on while that runs."""

    def __init__(self) -> None:
        super().__init__()
        self._dispatched: dict[tuple[str, int], list[Metadata]] = {}  # by operation and sequence number
        self._seen: dict[Node, dict[int, Metadata]] = {}
        self._roots: dict[tuple[Node, int], torch.Tensor] = {}
        self._visited: list[Node] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run ``func``, and note what its outputs are."""
        place = _spelled(func._schema.name.partition("::")[2]), torch._C._autograd._get_sequence_nr() - 1
        with torch._C.DisableTorchFunction():
            out = func(*args, **(kwargs or {}))
            if place not in self._dispatched:  # the next of its kind may need no gradient, and no node
                found = [leaf for leaf in pytree.tree_leaves(out) if isinstance(leaf, torch.Tensor)]
                self._dispatched[place] = [_metadata(tensor) for tensor in found if _learns(tensor)]
        return out

    def see(self, tensor: torch.Tensor) -> None:
        """Note what the value of a tensor is."""
        node: Any = tensor.grad_fn if tensor.requires_grad else None
        if node is None or (node, tensor.output_nr) in self._roots:
            return
        self._seen.setdefault(node, {})[tensor.output_nr] = _metadata(tensor)
        if not tensor.is_nested:  # no custom function takes one there
            self._roots[node, tensor.output_nr] = _Root.apply(tensor)

    def has_seen(self, node: Node) -> bool:
        """Whether a mode has seen what a node has made: else nobody can have hooked it but by ``next_functions``."""
        return node in self._seen

    def visiting(self, node: Node) -> None:
        """Keep a node alive, as those that follow it need."""
        self._visited.append(node)

    def roots(self, node: Node, errors: Sequence[torch.Tensor | None]) -> tuple[torch.Tensor, ...] | None:
        """Tensors from which the engine brings a node its errors, one for each that there is; None if it cannot."""
        found = []
        for number, error in enumerate(errors):
            if error is not None:
                root: Any = self._roots.get((node, number))
                if root is None:
                    return None
                root.grad_fn.error = error
                found.append(root)
        return tuple(found)

    def outputs(self, node: Node) -> Sequence[Metadata | None]:
        """What the engine knows of each of a node's outputs; None for one of which nothing is known."""
        seen = self._seen.get(node, {})
        if isinstance(node, torch._C._FunctionBase):
            return [seen.get(number) for number in range(max(seen, default=-1) + 1)]
        kind = _spelled(node.name().rpartition("Backward")[0])
        dispatched = dict(enumerate(self._dispatched.get((kind, node._sequence_nr()), ())))
        return [seen.get(number, dispatched.get(number)) for number in range(_count(node))]


class _Root(torch.autograd.Function):
    """A tensor behind a value, and no view of it: where the engine starts, it finds the error that is kept here."""

    @staticmethod
    def forward(ctx, value):
        ctx.error = None
        return torch.empty((), dtype=value.dtype, device=value.device)

    @staticmethod
    def backward(ctx, _):
        return ctx.error


def shown(kind: type[TorchFunctionMode]) -> Patches:
    """Patches that show a mode of ``kind`` indexing, and keep `Untold` out of the way of subclasses of `torch.Tensor`."""

    def make(undo):
        def offered(name):
            taken = getattr(torch.Tensor, name)

            def method(*args):
                mode = _get_current_function_mode()
                if not isinstance(mode, kind):
                    return taken(*args)
                with _pop_mode_temporarily():
                    return mode.__torch_function__(taken, (), args)

            return patch.object(torch.Tensor, name, method)

        def undisturbed(owner, name):  # what a dispatch mode has returned cannot become a subclass's
            run = getattr(owner, name)

            def function(*args):
                with _disable_current_modes():
                    return run(*args)

            return patch.object(owner, name, function)

        undo.enter_context(offered("__getitem__"))
        undo.enter_context(offered("__setitem__"))
        undo.enter_context(undisturbed(torch._tensor, "_convert"))
        undo.enter_context(undisturbed(torch.Tensor, "as_subclass"))

    return Patches(make)


def _spelled(name):
    """An operation's name as both its schema and its node have it: ``_linalg_svd``, ``LinalgSvdBackward0``."""
    return name.replace("_", "").lower()


def _metadata(tensor):
    # A nested tensor has no shape: errors are never fitted to it.
    return Metadata(None if tensor.is_nested else tensor.shape, tensor.dtype, tensor.device)


def _learns(tensor):
    return tensor.is_floating_point() or tensor.is_complex()


def _count(node):
    """How many outputs a node has: it says so to whoever calls it with none of their errors."""
    try:
        node()
    except TypeError as error:
        found = re.search(r"expected (\d+) argument", str(error))
        if found is None:
            raise
        return int(found[1])
    return 0
