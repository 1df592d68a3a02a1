"""What rules with inference share: the forward pass as a graph whose vertices can be evaluated at other values."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_innermost_proxy_mode

from pcbench.errors import PCBenchError, UnsupportedModule, told
from pcbench.graph import Run, Vertex, tensors_of
from pcbench.recording import Recording
from pcbench.rules._base import Gradients, Loss, Rule, check_loss, leaves_behind

Value = tuple[Tensor, ...]  # of a vertex: leaves, or what was computed from them


class StateForm(Rule):
    """A rule that evaluates vertices at other values than those of the forward pass.

    Args:
        model: see `pcbench.rules.Rule`.
        granularity: see `pcbench.graph.Graph.from_module`.
    """

    def __init__(self, model: nn.Module, *, granularity: str = "layer") -> None:
        super().__init__(model)
        self._granularity = granularity

    def gradients(self, inputs: Any, targets: Any, loss_fn: Loss) -> tuple[Tensor, Gradients]:
        """See `pcbench.rules.Rule.gradients`. The loss returned is that of the forward pass, before any inference.

        Raises:
            UnsupportedModule: see `pcbench.recording.Recording`; also if an operation fails at the values of a later step.
        """
        run, loss = self._run(self._arguments(inputs), targets, loss_fn)
        try:
            return loss, self._inferred(run, loss)
        except Exception as error:
            if isinstance(error, PCBenchError) or get_innermost_proxy_mode() is not None:
                raise
            raise UnsupportedModule(
                f"inference in state form fails on {type(self.model).__name__} ({told(error)}); "
                "Z-IL in error form can learn it"
            ) from error

    @abstractmethod
    def _inferred(self, run: Run, loss: Tensor) -> Gradients:
        """Inference and learning; return ``{leaf: gradient}``, −Δθ, of whatever requires a gradient."""

    def _run(self, arguments, targets, loss_fn):
        """The forward pass and its loss, recorded."""
        recording = Recording(self.model, tensors_of(arguments))
        with recording:
            outputs = self.model(*arguments)
            of_model = len(recording.operations)
            loss = loss_fn(outputs, targets)
        check_loss(loss)
        return Run(self.model, recording, arguments, outputs, self._granularity, of_model, loss), loss.detach()


def check_replay(replayed: Tensor, loss: Tensor) -> None:
    """Compare the loss of the recorded operations, run again, with the forward's: whatever else a forward does, it shows.

    Raises:
        UnsupportedModule: they are not the same.
    """
    tolerance = torch.finfo(loss.dtype).eps ** 0.5
    if not torch.allclose(replayed, loss, rtol=tolerance, atol=tolerance, equal_nan=True):
        raise UnsupportedModule(
            f"the operations of the forward pass give a loss of {replayed.item():g} when they are repeated, and gave "
            f"{loss.item():g}: forward writes into values past their gradients (under no_grad or through .data), which "
            "inference in state form cannot repeat at other values; Z-IL in error form can learn it"
        )


def predict(vertex: Vertex, x: Sequence[Value]) -> Value:
    """μ of a vertex given the values ``x`` of those before it; inputs are in the recorded operations already."""
    return () if vertex.predict is None else vertex.predict(*(x[p] for p in vertex.parents))


def cut(value: Iterable[Tensor]) -> Value:
    """The value without the history of whatever computed it: what a vertex is given."""
    return tuple(tensor.detach().requires_grad_() for tensor in value)


def output_errors(loss: Tensor, outputs: Sequence[Value]) -> Gradients:
    """−ε_out = ∂L/∂μ_out of every output value, and of every parameter that the loss reads directly."""
    leaves = dict.fromkeys((*(leaf for value in outputs for leaf in value), *leaves_behind(loss)))
    gradients = torch.autograd.grad(loss, list(leaves), allow_unused=True)
    return {leaf: g for leaf, g in zip(leaves, gradients, strict=True) if g is not None}


def products(
    mu: Value, receivers: Sequence[Tensor], error: Sequence[Tensor | None], *, again: bool = False
) -> Sequence[Tensor | None]:
    """The vector-Jacobian products (∂μ/∂receiver)ᵀ ε; None where μ does not depend on the receiver.

    Args:
        mu: a vertex's prediction, one or more tensors.
        receivers: leaves that it was computed from.
        error: ε for each tensor of ``mu``, of its shape; None where there is none.
        again: whether others of the same prediction will be asked for.
    """
    pairs = [(m, e) for m, e in zip(mu, error, strict=True) if e is not None and m.requires_grad]
    if not receivers or not pairs:
        return [None] * len(receivers)
    roots, seeds = zip(*pairs, strict=True)
    return torch.autograd.grad(roots, receivers, seeds, allow_unused=True, retain_graph=again)


def subtract(sums: Gradients, keys: Iterable[Tensor], terms: Iterable[Tensor | None]) -> None:
    """Take each term away from the sum at its key; what is None does not count."""
    for key, term in zip(keys, terms, strict=True):
        if term is not None:
            sums[key] = sums[key] - term if key in sums else -term


def add(sums: Gradients, keys: Iterable[Tensor], terms: Iterable[Tensor | None]) -> None:
    """Add each term to the sum at its key; what is None does not count."""
    for key, term in zip(keys, terms, strict=True):
        if term is not None:
            sums[key] = sums[key] + term if key in sums else term
