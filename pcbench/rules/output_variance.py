"""A variance at the output: Whittington and Bogacz (2017).

The energy weighs the output's error by its variance v, hidden errors by one,

    F = ½ Σ_hidden ‖ε_i‖² + L(μ_out) / v;

inference is IL's, and weights learn v times as fast. As v grows, hidden values stay ever nearer to the forward pass's, and at
equilibrium the weights' changes tend to backpropagation's: what is between them vanishes as 1 / v.
"""

from typing import Any

from torch import Tensor, nn

from pcbench.errors import InvalidParameters
from pcbench.rules._base import Gradients, Loss, engine
from pcbench.rules.il import InferenceLearning


@engine("output-variance")
class OutputVariance(InferenceLearning):
    """IL with a variance at the output.

    Args:
        model: see `pcbench.rules.Rule`.
        variance: v, the output's variance over the hidden values', > 0; 1 is IL.
        steps: T, the number of inference steps, or ``"levels"``.
        gamma: γ, the integration step.

    Raises:
        InvalidParameters: a number is out of its range.
    """

    def __init__(self, model: nn.Module, variance: float = 100.0, steps: int | str = 20, gamma: float = 0.1) -> None:
        super().__init__(model, steps, gamma)
        if not 0 < variance < float("inf"):
            raise InvalidParameters(f"variance={variance!r}: the output's variance is a number > 0")
        self.variance = variance

    def gradients(self, inputs: Any, targets: Any, loss_fn: Loss) -> tuple[Tensor, Gradients]:
        """See `pcbench.rules.Rule.gradients`."""
        loss, found = super().gradients(inputs, targets, lambda *pair: loss_fn(*pair) / self.variance)
        return loss * self.variance, {leaf: gradient * self.variance for leaf, gradient in found.items()}
