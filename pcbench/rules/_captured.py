"""A rule whose weight update is captured once as a program, and replayed from then on."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pcbench.errors import UnsupportedModule
from pcbench.parallel import wrappers
from pcbench.program import batch_tensors, capture
from pcbench.recording import autocast_state
from pcbench.replay import straightened
from pcbench.rules._base import Gradients, Loss, Rule

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


class Captured(Rule):
    """``rule``, replayed: the same bits, without visiting vertices, building graphs or running the model's Python.

    The first update for an input signature captures the update's program (`pcbench.program`); later ones run it. It is
    captured anew when what it depends on has changed: shapes, dtypes, devices and strides of the batch; which tensors are
    the model's and the loss's parameters and buffers, their types and ``requires_grad``; modules, their mode, hooks and
    plain attributes (numbers, texts, flags); the loss function; autocast and the default dtype.

    It cannot be guarded what forward reads elsewhere: lists, dicts and objects in attributes, globals, files, a tensor in
    an attribute that is replaced. Who changes such things makes a new `Captured`. What forward does beside computing
    (counting, logging, hooks that print) happens when it is captured, and not when it is replayed.

    Args:
        rule: `Backprop`, `ZIL`, `InferenceLearning` or `Dynamics`.

    Attributes:
        captures: how many programs have been captured so far.
        seconds: how long that took, all of them together.
        operations: how many operations the last program takes.
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule.model)
        self.rule = rule
        self.captures, self.seconds, self.operations = 0, 0.0, 0
        self._replays: dict[Any, _Replay] = {}

    @property
    def generator(self) -> torch.Generator | None:
        """Where the rule draws its noise from; None if it draws none."""
        return getattr(self.rule, "generator", None)

    def gradients(self, inputs: Any, targets: Any, loss_fn: Loss) -> tuple[Tensor, Gradients]:
        """See `Rule.gradients`.

        Raises:
            UnsupportedModule: the update is no program: what it does depends on the values of tensors, on other random
                numbers than torch's, or on something that forward itself changes.
        """
        tensors, _ = batch_tensors(inputs, targets)
        key = _signature(inputs, targets), _identity(loss_fn), _modes()
        replay = self._replays.get(key)
        if replay is None or not replay.guard.holds():
            start = time.perf_counter()
            replay, loss, gradients = self._capture(inputs, targets, loss_fn)
            self._replays[key] = replay
            self.captures += 1
            self.seconds += time.perf_counter() - start
            self.operations = replay.operations
            return loss, gradients
        with torch.no_grad():
            loss, gradients = replay.run(*replay.constants, *tensors)
        return loss, dict(zip(replay.learners, gradients, strict=True))

    def _capture(self, inputs, targets, loss_fn):
        for path in wrappers(self.model):
            raise UnsupportedModule(
                f"{path or 'the model'!r} (DistributedDataParallel) prepares averaging in its forward, which a program would "
                "leave out; use the rule as it is"
            )
        modules = [self.model, *([loss_fn] if isinstance(loss_fn, nn.Module) else [])]
        guard = _Guard(modules)
        program, loss, gradients = capture(self.rule, inputs, targets, loss_fn)
        if (changed := guard.changed()) is not None:
            raise UnsupportedModule(
                f"{type(self.model).__name__} cannot be captured as a program: forward changes {changed}, which a program "
                "would leave as it is; use the rule as it is"
            )
        run, constants = straightened(program, batch_tensors(inputs, targets)[0])
        return _Replay(guard, run, constants, program.learners, program.operations, loss_fn), loss, gradients


class _Guard:
    """What a captured program depends on and can be looked at in microseconds, as it was when it was made."""

    def __init__(self, roots):
        self._items, self._sizes, self._tensors = [], [], []
        for module in dict.fromkeys(module for root in roots for module in root.modules()):
            state = vars(module)
            self._note(type(module).__name__, state, lambda value: isinstance(value, (torch.Tensor, *_PLAIN)))
            for kind in ("_parameters", "_buffers", "_modules"):
                self._note(type(module).__name__, state[kind], lambda value: True)
            self._sizes += [(d, len(d), type(module).__name__) for n, d in state.items() if n.endswith("_hooks")]
        for root in roots:
            self._tensors += [(t, _properties(t), n) for n, t in (*root.named_parameters(), *root.named_buffers())]

    def _note(self, owner, state, wanted):
        self._items += [(state, name, value, owner) for name, value in state.items() if wanted(value)]
        self._sizes.append((state, len(state), owner))

    def changed(self):
        """What has changed, in words; None if nothing has."""
        for state, name, value, owner in self._items:
            now = state.get(name, self)
            if now is not value and (
                isinstance(value, (torch.Tensor, nn.Module)) or type(now) is not type(value) or now != value
            ):
                return f"attribute {name!r} of a {owner}"
        for state, size, owner in self._sizes:
            if len(state) != size:
                return f"the attributes or hooks of a {owner}"
        for tensor, properties, name in self._tensors:
            if _properties(tensor) != properties:
                return f"the type of {name!r}"
        return None

    def holds(self):
        """Whether the program may be run."""
        return self.changed() is None


@dataclass(frozen=True)
class _Replay:
    """A program ready to run; ``loss_fn`` is held so that the identities in its key stay its own."""

    guard: _Guard
    run: Callable
    constants: tuple[torch.Tensor, ...]
    learners: list[torch.Tensor]
    operations: int
    loss_fn: Callable


def _properties(tensor):
    return tensor.requires_grad, tensor.dtype, tensor.device, tensor.shape, tensor.stride()


def _signature(inputs, targets):
    leaves, structure = pytree.tree_flatten((inputs, targets))
    return str(structure), tuple(_properties(x) if isinstance(x, torch.Tensor) else repr(x) for x in leaves)


def _identity(loss_fn):
    """The same for a function that is made anew at every update, of the same code and the same closure."""
    code = getattr(loss_fn, "__code__", None)
    if code is None:
        return id(loss_fn)
    closure = tuple(id(cell.cell_contents) for cell in loss_fn.__closure__ or ())
    return code, closure, tuple(map(id, loss_fn.__defaults__ or ()))


def _modes():
    return autocast_state(), torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()
