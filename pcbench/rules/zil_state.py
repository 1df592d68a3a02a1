"""Equations (1) and (2), literally: every vertex at every step, without any shortcut.

    ε_i = x_i − μ_i,   μ_i = g_i(x_parents; θ_i),   ε_out = −∂L/∂μ_out
    Δx_i = γ ( −ε_i + Σ_{children j} (∂g_j/∂x_i)ᵀ ε_j )        (1)   at every step t < T
    Δθ_i ∝ (∂g_i/∂θ_i)ᵀ ε_i                                    (2)   at t = T, or at t = level(i)

IL, Z-IL and Z-IL with one of its conditions broken are this one function with different `Schedule`s. It is the oracle
of `pcbench.rules.zil`, and the engine of IL.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import get_innermost_proxy_mode

from pcbench.errors import InvalidParameters
from pcbench.rules._base import engine
from pcbench.rules._inference import StateForm, add, check_replay, cut, output_errors, predict, products, subtract


@dataclass(frozen=True)
class Schedule:
    """How the dynamics run; the defaults are Z-IL.

    Attributes:
        steps: T, the number of inference steps; ``"levels"`` is the graph's number of levels; None is one fewer, the
            time at which the error wave has reached every vertex.
        gamma: γ, the integration step of equation (1).
        sigma: σ, the standard deviation of the hidden vertices' initial error; 0 starts from the forward pass.
        layer_dependent: update θ_i at t = level(i), rather than every θ at t = T.
        levelled: pad edges that skip levels with identity vertices.

    Raises:
        InvalidParameters: a number is out of its range.
    """

    steps: int | str | None = None
    gamma: float = 1.0
    sigma: float = 0.0
    layer_dependent: bool = True
    levelled: bool = True

    def __post_init__(self):
        if self.steps not in (None, "levels") and (not isinstance(self.steps, int) or self.steps < 1):
            raise InvalidParameters(
                f"steps={self.steps!r}: the number of inference steps is an integer >= 1, or 'levels'"
            )
        if not 0 < self.gamma < float("inf"):
            raise InvalidParameters(f"gamma={self.gamma!r}: the integration step is a number > 0")
        if not 0 <= self.sigma < float("inf"):
            raise InvalidParameters(f"sigma={self.sigma!r}: the initial error's standard deviation is a number >= 0")


@engine("zil-state")
class Dynamics(StateForm):
    """Predictive coding in state form: the values x are stored, and errors are differences of values and predictions.

    Args:
        model: see `pcbench.rules.Rule`.
        schedule: see `Schedule`.
        generator: where the initial error is drawn from; required if ``schedule.sigma > 0``.
        granularity: see `pcbench.graph.Graph.from_module`.

    Raises:
        InvalidParameters: ``schedule.sigma > 0`` without a generator.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule = Schedule(),
        generator: torch.Generator | None = None,
        *,
        granularity: str = "layer",
    ) -> None:
        super().__init__(model, granularity=granularity)
        if schedule.sigma > 0 and generator is None:
            raise InvalidParameters(f"sigma={schedule.sigma} draws noise: pass the torch.Generator to draw it from")
        self.schedule = schedule
        self.generator = generator

    @classmethod
    def from_options(cls, model: nn.Module, generator: torch.Generator | None, **options: Any) -> Self:
        """See `Rule.from_options`; the options are the fields of `Schedule`."""
        return cls(model, Schedule(**options), generator)

    def _inferred(self, run, loss):
        """The dynamics; return ``{leaf: gradient}``, −Δθ."""
        graph = run.graph.levelled() if self.schedule.levelled else run.graph
        steps = {None: graph.depth, "levels": graph.depth + 1}.get(self.schedule.steps, self.schedule.steps)
        x, mu = self._initial_values(graph)
        updates = {}
        for t in range(steps + 1):

            def due(level, t=t):
                return t == (level if self.schedule.layer_dependent else steps)

            for i in graph.outputs:
                x[i] = cut(mu[i])
            outputs = [x[i] for i in graph.outputs]
            replayed = run.loss(outputs)
            # While it is captured there are no numbers to look at.
            if t == 0 and self.schedule.sigma == 0 and get_innermost_proxy_mode() is None:
                check_replay(replayed.detach(), loss)
            at_output = output_errors(replayed, outputs)
            drive = {}
            # Children first: on what has got nothing from them the loss does not depend. It has no error, not even
            # zero, and its parameters have no gradient, as under autograd.
            for i, vertex in reversed(list(enumerate(graph.vertices))):
                if vertex.level is None:
                    continue
                error = _error(vertex, x[i], mu[i], at_output, drive)
                subtract(drive, x[i], error)
                parents = [leaf for p in vertex.parents for leaf in x[p]]
                theta = list(vertex.parameters.values()) if due(vertex.level) else []
                found = products(mu[i], [*parents, *theta], error)
                add(drive, parents, found[: len(parents)])
                add(updates, theta, found[len(parents) :])
            if due(0):
                read = [leaf for leaf in at_output if not any(leaf is v for i in graph.outputs for v in x[i])]
                add(updates, read, [-at_output[leaf] for leaf in read])
            if t < steps:
                x = [self._step(vertex, value, drive) for vertex, value in zip(graph.vertices, x, strict=True)]
                mu = [predict(vertex, x) for vertex in graph.vertices]
        return {leaf: -update for leaf, update in updates.items()}

    def _initial_values(self, graph):
        """The forward pass, perturbed if σ > 0: x and μ of every vertex at t = 0."""
        x, mu = [], []
        for vertex in graph.vertices:
            mu.append(predict(vertex, x))
            noisy = self.schedule.sigma > 0 and vertex.level is not None and vertex.level > 0
            x.append(cut(map(self._perturbed, mu[-1]) if noisy else mu[-1]))
        return x, mu

    def _perturbed(self, mu):
        # Drawn on the CPU in float64, so that every device and dtype sees the same noise.
        noise = torch.randn(mu.shape, generator=self.generator, dtype=torch.float64)
        return mu + self.schedule.sigma * noise.to(mu)

    @torch.no_grad()
    def _step(self, vertex, value, drive):
        """x + Δx, equation (1); a clamped value stays."""
        if vertex.level is None:
            return value
        return cut(leaf + self.schedule.gamma * drive[leaf] if leaf in drive else leaf for leaf in value)


@torch.no_grad()
def _error(vertex, x, mu, at_output, drive):
    """ε for each tensor of the value: x − μ, or −∂L/∂μ at an output; None where the loss does not depend on it."""
    if vertex.level == 0:
        return [-at_output[leaf] if leaf in at_output else None for leaf in x]
    return [a - b if a in drive else None for a, b in zip(x, mu, strict=True)]
