"""One entry of the list, and the small network that most entries are a line of."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from problems import vectors
from torch import nn
from torch.nn import functional as F

VECTORS = vectors(5)


@dataclass(frozen=True)
class Wild:
    """A learning problem over several weight updates, each with its own data.

    Attributes:
        name: what the network does that others do not.
        model: makes the module, initialised from torch's global generator, in torch's default dtype.
        aim: which quiet failure or refusal it is aimed at.
        draw: makes one update's ``(inputs, targets)`` from torch's global generator, in torch's default dtype.
        loss: maps ``(outputs, targets)`` to a 0-d tensor; a module is copied for each run, and learns.
        bind: makes the loss from the model, where it reads something of the model's; replaces ``loss``.
        counters: what of the model's (or the file's) state is neither parameter nor buffer: any pytree, the same after
            an update under every rule.
        received: what only the backward pass leaves behind: any pytree, the same under exact rules in one pass.
        reset: puts back what the file, a class or a generator of the file's owns.
        fixed: why the forward cannot be evaluated at values other than its own; the dynamics may then refuse it.
        rounding: how far from backpropagation the dynamics may be in float64, relative to the gradient's norm.
        warns: pytest's filters for warnings that are torch's own.
        needs: whether this torch has what the network is made of.
    """

    name: str
    model: Callable[[], nn.Module]
    aim: str
    draw: Callable[[], tuple] = VECTORS
    loss: Callable = F.cross_entropy
    bind: Callable | None = None
    counters: Callable = lambda model: ()
    received: Callable = lambda model: ()
    reset: Callable[[], None] = lambda: None
    fixed: str = ""
    rounding: float = 1e-9
    warns: tuple[str, ...] = ()
    needs: bool = True

    @property
    def dynamics(self):
        """Whether the state form applies."""
        return not self.fixed

    def build(self):
        """Return ``(model, loss)``, the same at each call; what the file owns starts anew."""
        self.reset()
        torch.manual_seed(0)
        model = self.model()
        return model, self.bind(model) if self.bind else copy.deepcopy(self.loss)

    def data(self, seed):
        """Return update ``seed``'s ``(inputs, targets)``."""
        torch.manual_seed(1000 + seed)
        return self.draw()


class Small(nn.Module):
    """5 → 4, then ``middle`` (a function of the network and its 4 hidden values, or a subclass's method), then 4 → 3."""

    def __init__(self, middle=lambda net, h: torch.relu(net.mid(h))):
        super().__init__()
        self.stem = nn.Linear(5, 4)
        self.mid = nn.Linear(4, 4)
        self.readout = nn.Linear(4, 3)
        self.function = middle

    def middle(self, h):
        return self.function(self, h)

    def forward(self, x):
        return self.readout(self.middle(torch.tanh(self.stem(x))))


def small(middle):
    """The maker of a `Small` with this middle."""
    return lambda: Small(middle)


def squares():
    """Vectors and real targets."""
    return torch.randn(4, 5), torch.randn(4, 3)
