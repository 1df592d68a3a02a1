"""A recurrent network that reads images."""

from typing import Any

from torch import Tensor, nn

FAMILY = "rnn"


class RowRNN(nn.Module):
    """Many-to-one recurrent network that reads an image row by row.

    Maps images ``(batch, 1, steps, features)`` to logits ``(batch, classes)``: the last hidden state is read out.
    """

    def __init__(self, features: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.RNNCell(features, hidden)
        self.readout = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        state = images.new_zeros(images.shape[0], self.cell.hidden_size)
        for row in images.squeeze(1).unbind(1):
            state = self.cell(row, state)
        return self.readout(state)


def model(data: Any, **settings: Any) -> RowRNN:
    """The network for a data set (`pcbench.data.Dataset`), with the settings of a task's model."""
    return RowRNN(data.train.inputs.shape[-1], len(data.classes), **settings)
