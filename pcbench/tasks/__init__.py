"""What is learned by what: one file a network. A task, a network with a data set and numbers, stands in params.yaml."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pcbench import code

__all__ = ["Task", "named"]


@dataclass(frozen=True)
class Task:
    """A learning problem, without its data.

    Attributes:
        name: as in params.yaml and on the command line.
        family: ``"mlp"``, ``"cnn"``, ``"rnn"`` or ``"transformer"``: the kind of network that the claims are about.
        network: maps the data set (`pcbench.data.Dataset`) and the model's numbers from params.yaml to a new module,
            initialised from torch's global generator.
        loss: maps ``(logits, targets)`` to the mean loss over the batch, a 0-d tensor.
    """

    name: str
    family: str
    network: Callable[..., nn.Module]
    loss: Callable[[Any, Any], Tensor] = nn.functional.cross_entropy


def named(name: str, network: str) -> Task:
    """Return the task of that name, which trains the network in this folder's file ``network``.

    Raises:
        InvalidParameters: there is no such file.
    """
    # By name, so that a task depends on its own network's code and on no other's.
    module = importlib.import_module(code.module_name("network", network))
    return Task(name, module.FAMILY, module.model)
