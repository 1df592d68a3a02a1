"""What rules share that keep errors, not values: a forward sweep, errors passed back by one edge or all the way, learning."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_innermost_proxy_mode

from pcbench.graph import Graph, Run
from pcbench.rules._base import Gradients
from pcbench.rules._inference import Value, add, check_replay, cut, output_errors, predict, products

Place = tuple[int, int]  # a vertex, and the number of a tensor of its value


def swept(graph: Graph, errors: Mapping[Place, Tensor]) -> tuple[list[Value], list[Value]]:
    """x and μ of every vertex in one sweep from the inputs: x = μ + ε.

    Args:
        graph: see `pcbench.graph.Graph`.
        errors: ε, by its place, of the tensor's shape; none is zero.

    Returns:
        Lists by vertex; every x is a leaf, which no history joins to the μ that it was made from.
    """
    x: list[Value] = []
    mu: list[Value] = []
    for i, vertex in enumerate(graph.vertices):
        mu.append(predict(vertex, x))
        x.append(cut(m + errors[i, j] if (i, j) in errors else m for j, m in enumerate(mu[-1])))
    return x, mu


def at_outputs(run: Run, x: list[Value], loss: Tensor | None = None) -> tuple[Gradients, Gradients]:
    """ε_out = −∂L/∂μ_out at the output values, and −∂L/∂θ of the parameters that the loss reads directly.

    Args:
        run: the recorded forward pass.
        x: the values of all vertices.
        loss: the forward's own, where these are its values: it is compared.

    Raises:
        UnsupportedModule: see `pcbench.rules._inference.check_replay`.
    """
    outputs = [x[i] for i in run.graph.outputs]
    replayed = run.loss(outputs)
    if loss is not None and get_innermost_proxy_mode() is None:
        check_replay(replayed.detach(), loss)
    found = {leaf: -gradient for leaf, gradient in output_errors(replayed, outputs).items()}
    values = {leaf for value in outputs for leaf in value}
    return (
        {leaf: error for leaf, error in found.items() if leaf in values},
        {leaf: error for leaf, error in found.items() if leaf not in values},
    )


def passed_back(
    graph: Graph, x: list[Value], mu: list[Value], errors: Mapping[Tensor, Tensor], *, onwards: bool = False
) -> Gradients:
    """Σ_{children j} (∂g_j/∂x_i)ᵀ ε_j for every tensor of a value that gets any.

    Args:
        graph, x, mu: see `swept`.
        errors: ε by leaf of ``x``.
        onwards: whether what arrives at a value is its error for the next edge, as it travels back through all of the graph;
            ``errors`` are then the outputs'.
    """
    arriving: Gradients = {}
    for i, vertex in reversed(list(enumerate(graph.vertices))):
        if vertex.level is not None:
            known = arriving if onwards and vertex.level > 0 else errors
            parents = [leaf for p in vertex.parents for leaf in x[p]]
            add(arriving, parents, products(mu[i], parents, [known.get(leaf) for leaf in x[i]], again=True))
    return arriving


def learned(
    graph: Graph, x: list[Value], mu: list[Value], errors: Mapping[Tensor, Tensor], read: Gradients
) -> Gradients:
    """The gradients −Δθ_i = −(∂g_i/∂θ_i)ᵀ ε_i, see `updated`."""
    return {leaf: -update for leaf, update in updated(graph, x, mu, errors, read).items()}


def updated(
    graph: Graph,
    x: list[Value],
    mu: list[Value],
    errors: Mapping[Tensor, Tensor],
    read: Gradients,
    moved: Mapping[Tensor, Tensor] | None = None,
) -> Gradients:
    """Δθ_i = (∂g_i/∂θ_i)ᵀ ε_i by parameter, with those of the parameters that the loss reads directly.

    Args:
        graph, x, mu: see `swept`.
        errors: ε by leaf of ``x``.
        read: see `at_outputs`.
        moved: the tensors that were read in parameters' place, by parameter.
    """
    updates = dict(read)
    for i, vertex in reversed(list(enumerate(graph.vertices))):
        theta = list(vertex.parameters.values())
        receivers = theta if moved is None else [moved[parameter] for parameter in theta]
        add(updates, theta, products(mu[i], receivers, [errors.get(leaf) for leaf in x[i]], again=True))
    return updates


@torch.no_grad()
def relaxed(errors: Mapping[Tensor, Tensor], arriving: Mapping[Tensor, Tensor], gamma: float) -> Gradients:
    """ε + γ (−ε + what arrives), for every value that something arrives at; γ = 1 leaves what has arrived, to the bit."""
    return {
        leaf: (1 - gamma) * errors[leaf] + gamma * term if leaf in errors and gamma != 1 else gamma * term
        for leaf, term in arriving.items()
    }
