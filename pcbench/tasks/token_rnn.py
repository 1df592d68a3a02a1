"""A recurrent network that reads texts."""

from typing import Any

from torch import Tensor, nn

FAMILY = "rnn"


class TokenRNN(nn.Module):
    """Many-to-one recurrent network that reads a text token by token; a token may be a character or a word.

    Maps token ids ``(batch, length)``, padded with 0 on the left so that every text ends at the last step, to
    logits ``(batch, classes)``. Only the last ``steps`` tokens are read: few surnames are longer.
    """

    def __init__(self, tokens: int, classes: int, steps: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.steps = steps
        self.embedding = nn.Embedding(tokens, embedding, padding_idx=0)
        self.cell = nn.RNNCell(embedding, hidden)
        self.readout = nn.Linear(hidden, classes)

    def forward(self, texts: Tensor) -> Tensor:
        """Return the logits."""
        embedded = self.embedding(texts[:, -self.steps :])
        state = embedded.new_zeros(embedded.shape[0], self.cell.hidden_size)
        for token in embedded.unbind(1):
            state = self.cell(token, state)
        return self.readout(state)


def model(data: Any, **settings: Any) -> TokenRNN:
    """The network for a data set (`pcbench.data.Dataset`), with the settings of a task's model."""
    return TokenRNN(len(data.vocabulary), len(data.classes), **settings)
