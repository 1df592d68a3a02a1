"""What is learned: a task is a data set, a model and a loss under one name. Its numbers stand in params.yaml."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from pcbench.errors import InvalidParameters
from pcbench.tasks.table import TASKS

__all__ = ["TASKS", "Task", "get"]


@dataclass(frozen=True)
class Task:
    """A learning problem.

    Attributes:
        name: as in params.yaml and on the command line.
        family: ``"mlp"``, ``"cnn"``, ``"rnn"`` or ``"transformer"``: the kind of network that the claims are about.
        data: the data set's name, see `pcbench.data`.
        model: maps the data set and the model's numbers from params.yaml to a new module, initialised from torch's
            global generator.
        loss: maps ``(logits, targets)`` to the mean loss over the batch, a 0-d tensor.
    """

    name: str
    family: str
    data: str
    model: Callable
    loss: Callable = nn.functional.cross_entropy


def get(name):
    """Return the task called ``name``.

    Raises:
        InvalidParameters: there is none of that name.
    """
    if name not in TASKS:
        raise InvalidParameters(f"unknown task {name!r}; the tasks are {', '.join(TASKS)}")
    made_by, data = TASKS[name]
    # By name, so that a task depends on its own network's code and on no other's.
    network = importlib.import_module(f"{__name__}.{made_by}")
    return Task(name, network.FAMILY, data, network.model)
