"""What is learned: a task is a data set, a model and a loss under one name. Its numbers stand in params.yaml."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from pcbench.errors import InvalidParameters
from pcbench.tasks.models import (
    CNN,
    MLP,
    GatedTokenRNN,
    RowRNN,
    RowTransformer,
    SmallAlexNet,
    TokenRNN,
    small_resnet18,
)


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


def _mlp(data, **numbers):
    return MLP(data.train.inputs[0].numel(), len(data.classes), **numbers)


def _cnn(data, **numbers):
    return CNN(data.train.inputs.shape[-1], len(data.classes), **numbers)


def _row_rnn(data, **numbers):
    return RowRNN(data.train.inputs.shape[-1], len(data.classes), **numbers)


def _token_rnn(data, **numbers):
    return TokenRNN(len(data.vocabulary), len(data.classes), **numbers)


def _gated_rnn(data, **numbers):
    return GatedTokenRNN(len(data.vocabulary), len(data.classes), **numbers)


def _row_transformer(data, **numbers):
    tokens, features = data.train.inputs.shape[-2:]
    return RowTransformer(tokens, features, len(data.classes), **numbers)


def _small_alexnet(data, **numbers):
    return SmallAlexNet(len(data.classes), **numbers)


def _small_resnet18(data, **numbers):
    return small_resnet18(len(data.classes), **numbers)


TASKS = {
    task.name: task
    for task in (
        Task("digits-mlp", "mlp", "digits", _mlp),
        Task("digits-cnn", "cnn", "digits", _cnn),
        Task("digits-rnn", "rnn", "digits", _row_rnn),
        Task("digits-transformer", "transformer", "digits", _row_transformer),
        Task("surnames-rnn", "rnn", "surnames", _token_rnn),
        Task("surnames-lstm", "rnn", "surnames", _gated_rnn),
        Task("surnames-gru", "rnn", "surnames", _gated_rnn),
        Task("fashion-mlp", "mlp", "fashion-mnist", _mlp),
        Task("fashion-cnn", "cnn", "fashion-mnist", _cnn),
        Task("fashion-rnn", "rnn", "fashion-mnist", _row_rnn),
        Task("mnist-cnn", "cnn", "mnist", _cnn),
        Task("cifar10-cnn", "cnn", "cifar10", _small_alexnet),
        Task("cifar10-resnet18", "cnn", "cifar10", _small_resnet18),
        Task("agnews-rnn", "rnn", "ag-news", _token_rnn),
        Task("imdb-lstm", "rnn", "imdb", _gated_rnn),
        Task("sst2-gru", "rnn", "sst2", _gated_rnn),
    )
}


def get(name):
    """Return the task called ``name``.

    Raises:
        InvalidParameters: there is none of that name.
    """
    if name not in TASKS:
        raise InvalidParameters(f"unknown task {name!r}; the tasks are {', '.join(TASKS)}")
    return TASKS[name]
