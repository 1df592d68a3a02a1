"""AlexNet for small images."""

from typing import Any

from torch import Tensor, nn

FAMILY = "cnn"


class SmallAlexNet(nn.Module):
    """AlexNet's five convolutions and three linear layers, with strides and widths for images of side 32.

    Maps images ``(batch, 3, 32, 32)`` to logits ``(batch, classes)``.
    """

    def __init__(self, classes: int, width: int, dropout: float) -> None:
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

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier(self.features(images).flatten(1))


def model(data: Any, **settings: Any) -> SmallAlexNet:
    """The network for a data set (`pcbench.data.Dataset`), with the settings of a task's model."""
    return SmallAlexNet(len(data.classes), **settings)
