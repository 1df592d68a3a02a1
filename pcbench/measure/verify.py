"""Checking a user's own network: one weight update of a rule against backpropagation's, parameter by parameter."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from pcbench import nn as counterparts
from pcbench.errors import foreign_code
from pcbench.measure.divergence import Divergence, check_repeats, compare, weight_update
from pcbench.measure.proof import Certificate, prove
from pcbench.nn.convert import fused
from pcbench.randomness import stream
from pcbench.rules import Backprop, Loss, by_name

# Z-IL with one of its three conditions broken: what must *not* equal backpropagation.
BROKEN: dict[str, dict[str, Any]] = {
    "not layer-dependent": {"layer_dependent": False},
    "initial error σ = 0.01": {"sigma": 0.01},
    "γ = 0.5": {"gamma": 0.5},
}


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        parameters: the divergence of each parameter's gradient, by name; None where neither rule gives it one.
        shapes: each parameter's shape, by name.
        total: the divergence of all gradients together.
        buffers: the divergence of the buffers after the update (BatchNorm's statistics).
        ablations: the divergence of all gradients together, by the condition that is broken.
        fused: the paths of the fused recurrent modules that were kept whole, with their classes' names.
    """

    parameters: dict[str, Divergence | None]
    shapes: dict[str, tuple[int, ...]]
    total: Divergence
    buffers: Divergence
    ablations: dict[str, Divergence]
    fused: dict[str, str]

    def whole(self) -> list[str]:
        """Say of each fused module that was kept whole what that means."""
        return [
            f"{path or 'the model'!r} (nn.{kind}) was kept whole: one vertex for all of its time steps, exact, but not "
            "local in time; without --keep-fused each time step is a vertex"
            for path, kind in self.fused.items()
        ]

    def signs(self) -> list[str]:
        """Say why bits differ where no number does."""
        apart = [found for found in (self.total, self.buffers) if not found.bitwise_equal]
        if not apart or any(found.max_ulp != 0 for found in apart):
            return []
        return ["no number differs: the bits that do are signs of zeros, and −0 is equal to 0, but has other bits"]


def verify(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    loss_fn: Loss,
    rule: str = "zil",
    ablations: bool = True,
    advance: Callable[[], None] = lambda: None,
    convert: bool = True,
    **options: Any,
) -> Verification:
    """Compare one weight update of ``rule`` with backpropagation's; ``model`` is left as it is.

    Args:
        model, inputs, targets, loss_fn, rule, convert, options: see `pcbench.divergence`.
        ablations: whether to run Z-IL with each of its conditions broken too, in state form: many times slower.
        advance: called after every comparison.

    Returns:
        `Verification`.

    Raises:
        UnsupportedModule, InvalidParameters, NonFiniteLoss, NotRepeatable: see `pcbench.errors`; InvalidParameters also if
            the model or the loss fails by itself, under backpropagation.
        ValueError: one rule left a parameter without a gradient and the other did not.
    """
    model = counterparts.convert(model) if convert else model
    batch = (inputs, targets, loss_fn)
    name = type(model).__name__
    with foreign_code(
        f"{name} or its loss fails under plain backpropagation already",
        "mend it, or what the factory returns: (model, inputs, targets, loss_fn)",
    ):
        expected = weight_update(model, Backprop, *batch)
    beyond = "backpropagation trains it, so this is beyond the rule, or a fault of it: please report it"
    with foreign_code(f"rule {rule!r} fails on {name}", beyond):
        actual = weight_update(model, lambda m: by_name(rule, m, **options), *batch)
    if not actual.equals(expected):
        check_repeats(expected, lambda: weight_update(model, Backprop, *batch))
    advance()
    found = {}
    for condition, schedule in BROKEN.items() if ablations else ():
        noise = stream(0, "noise")
        with foreign_code(f"Z-IL, but {condition}, fails on {name}", f"{beyond}; --no-ablations leaves it out"):
            broken = weight_update(model, partial(by_name, "zil-state", generator=noise, **schedule), *batch)
        found[condition] = compare(broken.gradients, expected.gradients)
        advance()
    return Verification(
        {
            name: None if gradient is None else compare({name: actual.gradients[name]}, {name: gradient})
            for name, gradient in expected.gradients.items()
        },
        {name: tuple(parameter.shape) for name, parameter in model.named_parameters()},
        compare(actual.gradients, expected.gradients),
        compare(actual.buffers, expected.buffers),
        found,
        {path: kind.__name__ for path, kind in fused(model).items()},
    )


def certificate(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    loss_fn: Loss,
    rule: str = "zil",
    **options: Any,
) -> Certificate:
    """`pcbench.prove` for a user's network, after `verify`.

    Returns:
        `pcbench.measure.proof.Certificate`.

    Raises:
        UnsupportedModule, InvalidParameters: the update cannot be captured as a program; says why.
    """
    name = type(model).__name__
    with foreign_code(
        f"no program of rule {rule!r} can be captured on {name}", "without --prove the bits alone are compared"
    ):
        return prove(model, inputs, targets, loss_fn, rule, **options)
