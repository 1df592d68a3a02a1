"""A Transformer encoder that reads images."""

from typing import Any

import torch
from torch import Tensor, nn

FAMILY = "transformer"


class RowTransformer(nn.Module):
    """Transformer encoder whose tokens are an image's rows.

    Maps images ``(batch, 1, tokens, features)`` to logits ``(batch, classes)``: the mean over tokens is read out.
    """

    def __init__(
        self, tokens: int, features: int, classes: int, width: int, heads: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Linear(features, width)
        self.position = nn.Parameter(torch.randn(tokens, width) / width**0.5)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.readout = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        tokens = self.embedding(images.squeeze(1)) + self.position
        return self.readout(self.encoder(tokens).mean(dim=1))


def model(data: Any, **settings: Any) -> RowTransformer:
    """The network for a data set (`pcbench.data.Dataset`), with the settings of a task's model."""
    tokens, features = data.train.inputs.shape[-2:]
    return RowTransformer(tokens, features, len(data.classes), **settings)
