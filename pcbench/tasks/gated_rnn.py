"""An LSTM or a GRU that reads texts."""

from typing import Any

from torch import Tensor, nn

import pcbench.nn

FAMILY = "rnn"


class GatedTokenRNN(nn.Module):
    """Many-to-one LSTM or GRU that reads a text token by token; input and output as `pcbench.tasks.token_rnn.TokenRNN`."""

    def __init__(self, tokens: int, classes: int, kind: str, steps: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.steps = steps
        self.embedding = nn.Embedding(tokens, embedding, padding_idx=0)
        self.recurrent = getattr(pcbench.nn, kind)(embedding, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, classes)

    def forward(self, texts: Tensor) -> Tensor:
        """Return the logits."""
        states, _ = self.recurrent(self.embedding(texts[:, -self.steps :]))
        return self.readout(states[:, -1])


def model(data: Any, **settings: Any) -> GatedTokenRNN:
    """The network for a data set (`pcbench.data.Dataset`), with the settings of a task's model."""
    return GatedTokenRNN(len(data.vocabulary), len(data.classes), **settings)
