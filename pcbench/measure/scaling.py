"""Table 7: how the cost of a weight update grows with a network, deeper, longer, wider, and with more examples in a batch.

The networks are synthetic and say nothing of learning: a chain of fully connected layers, and one cell unrolled over time.
Their weights are orthogonal, so that no signal sinks to subnormal numbers, which processors are slow at.
"""

from collections.abc import Callable

import torch
from torch import nn

from pcbench.devices import CPU
from pcbench.measure.matched import make_rule
from pcbench.measure.updates import Update, counted, in_turn, quartiles, ratios
from pcbench.params import REFERENCE, Result, Settings
from pcbench.randomness import global_stream, stream


class Unrolled(nn.Module):
    """Maps ``(batch, length, width)`` to the last state ``(batch, width)`` of one cell."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell = nn.RNNCell(width, width)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the last state, ``(batch, width)``."""
        state = torch.zeros_like(inputs[:, 0])
        for each in inputs.unbind(1):
            state = self.cell(each, state)
        return state


def scaling(
    axis: str, settings: Settings, advance: Callable[[], None] = lambda: None, device: torch.device = CPU
) -> Result:
    """Measure weight updates at every size of one axis.

    Args:
        axis: its name, a key of ``settings["axes"]``: ``depth``, ``length``, ``width`` or ``batch``.
        settings: the section ``scaling`` of params.yaml. An axis has its ``sizes``, the other numbers of its network, and
            under ``largest`` the size up to which a rule is measured, where that is not all.
        advance: called after every size.
        device: where the updates are computed; models and batches are made on the CPU.

    Returns:
        The result as a JSON value: of every rule and size seconds, ratios to backpropagation at that size (medians and
        quartiles over rounds, and the median's 95 % interval), operations and floating-point operations.

    Raises:
        InvalidParameters: no such rule, or it has no such option.
        NonFiniteLoss: a rule's loss became NaN or infinite.
    """
    numbers: Settings = settings["axes"][axis]
    results: list[Result] = []
    for size in numbers["sizes"]:
        within = {n: e for n, e in settings["rules"].items() if size <= numbers.get("largest", {}).get(n, size)}
        updates = {name: synthetic_update({**numbers, axis: size}, entry, device) for name, entry in within.items()}
        seconds = in_turn(updates, settings["warmup"], settings["rounds"])
        for name, update in updates.items():
            metrics = {
                "seconds": {**quartiles(seconds[name]), "samples": seconds[name]},
                "ratio": ratios(seconds, name, REFERENCE),
                **counted(update),
            }
            results.append({"rule": name, "label": within[name]["label"], "size": size, "metrics": metrics})
        advance()
    head = {"schema": 1, "stage": "scaling", "task": axis, "family": "rnn" if "length" in (axis, *numbers) else "mlp"}
    capability = torch.backends.cpu.get_cpu_capability()
    return {**head, "threads": torch.get_num_threads(), "instruction_set": capability, "results": results}


def synthetic_update(numbers: Settings, entry: Settings, device: torch.device = CPU) -> Update:
    """Return the `pcbench.measure.updates.Update` of a new synthetic network, always on the same batch.

    Args:
        numbers: ``width``, ``batch``, and ``depth`` of a chain of layers or ``length`` of a cell's time.
        entry: the rule's entry in params.yaml.
        device: see `scaling`.

    Raises:
        InvalidParameters: no such rule, or it has no such option.
    """
    model: nn.Module
    shape: tuple[int, ...]
    width, batch = numbers["width"], numbers["batch"]
    with global_stream(0, "init"):
        if "length" in numbers:
            model, shape = Unrolled(width), (batch, numbers["length"], width)
        else:
            layers = (layer for _ in range(numbers["depth"]) for layer in (nn.Linear(width, width), nn.Tanh()))
            model, shape = nn.Sequential(*layers), (batch, width)
        for parameter in model.parameters():
            if parameter.dim() == 2:
                nn.init.orthogonal_(parameter)
    made = (torch.randn(each, generator=stream(0, "batch")) for each in (shape, (batch, width)))
    inputs, targets = (each.to(device) for each in made)
    model.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    return Update(make_rule(entry, model, seed=0), optimizer, inputs, targets, nn.functional.mse_loss)
