"""The zoo: one weight update of Z-IL against backpropagation's on torchvision's own classifiers, unmodified."""

from dataclasses import asdict
from typing import cast

import torch
import torchvision
from torch import nn

from pcbench import devices
from pcbench.errors import InvalidParameters
from pcbench.files import finite_or_none
from pcbench.measure.divergence import compare, weight_update
from pcbench.measure.fingerprint import trace
from pcbench.measure.proof import as_metrics, prove
from pcbench.params import Result, Settings
from pcbench.randomness import global_stream, stream
from pcbench.rules import ZIL, Backprop

# Sides, in pixels, of the square images that are tried, smallest first; 299 is Inception's own, 224 everyone else's.
SIDES = (32, 48, 64, 80, 96, 128, 160, 192, 224, 299)


def names() -> tuple[str, ...]:
    """The classification models that torchvision lists."""
    return tuple(torchvision.models.list_models(module=torchvision.models))


def zoo(name: str, settings: Settings, device: torch.device = devices.CPU) -> Result:
    """Compare one weight update of one model, with random weights and in training mode.

    Args:
        name: the model's name in torchvision.
        settings: the section ``zoo`` of params.yaml: ``batch_size``, ``seed``.
        device: where the updates are computed; model and batch are made on the CPU.

    Returns:
        The result as a JSON value: the divergence of Z-IL's gradients and buffers from backpropagation's, and, to tell
        a kernel that does not repeat itself from a rule that differs, of backpropagation's from its own repetition;
        under ``proof`` the certificate of Z-IL.

    Raises:
        InvalidParameters: torchvision has no such classifier, or it accepts none of `SIDES`.
    """
    if name not in names():
        raise InvalidParameters(f"torchvision has no classifier {name!r}; it has {', '.join(names())}")
    seed = settings["seed"]
    with global_stream(seed, "init"):
        # torchvision warns that the default initialisation of two models will change; it is random either way.
        options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        model = torchvision.models.get_model(name, weights=None, **options).train()
    side = smallest_side(model, settings["batch_size"])
    inputs = torch.randn(settings["batch_size"], 3, side, side, generator=stream(seed, "inputs"))
    targets = torch.randint(1000, (settings["batch_size"],), generator=stream(seed, "targets"))
    model, inputs, targets = devices.moved((model, inputs, targets), device)

    def update(rule):
        with global_stream(seed, "dropout", 0):
            return weight_update(model, rule, inputs, targets, loss)

    expected = update(Backprop)
    repeated = compare(update(Backprop).gradients, expected.gradients)
    actual = update(ZIL)
    gradients = compare(actual.gradients, expected.gradients)
    metrics: Result = {key: finite_or_none(value) for key, value in asdict(gradients).items()}
    metrics["parameters"] = len(expected.gradients)
    metrics["elements"] = sum(parameter.numel() for parameter in model.parameters())
    metrics["side"] = side
    metrics["buffers_equal"] = compare(actual.buffers, expected.buffers).bitwise_equal
    metrics["bp_repeats_itself"] = repeated.bitwise_equal
    record: Result = {"rule": "zil", "label": "Z-IL", "seed": seed, "dtype": "float32", "metrics": metrics}
    record["fingerprints"] = trace(actual.gradients)
    del expected, actual  # the largest models' gradients and programs together need over 20 GB
    metrics["proof"] = as_metrics(lambda: prove(model, inputs, targets, loss, lines=False))
    return {"schema": 1, "stage": "zoo", "task": name, "family": "cnn", "results": [record]}


def loss(outputs: torch.Tensor | tuple[torch.Tensor, ...], targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, summed over the outputs of models that have auxiliary classifiers.

    Args:
        outputs: logits ``(batch, classes)``, or a tuple of them.
        targets: int64 ``(batch,)``.

    Returns:
        A 0-d tensor.
    """
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return cast(torch.Tensor, sum(nn.functional.cross_entropy(output, targets) for output in outputs))


def smallest_side(model: nn.Module, batch_size: int) -> int:
    """The smallest of `SIDES` that the model accepts in training mode; the model's buffers stay as they are.

    Raises:
        InvalidParameters: it accepts none of them.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        for side in SIDES:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                try:
                    model(torch.zeros(batch_size, 3, side, side))
                except (RuntimeError, ValueError, AssertionError):
                    continue
                return side
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    raise InvalidParameters(f"{type(model).__name__} accepts no square image of side {', '.join(map(str, SIDES))}")
