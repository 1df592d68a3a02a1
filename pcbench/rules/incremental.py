"""Incremental predictive coding: values and weights move together, at every time step.

Salvatori et al. (2024), iPC: equations (1) and (2) at t = 0 … T, without waiting for inference to end,

    Δx_i = γ ( −ε_i + Σ_{children j} (∂g_j/∂x_i)ᵀ ε_j ),      Δθ_i = α (∂g_i/∂θ_i)ᵀ ε_i.

The model's own parameters stay where they are: copies move, which the operations read in their place. What is left behind is
the whole way, (θ_0 − θ_T+1) / α, so that SGD with the learning rate α goes it.
"""

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from pcbench.errors import InvalidParameters
from pcbench.graph import Run
from pcbench.rules._base import Gradients, engine
from pcbench.rules._inference import StateForm, add, cut, predict
from pcbench.rules._waves import at_outputs, passed_back, swept, updated


class _Moved(TorchFunctionMode):
    """Operations read the values of a dict of tensors in place of its keys."""

    def __init__(self, moved):
        super().__init__()
        self.moved = moved

    def __torch_function__(self, func, types, args=(), kwargs=None):
        args, kwargs = pytree.tree_map_only(Tensor, lambda leaf: self.moved.get(leaf, leaf), (args, kwargs or {}))
        return func(*args, **kwargs)


@engine("incremental")
class Incremental(StateForm):
    """Incremental predictive coding.

    Args:
        model: see `pcbench.rules.Rule`.
        steps: T, an integer >= 0; with 0 values do not move, and only the outputs' weights learn.
        gamma: γ, the integration step of the values, > 0.
        alpha: α, the learning rate of the weights while values move, > 0.

    Raises:
        InvalidParameters: a number is out of its range.
    """

    def __init__(self, model: nn.Module, steps: int = 20, gamma: float = 0.1, alpha: float = 0.001) -> None:
        super().__init__(model)
        if not isinstance(steps, int) or steps < 0:
            raise InvalidParameters(f"steps={steps!r}: the number of inference steps is an integer >= 0")
        for name, value in (("gamma", gamma), ("alpha", alpha)):
            if not 0 < value < float("inf"):
                raise InvalidParameters(f"{name}={value!r}: it is a number > 0")
        self.steps, self.gamma, self.alpha = steps, gamma, alpha

    def _inferred(self, run: Run, loss: Tensor) -> Gradients:
        graph = run.graph
        parameters = dict.fromkeys(p for vertex in graph.vertices for p in vertex.parameters.values())
        moved = {parameter: parameter.detach().clone().requires_grad_() for parameter in parameters}
        ways: Gradients = {}
        with _Moved(moved):
            x, mu = swept(graph, {})
            for t in range(self.steps + 1):
                for i in graph.outputs:
                    x[i] = cut(mu[i])
                outputs, read = at_outputs(run, x, None if t else loss)
                errors = outputs | self._hidden(graph, x, mu)
                arriving = passed_back(graph, x, mu, errors)
                own = {copy: parameter for parameter, copy in moved.items()}
                read = {own.get(leaf, leaf): update for leaf, update in read.items()}
                updates = updated(graph, x, mu, errors, read, moved)
                add(ways, updates, updates.values())
                with torch.no_grad():
                    for parameter, update in updates.items():
                        moved.setdefault(parameter, parameter.detach().clone().requires_grad_())
                        moved[parameter] += self.alpha * update
                if t < self.steps:
                    x = [
                        self._step(vertex, value, errors, arriving)
                        for vertex, value in zip(graph.vertices, x, strict=True)
                    ]
                    mu = [predict(vertex, x) for vertex in graph.vertices]
        return {parameter: -way for parameter, way in ways.items()}

    @torch.no_grad()
    def _hidden(self, graph, x, mu):
        """ε = x − μ of all but the outputs."""
        hidden = [(v, m) for vertex, v, m in zip(graph.vertices, x, mu, strict=True) if vertex.level]
        return {a: a - b for value, prediction in hidden for a, b in zip(value, prediction, strict=True)}

    @torch.no_grad()
    def _step(self, vertex, value, errors, arriving):
        """x + Δx; a clamped value stays."""
        if vertex.level is None:
            return value
        return cut(
            leaf + self.gamma * (arriving[leaf] - errors.get(leaf, 0)) if leaf in arriving else leaf for leaf in value
        )
