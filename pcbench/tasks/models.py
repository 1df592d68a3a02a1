"""The models: each a page that reads like the method section."""

import torch
from torch import nn

import pcbench.nn


class MLP(nn.Module):
    """Fully connected network with two hidden layers.

    Maps images ``(batch, 1, height, width)`` to logits ``(batch, classes)``.
    """

    def __init__(self, pixels, classes, hidden):
        super().__init__()
        self.hidden1 = nn.Linear(pixels, hidden)
        self.hidden2 = nn.Linear(hidden, hidden)
        self.readout = nn.Linear(hidden, classes)

    def forward(self, images):
        """Return the logits."""
        x = images.flatten(1)
        x = torch.tanh(self.hidden1(x))
        x = torch.tanh(self.hidden2(x))
        return self.readout(x)


class CNN(nn.Module):
    """Two convolutions, each with ReLU and max-pooling, then two linear layers with dropout between.

    Maps images ``(batch, 1, side, side)`` to logits ``(batch, classes)``; ``side`` is a multiple of 4.
    """

    def __init__(self, side, classes, channels, hidden, dropout):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(channels, 2 * channels, kernel_size=3, padding=1)
        self.hidden = nn.Linear(2 * channels * (side // 4) ** 2, hidden)
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Linear(hidden, classes)

    def forward(self, images):
        """Return the logits."""
        x = nn.functional.max_pool2d(torch.relu(self.conv1(images)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = torch.relu(self.hidden(x.flatten(1)))
        return self.readout(self.dropout(x))


class RowRNN(nn.Module):
    """Many-to-one recurrent network that reads an image row by row.

    Maps images ``(batch, 1, steps, features)`` to logits ``(batch, classes)``: the last hidden state is read out.
    """

    def __init__(self, features, classes, hidden):
        super().__init__()
        self.cell = nn.RNNCell(features, hidden)
        self.readout = nn.Linear(hidden, classes)

    def forward(self, images):
        """Return the logits."""
        state = images.new_zeros(images.shape[0], self.cell.hidden_size)
        for row in images.squeeze(1).unbind(1):
            state = self.cell(row, state)
        return self.readout(state)


class TokenRNN(nn.Module):
    """Many-to-one recurrent network that reads a text token by token; a token may be a character or a word.

    Maps token numbers ``(batch, length)``, padded with 0 on the left so that every text ends at the last step, to
    logits ``(batch, classes)``. Only the last ``steps`` tokens are read: few surnames are longer.
    """

    def __init__(self, tokens, classes, steps, embedding, hidden):
        super().__init__()
        self.steps = steps
        self.embedding = nn.Embedding(tokens, embedding, padding_idx=0)
        self.cell = nn.RNNCell(embedding, hidden)
        self.readout = nn.Linear(hidden, classes)

    def forward(self, texts):
        """Return the logits."""
        embedded = self.embedding(texts[:, -self.steps :])
        state = embedded.new_zeros(embedded.shape[0], self.cell.hidden_size)
        for token in embedded.unbind(1):
            state = self.cell(token, state)
        return self.readout(state)


class GatedTokenRNN(nn.Module):
    """Many-to-one LSTM or GRU that reads a text token by token; input and output as `TokenRNN`."""

    def __init__(self, tokens, classes, kind, steps, embedding, hidden):
        super().__init__()
        self.steps = steps
        self.embedding = nn.Embedding(tokens, embedding, padding_idx=0)
        self.recurrent = getattr(pcbench.nn, kind)(embedding, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, classes)

    def forward(self, texts):
        """Return the logits."""
        states, _ = self.recurrent(self.embedding(texts[:, -self.steps :]))
        return self.readout(states[:, -1])


class SmallAlexNet(nn.Module):
    """AlexNet's five convolutions and three linear layers, with strides and widths for images of side 32.

    Maps images ``(batch, 3, 32, 32)`` to logits ``(batch, classes)``.
    """

    def __init__(self, classes, width, dropout):
        super().__init__()
        pool = nn.MaxPool2d(2)
        self.features = nn.Sequential(
            *(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(inplace=True), pool),
            *(nn.Conv2d(width, 3 * width, 3, padding=1), nn.ReLU(inplace=True), pool),
            *(nn.Conv2d(3 * width, 6 * width, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(6 * width, 4 * width, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(4 * width, 4 * width, 3, padding=1), nn.ReLU(inplace=True), pool),
        )
        self.classifier = nn.Sequential(
            *(nn.Dropout(dropout), nn.Linear(4 * width * 4 * 4, 16 * width), nn.ReLU(inplace=True)),
            *(nn.Dropout(dropout), nn.Linear(16 * width, 16 * width), nn.ReLU(inplace=True)),
            nn.Linear(16 * width, classes),
        )

    def forward(self, images):
        """Return the logits."""
        return self.classifier(self.features(images).flatten(1))


def small_resnet18(classes):
    """Torchvision's ResNet-18 with the usual stem for images of side 32: a 3 × 3 convolution, and no pooling.

    Maps images ``(batch, 3, 32, 32)`` to logits ``(batch, classes)``.
    """
    import torchvision  # slow to import, and no other model needs it

    model = torchvision.models.resnet18(num_classes=classes)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


class RowTransformer(nn.Module):
    """Transformer encoder whose tokens are an image's rows.

    Maps images ``(batch, 1, tokens, features)`` to logits ``(batch, classes)``: the mean over tokens is read out.
    """

    def __init__(self, tokens, features, classes, width, heads, layers, dropout):
        super().__init__()
        self.embedding = nn.Linear(features, width)
        self.position = nn.Parameter(torch.randn(tokens, width) / width**0.5)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.readout = nn.Linear(width, classes)

    def forward(self, images):
        """Return the logits."""
        tokens = self.embedding(images.squeeze(1)) + self.position
        return self.readout(self.encoder(tokens).mean(dim=1))
