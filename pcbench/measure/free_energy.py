"""The free energy: where Z-IL's inference takes it, and how far Z-IL's update is from its gradient.

    F(x, θ) = L(μ_out) + ½ Σ_i ‖x_i − μ_i‖²,   μ_i = g_i(x_parents; θ_i)      over the hidden vertices i

The loss is the output's energy: −∂L/∂μ_out is ε_out, and of L = ½‖y − μ_out‖² both are what they are at a hidden vertex. Then
equations (1) and (2) are descent on F in x and in θ, with all errors those of *one* point x:

    −∂F/∂x_i = −ε_i + Σ_{children j} (∂g_j/∂x_i)ᵀ ε_j,      −∂F/∂θ_i = (∂g_i/∂θ_i)ᵀ ε_i

Z-IL updates θ_i by the error that vertex i has at t = level(i), another time for every level, and what comes out is −dL/dθ:
with x(0) the forward pass's values, at which every hidden error is zero, −d/dθ F(x(0; θ), θ). Compared with it is −∂F/∂θ

- *settled*, at x* = argmin_x F, where IL comes to rest. As ∂F/∂x is zero there, it is −d/dθ min_x F. The graph is IL's,
  without identity vertices: these are Z-IL's, and in F they would be variables of their own.
- *at one time*, at the values x(t) of Z-IL's own inference, t = 0 … the largest level: on the levelled graph, γ = 1. The last
  of them is the update of Z-IL that is not layer-dependent.

How far the settled one is depends on the scale of L. The smaller ∂L/∂μ_out, the less the values move, and the nearer are
settled errors to backpropagation's. So L is taken as it is trained on, a mean over the batch, and as the sum over its
examples: then F is the sum of the examples' own free energies, whatever the batch.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from pcbench.files import finite_or_none
from pcbench.graph import Graph, Run
from pcbench.measure.divergence import compare, norm_of
from pcbench.measure.first import FirstUpdate
from pcbench.params import Result, Settings
from pcbench.rules import Rule
from pcbench.rules._base import Gradients
from pcbench.rules._inference import StateForm, Value, cut, predict

HISTORY = 10  # of L-BFGS: pairs of values and slopes that it keeps


def free_energy(first: FirstUpdate, zil: Callable[[nn.Module], Rule], settings: Settings, reduction: str) -> Result:
    """Follow F along Z-IL's inference, minimise it over the values, and compare Z-IL's update with its gradients.

    Args:
        first: the weight update, on a loss that is a mean over the batch.
        zil: makes Z-IL of a model, in either form.
        settings: among others ``residual`` and ``evaluations``, see `Settled`.
        reduction: ``"mean"`` over the batch, or ``"sum"``.

    Returns:
        A JSON value: ``energy``, F(t) along Z-IL's inference; ``at_one_time``, lists of ``cosine`` and ``relative_l2`` over
        t; ``settled``, one of each, with ``energy``, the least F, and what `Settled` says of the descent.
        The cosine is that of the angle between −∂F/∂θ and Z-IL's update, all parameters together; ``relative_l2`` is their
        distance over the norm of Z-IL's update. None stands for what is not a finite number.

    Raises:
        NonFiniteLoss: the loss is NaN or infinite.
        UnsupportedModule: see `pcbench.rules.Rule.backward`.
    """
    scale = len(first.targets) if reduction == "sum" else 1

    def loss(outputs, targets):
        return scale * first.loss(outputs, targets)

    made: list[Settled] = []

    def settling(model):
        made.append(Settled(model, settings["residual"], settings["evaluations"]))
        return made[-1]

    update, settled = first.gradients(zil, loss), first.gradients(settling, loss)
    (rule,) = made
    names: dict[Tensor, str] = {parameter: name for name, parameter in rule.model.named_parameters()}
    passed = [{**dict.fromkeys(update), **{names[leaf]: g for leaf, g in found.items()}} for found in rule.slopes]
    descent = {key: finite_or_none(value) for key, value in rule.descent.items()}
    return {
        "energy": [finite_or_none(value) for value in rule.energies],
        "at_one_time": {
            "cosine": [cosine(found, update) for found in passed],
            "relative_l2": [_distance(found, update) for found in passed],
        },
        "settled": {**descent, "cosine": cosine(settled, update), "relative_l2": _distance(settled, update)},
    }


class Settled(StateForm):
    """IL that has come to rest: θ learns by −∂F/∂θ at the values at which F is least.

    They are found by L-BFGS from the forward pass's values, which takes tens of evaluations where equation (1) takes hundreds
    of steps; both stand still where ∂F/∂x = 0. At a kink of the network (ReLU, max pooling) F may be least without that.

    Args:
        model: see `pcbench.rules.Rule`.
        residual: the descent ends where the largest element of ∂F/∂x is no larger than this part of what it was at first,
        evaluations: or after so many evaluations of F.

    Attributes:
        energies: F(t) along Z-IL's inference, for t = 0 … the largest level, and
        slopes: ∂F/∂θ there, a dict by parameter for each t.
        descent: the least ``energy``, the ``residual`` that was left, and how many ``evaluations`` it took.
    """

    def __init__(self, model: nn.Module, residual: float, evaluations: int) -> None:
        super().__init__(model)
        self.residual, self.evaluations = residual, evaluations
        self.energies: list[float] = []
        self.slopes: list[Gradients] = []
        self.descent: Result = {}

    def _inferred(self, run: Run, loss: Tensor) -> Gradients:
        """Return ``{leaf: ∂F/∂θ}`` of the settled values."""
        self.energies, self.slopes = followed(run)
        graph = run.graph
        x = [tuple(map(_owned, value)) for value in _forward(graph)]
        hidden = _hidden(graph, x)
        evaluated = 0

        def evaluate():
            nonlocal evaluated
            evaluated += 1
            value = energy(run, graph, x)
            for leaf, slope in zip(hidden, torch.autograd.grad(value, hidden), strict=True):
                leaf.grad = slope.contiguous()
            return value.detach()

        evaluate()
        steepest = _largest(leaf.grad for leaf in hidden)
        torch.optim.LBFGS(
            hidden,
            max_iter=self.evaluations,
            max_eval=self.evaluations,
            history_size=HISTORY,
            tolerance_grad=self.residual * steepest,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        ).step(evaluate)
        least, slopes, learned = _slopes(run, graph, x)
        left = _largest(slopes) / steepest if steepest else 0.0
        self.descent = {"energy": least, "residual": left, "evaluations": evaluated}
        return learned


def energy(run: Run, graph: Graph, x: Sequence[Value]) -> Tensor:
    """F at the values ``x``, a 0-d tensor; an output's value is its prediction, and a clamped one's is not read.

    Args:
        run: a recorded run with its loss.
        graph: its graph, levelled or not.
        x: the value of each vertex, cut from what came before it.
    """
    mu = [predict(vertex, x) for vertex in graph.vertices]
    apart = [a - b for i in _hidden_places(graph) for a, b in zip(x[i], mu[i], strict=True)]
    loss = run.loss([mu[i] for i in graph.outputs]).reshape(())
    return loss + sum(each.square().sum() for each in apart) / 2


def followed(run: Run) -> tuple[list[float], list[Gradients]]:
    """F and ``{parameter: ∂F/∂θ}`` at each time of Z-IL's inference: x − ∂F/∂x from the forward pass's values."""
    graph = run.graph.levelled()
    x, energies, learned = _forward(graph), [], []
    for _ in range(graph.depth + 1):
        value, slopes, of_parameters = _slopes(run, graph, x)
        energies.append(value)
        learned.append(of_parameters)
        of = dict(zip(_hidden(graph, x), slopes, strict=True))
        with torch.no_grad():
            x = [cut(leaf - of[leaf] if leaf in of else leaf for leaf in value) for value in x]
    return energies, learned


def cosine(a: Mapping[str, Tensor | None], b: Mapping[str, Tensor | None]) -> float | None:
    """The cosine of the angle between two sets of tensors, each taken as one vector; None if one is zero or not finite.

    Args:
        a, b: tensors of the same names and shapes; where one has None, it is zero.
    """
    pairs = [(g, b[name]) for name, g in a.items()]
    product = sum(float((g * h).sum()) for g, h in pairs if g is not None and h is not None)
    norms = math.hypot(*(_norm(g) for g in a.values())) * math.hypot(*(_norm(g) for g in b.values()))
    return finite_or_none(product / norms) if norms else None


def _norm(tensor):
    return 0.0 if tensor is None else norm_of(tensor)


def _distance(found, update):
    zeros = {name: None if g is None else torch.zeros_like(g) for name, g in update.items()}
    filled = {name: zeros[name] if g is None else g for name, g in found.items()}
    return finite_or_none(compare(filled, update).relative_l2)


def _slopes(run, graph, x):
    """F, ∂F/∂x of each hidden value's tensors, and ``{parameter: ∂F/∂θ}`` of those that F depends on."""
    hidden = _hidden(graph, x)
    theta = list(dict.fromkeys(p for v in graph.vertices for p in v.parameters.values() if p.requires_grad))
    value = energy(run, graph, x)
    found = torch.autograd.grad(value, [*hidden, *theta], allow_unused=True)
    learned = {p: g for p, g in zip(theta, found[len(hidden) :], strict=True) if g is not None}
    return value.item(), found[: len(hidden)], learned


def _forward(graph: Graph) -> list[Value]:
    """The forward pass's values, cut."""
    x: list[Value] = []
    for vertex in graph.vertices:
        x.append(cut(predict(vertex, x)))
    return x


def _hidden_places(graph):
    return [i for i, vertex in enumerate(graph.vertices) if vertex.level is not None and vertex.level > 0]


def _hidden(graph, x):
    return [leaf for i in _hidden_places(graph) for leaf in x[i]]


def _owned(leaf):
    """A leaf with memory of its own, which the optimizer writes into."""
    return leaf.detach().clone(memory_format=torch.contiguous_format).requires_grad_()


def _largest(tensors: Iterable[Tensor]) -> float:
    return max((float(tensor.abs().max()) for tensor in tensors if tensor.numel()), default=0.0)
