"""IL, the approximation of backpropagation: the dynamics of `pcbench.rules.zil_state` under another schedule."""

from typing import Any, Self

from torch import Generator, nn

from pcbench.rules._base import engine
from pcbench.rules.zil_state import Dynamics, Schedule


@engine("il")
class InferenceLearning(Dynamics):
    """IL: ``steps`` steps of equation (1) from the forward pass's values, then equation (2) once, everywhere.

    Args:
        model: see `pcbench.rules.Rule`.
        steps: T, the number of inference steps, or ``"levels"``.
        gamma: γ, the integration step.
        graph_options: ``granularity``, see `Dynamics`.

    Raises:
        InvalidParameters: see `Schedule`.
    """

    def __init__(self, model: nn.Module, steps: int | str = 20, gamma: float = 0.1, **graph_options: Any) -> None:
        schedule = Schedule(steps=steps, gamma=gamma, layer_dependent=False, levelled=False)
        super().__init__(model, schedule, **graph_options)

    @classmethod
    def from_options(cls, model: nn.Module, generator: Generator | None, **options: Any) -> Self:
        """See `Rule.from_options`; nothing is drawn."""
        return cls(model, **options)
