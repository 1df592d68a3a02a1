"""ResNet-18 for small images."""

from typing import Any

from torch import nn

FAMILY = "cnn"


def small_resnet18(classes: int) -> nn.Module:
    """Torchvision's ResNet-18 with the usual stem for images of side 32: a 3 × 3 convolution, and no pooling.

    Maps images ``(batch, 3, 32, 32)`` to logits ``(batch, classes)``.
    """
    import torchvision  # slow to import, and only this needs it

    model = torchvision.models.resnet18(num_classes=classes)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def model(data: Any, **settings: Any) -> nn.Module:
    """The network for a data set (`pcbench.data.Dataset`), with the settings of a task's model."""
    return small_resnet18(len(data.classes), **settings)
