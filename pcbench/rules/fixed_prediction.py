"""Fixed prediction: errors relax while predictions, and their derivatives, stay those of the forward pass.

Millidge, Tschantz and Buckley (2020), algorithm 1; Rosenbaum (2022), the fixed prediction assumption. With every μ_i and
∂g_i/∂x at the values of the forward pass, from ε_i = 0 in all but the outputs, T times

    Δε_i = γ ( −ε_i + Σ_{children j} (∂g_j/∂x_i)ᵀ ε_j ),      ε_out = −∂L/∂μ_out;

then Δθ_i ∝ (∂g_i/∂θ_i)ᵀ ε_i. The fixed point has backpropagation's errors; with γ = 1 it is reached when T is the largest
level of the graph.
"""

import torch
from torch import Tensor, nn

from pcbench.errors import InvalidParameters
from pcbench.graph import Run
from pcbench.rules._base import Gradients, engine
from pcbench.rules._inference import StateForm
from pcbench.rules._waves import at_outputs, learned, passed_back, relaxed, swept


@engine("fixed-prediction")
class FixedPrediction(StateForm):
    """Predictive coding under the fixed prediction assumption.

    Args:
        model: see `pcbench.rules.Rule`.
        steps: T, an integer >= 1; None is the graph's largest level.
        gamma: γ, the integration step of the errors, > 0.

    Raises:
        InvalidParameters: a number is out of its range.
    """

    def __init__(self, model: nn.Module, steps: int | None = None, gamma: float = 1.0) -> None:
        super().__init__(model)
        if steps is not None and (not isinstance(steps, int) or steps < 1):
            raise InvalidParameters(f"steps={steps!r}: the number of inference steps is an integer >= 1")
        if not 0 < gamma < float("inf"):
            raise InvalidParameters(f"gamma={gamma!r}: the integration step is a number > 0")
        self.steps, self.gamma = steps, gamma

    def _inferred(self, run: Run, loss: Tensor) -> Gradients:
        graph = run.graph
        x, mu = swept(graph, {})
        outputs, read = at_outputs(run, x, loss)
        # Where the loss depends on a value there is an error, if only zero before the wave arrives.
        errors = {leaf: torch.zeros_like(leaf) for leaf in passed_back(graph, x, mu, outputs, onwards=True)} | outputs
        for _ in range(graph.depth if self.steps is None else self.steps):
            errors = relaxed(errors, passed_back(graph, x, mu, errors), self.gamma) | outputs
        return learned(graph, x, mu, errors, read)
