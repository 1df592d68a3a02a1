"""What the lists of models share: wrapping a forward that takes keywords, and small inputs."""

import torch
from torch import nn


class ByKeywords(nn.Module):
    """Gives a model its tensors by name: a rule hands over positions."""

    def __init__(self, model, names, **constants):
        super().__init__()
        self.model, self.names, self.constants = model, names, constants

    def forward(self, *values):
        return self.model(**dict(zip(self.names, values, strict=True)), **self.constants)


def by_keywords(model, draw, **constants):
    """The wrapped model and its batches.

    Args:
        model: takes keywords.
        draw: returns a batch as a dict of them.
        constants: further keywords, always the same.
    """
    return ByKeywords(model, tuple(draw()), **constants), lambda: tuple(draw().values())


def image(*shape):
    """A function that draws images: one batch, a tuple of one tensor."""
    return lambda: (torch.randn(shape),)


def tokens(length=16, vocabulary=99, batch=2):
    """Random tokens; none is a special one, of which many models have the first few."""
    return torch.randint(5, vocabulary, (batch, length))
