"""Matched runs: the same initial weights, the same batches in the same order, the same random masks for every rule."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import nn

from pcbench import data, devices, params, tasks
from pcbench.data import Dataset
from pcbench.data._texts import batches
from pcbench.errors import InvalidParameters, told
from pcbench.randomness import global_stream, stream
from pcbench.rules import Rule, from_entry

_FUSED = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 4)  # whether there is a fused Adam for the CPU


@dataclass(frozen=True)
class Matched:
    """A task with its settings and its data: what all rules' runs of it have in common, as functions of a seed.

    Attributes:
        task: what is learned, and its loss.
        settings: the task's entry in params.yaml: ``model``, ``batch_size``, ``optimizer``.
        data: the data set, which stays on the CPU.
        device: where models and batches are: both are made on the CPU, the same for every device, and moved there.
    """

    task: tasks.Task
    settings: params.Settings
    data: Dataset
    device: torch.device = devices.CPU

    @classmethod
    def load(cls, parameters: params.Parameters, name: str, datasets: str | Path) -> Self:
        """Read the task called ``name`` with its data set.

        Args:
            parameters: see `pcbench.params.load`.
            name: the task's name.
            datasets: the folder that holds the data sets.

        Raises:
            InvalidParameters: no such task, network, data set or device.
            DataError: see `pcbench.data.load`.
        """
        settings, device = params.task(parameters, name), devices.named(parameters["device"])
        task = tasks.named(name, settings["network"])
        return cls(task, settings, data.load(settings["data"], datasets), device)

    def model(self, seed: int) -> nn.Module:
        """A new model in training mode.

        Raises:
            InvalidParameters: the model cannot be made of the task's settings.
        """
        numbers = self.settings["model"]
        with global_stream(seed, "init"):
            try:
                made = self.task.network(self.data, **numbers)
            except Exception as error:
                raise InvalidParameters(
                    f"task {self.task.name!r}: no model can be made of {numbers} ({told(error)}); "
                    f"see tasks.{self.task.name}.model in params.yaml"
                ) from error
        return made.to(self.device)

    def batches(self, seed: int, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the epoch's shuffled batches ``(inputs, targets)``; the last one may be smaller.

        Yields:
            ``inputs``, ``(batch, ...)`` as in `pcbench.data.Split`, and ``targets``, int64 ``(batch,)``.
        """
        split, size = self.data.train, self.settings["batch_size"]
        generator = stream(seed, "order", epoch)
        if split.bucketed:
            for indices, inputs in batches(split.inputs, size, generator):
                yield inputs.to(self.device), split.targets[indices].to(self.device)
            return
        order = torch.randperm(len(split.targets), generator=generator)
        for indices in order.split(size):
            yield split.inputs[indices].to(self.device), split.targets[indices].to(self.device)

    def first_batch(self, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The first batch that training with ``seed`` sees, see `batches`."""
        return next(self.batches(seed, epoch=0))

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """A new optimizer of the model's parameters.

        Raises:
            InvalidParameters: no such optimizer, or it has no such argument, or not beside the others.
        """
        makers = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
        name = self.settings["optimizer"]["name"]
        options = {key: value for key, value in self.settings["optimizer"].items() if key != "name"}
        if name not in makers:
            raise InvalidParameters(f"unknown optimizer {name!r}; the optimizers are {', '.join(makers)}")
        # Else Adam's square roots are MKL's, which estimates them: as Intel's processors do, or as AMD's.
        exact = {"fused": True} if name == "adam" and self.device.type == "cpu" and _FUSED else {}
        options = {**exact, **options}
        try:
            return makers[name](model.parameters(), **options)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidParameters(f"optimizer {name!r} with {options}: {error}") from error


def make_rule(entry: params.Settings, model: nn.Module, seed: int) -> Rule:
    """The learning rule of an entry under ``rules`` in params.yaml; its noise comes from the seed's own stream.

    Raises:
        InvalidParameters: no such rule, or it has no such option.
    """
    return from_entry(entry, model, stream(seed, "noise"))
