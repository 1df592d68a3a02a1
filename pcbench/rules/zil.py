"""Z-IL in error form: each vertex is visited once, when the error wave reaches it.

Under Z-IL's three conditions (docs/architecture.md, "The mathematics") equations (1) and (2) collapse: before the wave
arrives a vertex's error is zero, so that it and its parents stand still; at t = level(i) its whole error arrives at once,

    ε_i = Σ_{children j} (∂g_j/∂x_i)ᵀ ε_j,        Δθ_i ∝ (∂g_i/∂θ_i)ᵀ ε_i.

Carrying ε itself, rather than x and then x − μ, leaves out the rounding of (μ + ε) − μ, and what remains are autograd's
own local computations, in its own order (`pcbench.values`). The code carries −ε, the sign that optimizers descend: the
magnitudes are the same, and so is then the sign of every zero.
"""

from typing import Any

import torch
from torch import Tensor

from pcbench.parallel import in_parallel
from pcbench.passing import one_pass
from pcbench.rules._base import Gradients, Loss, Rule, check_finite, check_loss, engine, learn
from pcbench.values import Values


@engine("zil")
class ZIL(Rule):
    """Zero-divergence inference learning (Song et al. 2020; Salvatori et al. 2021, 2022), local and exact."""

    def gradients(self, inputs: Any, targets: Any, loss_fn: Loss) -> tuple[Tensor, Gradients]:
        """See `Rule.gradients`.

        Raises:
            UnsupportedModule: see `pcbench.values.Values`.
        """
        values, outputs, loss = self._forward(inputs, targets, loss_fn)
        with one_pass():
            return loss, values.pass_back(outputs, _errors(loss))

    def backward(self, inputs: Any, targets: Any, loss_fn: Loss) -> Tensor:
        """See `Rule.backward`.

        Where a process group is initialised, each parameter gets its gradient when the wave has passed all that read it.

        Raises:
            UnsupportedModule: see `pcbench.values.Values`.
        """
        values, outputs, loss = self._forward(inputs, targets, loss_fn)
        check_finite(loss)
        with one_pass():
            # One by one takes longer. Where processes learn together, it is what lets them average while errors travel.
            learn(values.pass_back(outputs, _errors(loss), learn=in_parallel()))
        return loss

    def _forward(self, inputs, targets, loss_fn):
        with Values(self.model) as values:
            loss = loss_fn(self.model(*self._arguments(inputs)), targets)
        check_loss(loss)
        return values, [loss], loss.detach()


def _errors(loss):
    return [torch.ones_like(loss, memory_format=torch.preserve_format)]
