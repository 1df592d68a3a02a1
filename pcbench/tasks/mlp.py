"""A fully connected network."""

from typing import Any

import torch
from torch import Tensor, nn

FAMILY = "mlp"


class MLP(nn.Module):
    """Fully connected network with two hidden layers.

    Maps images ``(batch, 1, height, width)`` to logits ``(batch, classes)``.
    """

    def __init__(self, pixels: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(pixels, hidden)
        self.hidden2 = nn.Linear(hidden, hidden)
        self.readout = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        x = images.flatten(1)
        x = torch.tanh(self.hidden1(x))
        x = torch.tanh(self.hidden2(x))
        return self.readout(x)


def model(data: Any, **settings: Any) -> MLP:
    """The network for a data set (`pcbench.data.Dataset`), with the settings of a task's model."""
    return MLP(data.train.inputs[0].numel(), len(data.classes), **settings)
