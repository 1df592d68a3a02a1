"""A library that is not ours: a chain of layers under cross-entropy in NumPy, backpropagation and IL written by hand."""

import numpy as np
import torch

from benchmarks.peers.peer import Peer, PeerRule


def peer(backprop=None, summed=True):
    """The library; ``backprop`` stands in for its own, ``summed`` for what it says of IL's loss."""
    return Peer(
        name="numpy",
        title="NumPy",
        version="1.0",
        packages=("numpy",),
        backprop=backprop or derivative,
        rules={
            "numpy-bp": PeerRule("by hand", "bp", lambda problem, options: derivative(problem)[1]),
            "numpy-il": PeerRule("loops", "il", inferred, summed),
        },
    )


def derivative(problem):
    """The mean loss and its derivative by the chain rule."""
    values, errors = swept(problem), None
    loss, errors = at_output(problem, values[-1])
    found = {}
    for i, layer in reversed(list(enumerate(problem.layers))):
        before, here = values[i], errors * slope(layer, values[i + 1])
        found |= learned(problem, layer, before, here)
        errors = here @ layer.weight.numpy()
    return loss, found


def inferred(problem, options):
    """T steps of γ down F = L + ½ Σ ‖x − μ‖², L summed over the batch; then the weights, over the batch's size."""
    x = swept(problem)
    for t in range(options["steps"] + 1):
        mu = [None, *(predicted(layer, x[i]) for i, layer in enumerate(problem.layers))]
        errors = [None, *(mu[i] - x[i] for i in range(1, len(x) - 1)), at_output(problem, mu[-1])[1]]
        through = [None, *(errors[i + 1] * slope(layer, mu[i + 1]) for i, layer in enumerate(problem.layers))]
        if t == options["steps"]:
            break
        moved = [
            x[i] + options["gamma"] * (errors[i] - through[i + 1] @ problem.layers[i].weight.numpy())
            for i in range(1, len(x) - 1)
        ]
        x = [x[0], *moved, mu[-1]]
    found = {}
    for i, layer in enumerate(problem.layers):
        found |= learned(problem, layer, x[i], through[i + 1])
    return found


def swept(problem):
    x = [problem.inputs.numpy()]
    for layer in problem.layers:
        x.append(predicted(layer, x[-1]))
    return x


def predicted(layer, x):
    z = x @ layer.weight.numpy().T + layer.bias.numpy()
    return np.tanh(z) if layer.tanh else z


def slope(layer, value):
    return 1 - value**2 if layer.tanh else 1.0


def at_output(problem, logits):
    """The loss, mean over the batch, and the derivative of its sum in the logits."""
    shifted = logits - logits.max(1, keepdims=True)
    log = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    hot = problem.one_hot.numpy()
    return -(hot * log).sum(1).mean().item(), np.exp(log) - hot


def learned(problem, layer, before, error):
    """The derivatives of a layer's weight and bias, over the batch."""
    weight, bias = (torch.from_numpy(each / len(problem.inputs)) for each in (error.T @ before, error.sum(0)))
    return dict(zip(problem.names(layer), (weight.to(layer.weight.dtype), bias.to(layer.bias.dtype)), strict=True))
