"""What the measurements share.

Two runs are *matched*: the same initial weights, the same batches in the same order, the same random masks.
"""

import torch

from pcbench.data.text_pipeline import batches
from pcbench.errors import InvalidParameters, told
from pcbench.params import rule_options
from pcbench.provenance import global_stream, stream
from pcbench.rules import Captured, by_name


def initial_model(task, numbers, data, seed):
    """A new model in training mode; a function of its arguments and nothing else.

    Raises:
        InvalidParameters: the model cannot be made of the task's numbers.
    """
    with global_stream(seed, "init"):
        try:
            return task.model(data, **numbers["model"])
        except Exception as error:
            raise InvalidParameters(
                f"task {task.name!r}: no model can be made of {numbers['model']} ({told(error)}); "
                f"see tasks.{task.name}.model in params.yaml"
            ) from error


def epoch_batches(split, batch_size, seed, epoch):
    """Yield the epoch's shuffled batches ``(inputs, targets)``; the last one may be smaller."""
    generator = stream(seed, "order", epoch)
    if split.bucketed:
        for indices, inputs in batches(split.inputs, batch_size, generator):
            yield inputs, split.targets[indices]
        return
    order = torch.randperm(len(split.targets), generator=generator)
    for indices in order.split(batch_size):
        yield split.inputs[indices], split.targets[indices]


def first_batch(split, batch_size, seed):
    """The first batch that training with ``seed`` sees."""
    return next(epoch_batches(split, batch_size, seed, epoch=0))


def make_rule(entry, model, seed):
    """The learning rule of an entry under ``rules`` in params.yaml; its noise comes from the seed's own stream."""
    name, options = rule_options(entry)
    rule = by_name(name, model, generator=stream(seed, "noise"), **options)
    return Captured(rule) if entry.get("captured") else rule


def make_optimizer(settings, model):
    """The optimizer of a task.

    Args:
        settings: ``name`` (``adam`` or ``sgd``) and its keyword arguments.

    Raises:
        InvalidParameters: no such optimizer, or it has no such argument.
    """
    makers = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    options = {key: value for key, value in settings.items() if key != "name"}
    if settings["name"] not in makers:
        raise InvalidParameters(f"unknown optimizer {settings['name']!r}; the optimizers are {', '.join(makers)}")
    try:
        return makers[settings["name"]](model.parameters(), **options)
    except (TypeError, ValueError) as error:
        raise InvalidParameters(f"optimizer {settings['name']!r} with {options}: {error}") from error
