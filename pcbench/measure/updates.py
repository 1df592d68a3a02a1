"""What one weight update takes: time, in turn with others; memory; operations, which no clock is needed for."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pcbench.program import PASSED_ON
from pcbench.rules import Loss, Rule

LEVEL = 0.95


@dataclass(frozen=True)
class Update:
    """One weight update (gradient and optimizer step) on one batch, made as often as it is called."""

    rule: Rule
    optimizer: torch.optim.Optimizer
    inputs: torch.Tensor
    targets: torch.Tensor
    loss_fn: Loss

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.inputs.device

    def __call__(self) -> None:
        """Make it."""
        self.rule.backward(self.inputs, self.targets, self.loss_fn)
        self.optimizer.step()
        self.optimizer.zero_grad()  # last, so that an update frees what it has allocated, and no other one's memory

    def gradients(self) -> None:
        """Its first part alone: forward, loss and gradients, which nothing learns from."""
        self.rule.gradients(self.inputs, self.targets, self.loss_fn)


def in_turn(
    updates: Mapping[str, Update], warmup: int, rounds: int, advance: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """Time updates one after another, round after round.

    Times on a shared machine drift by more than the rules differ: what is compared is taken in the same round. The order
    within a round is drawn anew for each, the same draws every time. On a GPU the time is that between two events of its
    stream.

    Args:
        updates: ``{name: Update}``.
        warmup: how many rounds come before, untimed.
        rounds: how many are timed.
        advance: called after every round.

    Returns:
        ``{name: seconds, one a round}``.
    """
    for _ in range(warmup):
        for update in updates.values():
            update()
        advance()
    seconds: dict[str, list[float]] = {name: [] for name in updates}
    order = np.random.default_rng(0)
    for _ in range(rounds):
        # Shuffled: what an update leaves behind (caches, memory, garbage) slows whichever follows it.
        for name in order.permutation(list(updates)):
            seconds[name].append(_timed(updates[name]))
        advance()
    return seconds


def _timed(update):
    if update.device.type != "cuda":
        start = time.perf_counter()
        update()
        return time.perf_counter() - start
    stream = torch.cuda.current_stream(update.device)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    stream.synchronize()  # or it would begin when the one before has ended
    start.record(stream)
    update()
    end.record(stream)
    end.synchronize()
    return start.elapsed_time(end) / 1000  # milliseconds


def quartiles(values: Sequence[float] | NDArray[Any]) -> dict[str, float]:
    """Return ``{"median", "q1", "q3"}`` of some numbers."""
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "q1": float(q1), "q3": float(q3)}


def ratios(seconds: Mapping[str, Sequence[float]], name: str, reference: str) -> dict[str, float | None]:
    """Return ``{"median", "q1", "q3", "low", "high"}`` of one update's ratios to another's, round by round.

    Args:
        seconds: see `in_turn`.
        name, reference: the two updates.
    """
    values = np.divide(seconds[name], seconds[reference])
    return {**quartiles(values), **median_interval(values)}


def median_interval(values: Sequence[float] | NDArray[Any]) -> dict[str, float | None]:
    """Return ``{"median", "low", "high"}``: the median and its exact interval (95 %) from the order of the values.

    Five values, or fewer, have none: ``low`` and ``high`` are then None.
    """
    found = stats.quantile_test(values, q=0.0, p=0.5).confidence_interval(LEVEL)
    low, high = (float(end) if np.isfinite(end) else None for end in (found.low, found.high))
    return {"median": float(np.median(values)), "low": low, "high": high}


def peak_bytes(update: Update) -> int:
    """The most bytes of tensors alive at once during an `Update`, beyond those alive before it.

    On the CPU from the profiler's record of every allocation: the process's resident size would also count the allocator's
    habits. On a GPU as its allocator counts, which rounds up to 512 bytes; it must have been made there before, for the
    workspaces of CUDA's libraries stay.
    """
    if update.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(update.device)
        before = torch.cuda.memory_allocated(update.device)
        update()
        return torch.cuda.max_memory_allocated(update.device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's library chats on stderr otherwise
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        update()
    allocations = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    # start_us until torch 2.3
    allocations.sort(key=lambda event: event.start_ns() if hasattr(event, "start_ns") else event.start_us())
    alive = np.cumsum([event.nbytes() for event in allocations], dtype=np.int64)
    return int(max(alive.max(initial=0), 0))


def counted(update: Update) -> dict[str, int]:
    """Count what the forward pass, the loss and the gradients of an `Update` take; the optimizer's step is everybody's.

    Returns:
        ``{"operations", "flops"}``: how many ATen operations are dispatched, but for those that only hand a tensor on, and
        the floating-point operations of the matrix products, convolutions and attentions among them, as PyTorch reckons.
    """
    with _Counting() as counting:
        update.gradients()
    return {"operations": counting.operations, "flops": counting.flops}


class _Counting(TorchDispatchMode):
    """Counts below autograd, so that what its engine dispatches counts, whoever calls it.

    PyTorch's own `FlopCounterMode` also hangs hooks on all values, which must be called inside ``backward()``.
    """

    def __init__(self):
        super().__init__()
        self.operations, self.flops = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        self.operations += func not in PASSED_ON
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **kwargs, out_val=found)
        return found
