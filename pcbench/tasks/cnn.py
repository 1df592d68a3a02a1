"""A small convolutional network."""

from typing import Any

import torch
from torch import Tensor, nn

FAMILY = "cnn"


class CNN(nn.Module):
    """Two convolutions, each with ReLU and max-pooling, then two linear layers with dropout between.

    Maps images ``(batch, 1, side, side)`` to logits ``(batch, classes)``; ``side`` is a multiple of 4.
    """

    def __init__(self, side: int, classes: int, channels: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(channels, 2 * channels, kernel_size=3, padding=1)
        self.hidden = nn.Linear(2 * channels * (side // 4) ** 2, hidden)
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        x = nn.functional.max_pool2d(torch.relu(self.conv1(images)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = torch.relu(self.hidden(x.flatten(1)))
        return self.readout(self.dropout(x))


def model(data: Any, **settings: Any) -> CNN:
    """The network for a data set (`pcbench.data.Dataset`), with the settings of a task's model."""
    return CNN(data.train.inputs.shape[-1], len(data.classes), **settings)
