"""Z-IL in error form: each vertex is visited once, when the error wave reaches it.

Under Z-IL's three conditions (design page, section 2) equations (1) and (2) collapse: before the wave arrives a
vertex's error is zero, so that it and its parents stand still; at t = level(i) its whole error arrives at once,

    ε_i = Σ_{children j} (∂g_j/∂x_i)ᵀ ε_j,        Δθ_i ∝ (∂g_i/∂θ_i)ᵀ ε_i.

Carrying ε itself, rather than x and then x − μ, leaves out the rounding of (μ + ε) − μ, and what remains are autograd's
own local computations. To be bit-identical to autograd the sums must also have its order: it visits operations from the
last to the first and adds each contribution to what has arrived. The code carries −ε, the sign that optimizers descend:
the magnitudes are the same, and so is then the sign of every zero.
"""

import torch

from pcbench.rules._base import GraphRule, accumulate, check_loss, detached, map_leaves, tensors


class ZIL(GraphRule):
    """Zero-divergence inference learning (Song et al. 2020; Salvatori et al. 2021, 2022), local and exact."""

    def backward(self, inputs, targets, loss_fn):
        """See `Rule.backward`."""
        arguments = self._arguments(inputs)
        graph = self.graph(arguments)
        values, predictions = predict_all(graph, arguments)
        outputs = [values[i] for i in graph.outputs]
        loss, arrived = output_errors(self.model, graph.assemble(outputs), targets, loss_fn)
        for i in reversed(range(graph.inputs, len(graph.vertices))):
            _visit(graph.vertices[i], values, predictions, i, arrived)
        accumulate({p: gradient for p, gradient in arrived.items() if isinstance(p, torch.nn.Parameter)})
        return loss


def predict_all(graph, arguments):
    """Run every vertex once, in order, each on detached parents.

    Returns:
        ``values[i]``, the detached x_i that the children of vertex i read, and ``predictions[i]``, the μ_i (the same
        numbers) that is differentiated; no autograd graph reaches further back than the parents of its own vertex. What
        a vertex passes on as it is (``x.float()`` of a float) stays the parent's own x, as under autograd: else the
        errors of its readers would be summed apart, in another order.
    """
    values, predictions = tensors(arguments), [None] * graph.inputs
    for vertex in graph.vertices[graph.inputs :]:
        prediction = vertex.predict(*(values[p] for p in vertex.parents))
        predictions.append(prediction)
        values.append(map_leaves(_value, prediction))
    return values, predictions


def _value(mu):
    passed_on = isinstance(mu, torch.Tensor) and mu.is_leaf and mu.requires_grad
    return mu if passed_on else detached(mu)


def output_errors(model, outputs, targets, loss_fn, check=True):
    """The loss, and −ε_out = ∂L/∂μ_out of every output (and of every parameter that the loss reads directly).

    Returns:
        ``(loss, {tensor: gradient})``.
    """
    loss = loss_fn(outputs, targets)
    if check:
        check_loss(loss)
    own = loss_fn.parameters() if isinstance(loss_fn, torch.nn.Module) else ()
    leaves = dict.fromkeys(x for x in (*tensors(outputs), *model.parameters(), *own) if x.requires_grad)
    gradients = torch.autograd.grad(loss, list(leaves), allow_unused=True)
    return loss.detach(), {x: g for x, g in zip(leaves, gradients, strict=True) if g is not None}


def _visit(vertex, values, predictions, i, arrived):
    """Pass the error of vertex ``i`` on to its parents and its parameters: one local vector-Jacobian product."""
    pairs = zip(tensors(values[i]), tensors(predictions[i]), strict=True)
    errors = [(mu, arrived.pop(x)) for x, mu in pairs if x is not mu and x in arrived]
    values[i] = predictions[i] = None
    if not errors:
        return
    parents = [x for p in vertex.parents for x in tensors(values[p])]
    receivers = [r for r in (*parents, *vertex.parameters.values()) if r.requires_grad]
    if not receivers:
        return
    # What has already arrived enters as the receiver's own seed, so that autograd adds to it in its usual order.
    seeded = [(r, arrived[r]) for r in receivers if r in arrived]
    roots, seeds = zip(*errors, *seeded, strict=True)
    gradients = torch.autograd.grad(roots, receivers, seeds, allow_unused=True)
    arrived.update((r, g) for r, g in zip(receivers, gradients, strict=True) if g is not None)
