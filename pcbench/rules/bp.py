"""Backpropagation, by PyTorch's autograd: the reference that everything is compared with."""

from typing import Any

import torch
from torch import Tensor

from pcbench.rules._base import Gradients, Loss, Rule, check_finite, check_loss, engine, leaves_behind


@engine("bp")
class Backprop(Rule):
    """Reverse-mode differentiation of the whole model at once."""

    def backward(self, inputs: Any, targets: Any, loss_fn: Loss) -> Tensor:
        """See `Rule.backward`."""
        loss = self._loss(inputs, targets, loss_fn)
        check_finite(loss)
        loss.backward()
        return loss.detach()

    def gradients(self, inputs: Any, targets: Any, loss_fn: Loss) -> tuple[Tensor, Gradients]:
        """See `Rule.gradients`."""
        loss = self._loss(inputs, targets, loss_fn)
        leaves = leaves_behind(loss)
        found = torch.autograd.grad(loss, leaves, allow_unused=True)
        return loss.detach(), {leaf: g for leaf, g in zip(leaves, found, strict=True) if g is not None}

    def _loss(self, inputs, targets, loss_fn):
        loss = loss_fn(self.model(*self._arguments(inputs)), targets)
        check_loss(loss)
        return loss
