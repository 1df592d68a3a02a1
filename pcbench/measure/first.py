"""The first weight update of a task's training, on which rules are compared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from pcbench.measure.divergence import weight_update
from pcbench.measure.matched import Matched
from pcbench.randomness import global_stream
from pcbench.rules import Loss, Rule


@dataclass(frozen=True)
class FirstUpdate:
    """The first weight update of a task's training, which is the same one for every rule.

    Attributes:
        model: with the initial weights of ``seed``, in one dtype; no update changes it.
        inputs, targets: the first batch.
        loss: maps ``(outputs, targets)`` to the mean loss over the batch.
        seed: what dropout masks are drawn from.
    """

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    loss: Loss
    seed: int

    @classmethod
    def of(cls, matched: Matched, dtype: str, seed: int) -> Self:
        """Return it for one dtype, ``"float32"`` or ``"float64"``, and one seed of the initial weights and the batch.

        Raises:
            InvalidParameters: no model can be made of the task's settings.
        """
        inputs, targets = matched.first_batch(seed)
        model = matched.model(seed).to(getattr(torch, dtype))
        inputs = inputs.to(getattr(torch, dtype)) if inputs.is_floating_point() else inputs
        return cls(model, inputs, targets, matched.task.loss, seed)

    def gradients(self, rule: Callable[[nn.Module], Rule], loss: Loss | None = None) -> dict[str, Tensor | None]:
        """Return each parameter's gradient, or None, under ``rule(model)``; on another ``loss`` if one is given.

        Raises:
            NonFiniteLoss: the loss is NaN or infinite.
        """
        with global_stream(self.seed, "dropout", 0):
            return weight_update(self.model, rule, self.inputs, self.targets, loss or self.loss).gradients
