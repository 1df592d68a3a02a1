"""Error optimisation: the errors are what is optimised, and values follow from them in a sweep from the inputs.

Goemaere et al. (2025), ePC. With x_i = μ_i(x_parents; θ_i) + ε_i the energy is a function of the errors alone,

    E(ε) = ½ Σ_hidden ‖ε_i‖² + L(μ_out),      ∂E/∂ε_i = ε_i + ∂L/∂x_i,

where ∂L/∂x_i, a total derivative, travels back through all of the network at every step. From ε = 0, T steps of
Δε_i = −γ ∂E/∂ε_i; then Δθ_i ∝ (∂g_i/∂θ_i)ᵀ ε_i, with ε_out = −∂L/∂μ_out, at the values that the errors have moved. After one
step ε_i = −γ ∂L/∂x_i: of all but the outputs backpropagation's, scaled by γ.
"""

import torch
from torch import Tensor, nn

from pcbench.errors import InvalidParameters
from pcbench.graph import Run
from pcbench.rules._base import Gradients, engine
from pcbench.rules._inference import StateForm
from pcbench.rules._waves import Place, at_outputs, learned, passed_back, swept


@engine("error-optimisation")
class ErrorOptimisation(StateForm):
    """Predictive coding by gradient descent on the errors.

    Args:
        model: see `pcbench.rules.Rule`.
        steps: T, an integer >= 1.
        gamma: γ, the step of the descent, > 0.

    Raises:
        InvalidParameters: a number is out of its range.
    """

    def __init__(self, model: nn.Module, steps: int = 1, gamma: float = 1.0) -> None:
        super().__init__(model)
        if not isinstance(steps, int) or steps < 1:
            raise InvalidParameters(f"steps={steps!r}: the number of inference steps is an integer >= 1")
        if not 0 < gamma < float("inf"):
            raise InvalidParameters(f"gamma={gamma!r}: the step of the descent is a number > 0")
        self.steps, self.gamma = steps, gamma

    def _inferred(self, run: Run, loss: Tensor) -> Gradients:
        graph = run.graph
        errors: dict[Place, Tensor] = {}
        for t in range(self.steps):
            x, mu = swept(graph, errors)
            outputs, _ = at_outputs(run, x, None if t else loss)
            errors = self._descended(x, errors, passed_back(graph, x, mu, outputs, onwards=True), outputs)
        x, mu = swept(graph, errors)
        outputs, read = at_outputs(run, x)
        moved = {x[i][j]: error for (i, j), error in errors.items()}
        return learned(graph, x, mu, moved | outputs, read)

    @torch.no_grad()
    def _descended(self, x, errors, force, outputs):
        """ε − γ ∂E/∂ε, by place; ``force`` is −∂L/∂x by leaf."""
        places = {leaf: (i, j) for i, value in enumerate(x) for j, leaf in enumerate(value)}
        found = {}
        for leaf, term in force.items():
            place = places[leaf]
            if leaf not in outputs:
                found[place] = (
                    errors[place] + self.gamma * (term - errors[place]) if place in errors else self.gamma * term
                )
        return found
