"""Two weight updates of one model, with SGD in between, under BP, BP again and Z-IL: which bits are not the same?"""

import random
import traceback
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils import _pytree as pytree

import pcbench
from pcbench.measure.divergence import compare

UPDATES = 2


@dataclass(frozen=True)
class Update:
    """What one weight update leaves behind."""

    tensors: dict[str, torch.Tensor | None]  # the loss, the gradients, and the buffers
    randomness: tuple


class Loss:
    """A model's own loss if it returns one, else its outputs' squared distance from fixed numbers.

    The distance from zero would not do: what ends in a layer norm has the same one always, and so no gradient.
    """

    def __init__(self):
        self.operations = 0

    def __call__(self, outputs, targets):
        loss = getattr(outputs, "loss", None)
        if loss is None:
            found = [x for x in pytree.tree_leaves(outputs) if isinstance(x, torch.Tensor) and x.is_floating_point()]
            # A detector returns its losses.
            loss = sum(x.sum() if x.dim() == 0 else _distance(x) for x in found)
        self.operations = self.operations or _operations(loss)
        return loss


def _distance(x):
    places = torch.arange(x.numel(), dtype=torch.float32).view(x.shape)
    return (x.float() - torch.sin(places)).square().mean()


def _operations(loss):
    """How many differentiable operations autograd has recorded. (Under a rule that cuts, the loss's own only.)"""
    seen, stack = set(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen and not hasattr(node, "variable"):
            seen.add(node)
            stack += [following for following, _ in node.next_functions]
    return len(seen)


def seed(number):
    """Set the three global generators that a forward may draw from."""
    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)


def updates(build, rule, loss):
    """Yield each `Update` of a model that is built anew, so that nothing of another run is in it.

    Args:
        build: returns the model, and a function that draws one batch: the tuple of what forward takes.
        rule: maps the model to a `pcbench.rules.Rule`.
        loss: a `Loss`.
    """
    seed(0)
    model, batch = build()
    rule = rule(model.train())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for number in range(1, UPDATES + 1):
        seed(number)
        inputs = batch()
        seed(100 + number)
        optimizer.zero_grad(set_to_none=True)
        tensors = {"loss": rule.backward(inputs, None, loss)}
        tensors |= {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
        tensors |= {f"buffer {name}": buffer.clone() for name, buffer in model.named_buffers()}
        yield Update(tensors, (torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()))
        optimizer.step()


def difference(found, expected):
    """What of two runs is not the same in its bits, for people; None if nothing."""
    for number, (a, b) in enumerate(zip(found, expected, strict=True), 1):
        if a.tensors.keys() != b.tensors.keys():
            return f"other names at update {number}: {', '.join(sorted(a.tensors.keys() ^ b.tensors.keys()))}"
        other, ulps = [], []
        for name in b.tensors:
            try:
                one = compare({name: a.tensors[name]}, {name: b.tensors[name]})
            except ValueError as error:
                return f"{error} at update {number}"
            if not one.bitwise_equal:
                other.append(name)
                ulps.append(one.max_ulp)
        if other:
            largest = "not finite" if None in ulps else f"max ulp {max(ulps)}"
            return f"{largest}, {len(other)} of {len(b.tensors)} tensors at update {number}, first {other[0]}"
        if a.randomness != b.randomness:
            return f"random state after update {number}"
    return None


def verdict(build, rule):
    """Compare one model.

    Args:
        build: see `updates`.
        rule: ``zil``, or ``bp`` to learn only whether backpropagation trains the model and repeats itself.

    Returns:
        ``{"verdict": ..., "operations": ..., "vertices": ...}``; None where it is not known.
    """
    loss = Loss()
    row = {"operations": None, "vertices": None}
    try:
        expected = list(updates(build, pcbench.Backprop, loss))
        row["operations"] = loss.operations
        if not any(name.startswith("gradient") and g is not None for name, g in expected[0].tensors.items()):
            return row | {"verdict": "BP fails: no parameter has a gradient"}
        other = difference(updates(build, pcbench.Backprop, loss), expected)
    except Exception as error:
        return row | {"verdict": f"BP fails: {_line(error)}"}
    if other or rule == "bp":
        return row | {"verdict": f"BP does not repeat: {other}" if other else "BP repeats"}
    try:
        other = difference(updates(build, pcbench.ZIL, loss), expected)
    except pcbench.PCBenchError as error:
        return row | {"verdict": f"refused: {_line(error)}"}
    except Exception as error:
        return row | {"verdict": f"fails: {_line(error)}"}
    return row | {"verdict": f"differs: {other}" if other else "identical", "vertices": _vertices(build)}


def _vertices(build):
    """How many vertices the model's graph has; None if its operations cannot be told apart, which Z-IL need not."""
    seed(0)
    model, batch = build()
    try:
        graph = pcbench.Graph.from_module(model.train(), batch())
    except Exception:
        traceback.print_exc()
        return None
    return len(graph.vertices) - graph.inputs


def _line(error):
    traceback.print_exc()  # into the model's log
    text = " ".join(str(error).split())
    name = "" if isinstance(error, pcbench.PCBenchError) else f"{type(error).__name__}: "
    return name + (text if len(text) < 300 else text[:297] + "...")
