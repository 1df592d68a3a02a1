"""Hypothesis strategies for random networks: programs of a few instructions, run by one module."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "gelu": F.gelu,
    "identity": lambda x: x,
}
SMOOTH = ("tanh", "sigmoid", "gelu")
BATCH = 3


@dataclass(frozen=True)
class Instruction:
    """Compute one more value of a `Network`.

    Attributes:
        operation: ``"layer"``, ``"add"``, ``"multiply"`` or ``"concatenate"``.
        reads: positions of one value (a layer) or two.
        layer: which linear layer, for ``"layer"`` and, on twice the width, for ``"concatenate"``.
        activation: a key of ``ACTIVATIONS``.
    """

    operation: str
    reads: tuple[int, ...]
    layer: int = 0
    activation: str = "identity"


class Network(nn.Module):
    """Runs instructions on a list of values of one width, of which the input is the first; returns the last.

    A layer that several instructions name is shared by them.
    """

    def __init__(self, program, width):
        super().__init__()
        self.program = program
        self.layers = nn.ModuleDict()
        for step in program:
            if step.operation in ("layer", "concatenate"):
                wide = 2 if step.operation == "concatenate" else 1
                self.layers[f"{step.operation}{step.layer}"] = nn.Linear(wide * width, width)

    def forward(self, x):
        values = [x]
        for step in self.program:
            read = [values[i] for i in step.reads]
            if step.operation == "add":
                value = read[0] + read[1]
            elif step.operation == "multiply":
                value = read[0] * read[1]
            else:
                merged = torch.cat(read, dim=1) if step.operation == "concatenate" else read[0]
                value = self.layers[f"{step.operation}{step.layer}"](merged)
            values.append(ACTIVATIONS[step.activation](value))
        return values[-1]


def data(width, dtype):
    """Make ``(inputs, targets)`` from torch's global generator."""
    return torch.randn(BATCH, width, dtype=dtype), torch.randn(BATCH, width, dtype=dtype)


widths = st.integers(2, 6)


@st.composite
def dags(draw, max_steps=9):
    """A program that branches, merges in three ways, shares layers, and skips several levels."""
    program = [Instruction("layer", (0,), draw(st.integers(0, 2)), draw(st.sampled_from(list(ACTIVATIONS))))]
    for position in range(1, draw(st.integers(2, max_steps))):
        operation = draw(st.sampled_from(["layer", "layer", "add", "multiply", "concatenate"]))
        # The value before is always read, so that whatever else is skipped over reaches the output.
        other = (draw(st.integers(0, position)),) if operation != "layer" else ()
        reads = (position, *other) if draw(st.booleans()) else (*other, position)
        layer, activation = draw(st.integers(0, 2)), draw(st.sampled_from(list(ACTIVATIONS)))
        program.append(Instruction(operation, reads, layer, activation))
    return tuple(program)


@st.composite
def chains(draw, min_depth=1, max_depth=6, activations=tuple(ACTIVATIONS)):
    """Layers one after another, none of them shared."""
    depth = draw(st.integers(min_depth, max_depth))
    return tuple(Instruction("layer", (i,), i, draw(st.sampled_from(activations))) for i in range(depth))


@st.composite
def residual_chains(draw):
    """Layers one after another, some of which are added to what they read, or to what was read up to three before."""
    program, last = [], 0
    for layer in range(draw(st.integers(2, 5))):
        program.append(Instruction("layer", (last,), layer, draw(st.sampled_from(list(ACTIVATIONS)))))
        if draw(st.booleans()):
            back = draw(st.integers(0, min(3, len(program) - 1)))
            program.append(Instruction("add", (len(program), len(program) - 1 - back)))
        last = len(program)
    return tuple(program)


@st.composite
def shared_cells(draw):
    """One layer unrolled over time, with the input fed in at every step."""
    program, last = [Instruction("concatenate", (0, 0), 0, "tanh")], 1
    for _ in range(draw(st.integers(1, 6))):
        program.append(Instruction("concatenate", (last, 0), 0, draw(st.sampled_from(list(ACTIVATIONS)))))
        last += 1
    return (*program, Instruction("layer", (last,)))


programs = st.one_of(chains(), residual_chains(), shared_cells(), dags())
