"""The first weight update of a task as numbers that any library can be given: weights, biases, one batch."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from pcbench.errors import InvalidParameters
from pcbench.measure.first import FirstUpdate


@dataclass(frozen=True)
class Layer:
    """One vertex: ``g(x Wᵀ + b)``.

    Attributes:
        name: of the module in our network.
        weight, bias: ``(outputs, inputs)`` and ``(outputs,)``.
        tanh: whether g is the hyperbolic tangent; else it is the identity.
    """

    name: str
    weight: Tensor
    bias: Tensor
    tanh: bool


@dataclass(frozen=True)
class Problem:
    """A chain of layers under the cross-entropy of its logits, mean over the batch.

    Attributes:
        layers: from the inputs to the logits.
        inputs: ``(batch, features)``, in the weights' dtype.
        targets: ``(batch,)``, int64.
    """

    layers: tuple[Layer, ...]
    inputs: Tensor
    targets: Tensor

    @classmethod
    def of(cls, first: FirstUpdate) -> Self:
        """Take a first weight update's model apart.

        Raises:
            InvalidParameters: it is no chain of linear layers with a hyperbolic tangent after all but the last.
        """
        linears = [(name, each) for name, each in first.model.named_modules() if isinstance(each, nn.Linear)]
        last = len(linears) - 1
        layers = tuple(
            Layer(name, each.weight.detach(), each.bias.detach(), i < last) for i, (name, each) in enumerate(linears)
        )
        problem = cls(layers, first.inputs.flatten(1), first.targets)
        names = {name for layer in layers for name in problem.names(layer)}
        if names != {name for name, _ in first.model.named_parameters()} or not problem.is_of(first):
            raise InvalidParameters(
                f"{type(first.model).__name__} is not what the peers are given, a chain of linear layers with tanh between "
                "them; name a task whose network is `mlp`"
            )
        return problem

    def is_of(self, first: FirstUpdate) -> bool:
        """Whether the chain has the model's loss, bit for bit."""
        with torch.no_grad():
            own, expected = self.loss(), first.loss(first.model(first.inputs), first.targets)
        return torch.equal(own, expected)

    def loss(self) -> Tensor:
        """The loss of the chain, mean over the batch, a 0-d tensor."""
        x = self.inputs
        for layer in self.layers:
            x = nn.functional.linear(x, layer.weight, layer.bias)
            x = torch.tanh(x) if layer.tanh else x
        return nn.functional.cross_entropy(x, self.targets)

    @property
    def one_hot(self) -> Tensor:
        """The targets as ``(batch, classes)``, in the weights' dtype."""
        classes = len(self.layers[-1].bias)
        return nn.functional.one_hot(self.targets, classes).to(self.inputs.dtype)

    @staticmethod
    def names(layer: Layer) -> tuple[str, str]:
        """The names of a layer's parameters in our network: of its weight and of its bias."""
        return f"{layer.name}.weight", f"{layer.name}.bias"
