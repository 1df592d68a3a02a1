"""Errors on their way back: along gradient edges, from autograd node to autograd node, in the order of PyTorch's engine.

A value is named by its *gradient edge*, (autograd node, number of the node's output), not by the Python object: after a
write in place the same object is another value. `pcbench.values` knows where an edge of one vertex's graph leads beyond it.
"""

import heapq
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any, Protocol
from unittest.mock import patch

import torch
from torch import Tensor
from torch.autograd import Variable
from torch.autograd.graph import GradientEdge, Node, _engine_run_backward
from torch.overrides import TorchFunctionMode

from pcbench.aside import Patches, off
from pcbench.errors import UnsupportedModule

Edge = tuple[Node, int]  # a gradient edge
# Until torch 2.4 a node does not tell what it takes, and the engine starts at tensors only: see `Values.metadata`.
NODES_TELL = hasattr(torch._C._FunctionBase, "_input_metadata")


class _Local(Protocol):
    """What is asked of `pcbench.values.Values`."""

    def resolved(self, node: Node, number: int) -> Edge | Tensor: ...

    def metadata(self, node: Node) -> Sequence[Any]: ...


class _Way:
    """A way of errors, along which nothing is counted or handed over."""

    # Whether no other errors will follow, so that what a visited node holds can be freed.
    last: bool

    def arrived(self, place: Node | Tensor) -> None:
        """Nothing to count."""

    def learn(self, gradients: dict[Tensor, Tensor]) -> None:
        """Gradients stay where they are."""


class Everywhere(_Way):
    """The way of errors that are to reach every parameter."""

    last = True

    def leads_through(self, node: Node) -> bool:
        """Whether errors go to a node."""
        return True

    goes_on = leads_through

    def passed(self, node: Node, errors: Sequence[Tensor | None]) -> None:
        """Nothing to keep."""


class Learning(Everywhere):
    """The way of errors that are to reach every parameter, whose gradient is handed over as soon as it is whole.

    It is whole when all that read the parameter have passed their errors on. PyTorch's engine then runs the node that adds it
    to ``grad``, before any other; what hangs on that node sees gradients in the same order, while errors are on their way.
    """

    def __init__(self, values: _Local, outputs: Sequence[Tensor]) -> None:
        self._missing = dependencies(values, outputs)
        # What has become ready since the last visit: a tensor when its gradient is whole; None stands for a node.
        self._ready: list[Tensor | None] = []
        self._whole = 0  # how many of these are tensors
        self._waiting = 0  # nodes that have become ready before

    def arrived(self, place: Node | Tensor) -> None:
        """Count an error that arrives, or that there is none."""
        missing = self._missing.pop(place, 0) - 1
        if missing:
            self._missing[place] = missing
        elif isinstance(place, Tensor):
            self._ready.append(place)
            self._whole += 1
        else:
            self._ready.append(None)

    def passed(self, node: Node, errors: Sequence[Tensor | None]) -> None:
        """The node waits no more."""
        self._waiting -= 1

    def learn(self, gradients: dict[Tensor, Tensor]) -> None:
        """Hand over the gradients that have become whole, and take them out of ``gradients``."""
        if self._whole:
            queue = [None] * self._waiting + self._ready
            hand_over(queue, [None if leaf is None else gradients.pop(leaf, None) for leaf in queue])
        self._waiting += len(self._ready) - self._whole
        self._whole = 0
        self._ready.clear()


class Route(_Way):
    """The way of errors that are to reach certain values: the nodes from which they do, and the errors of the values."""

    last = False

    def __init__(self, values: _Local, outputs: Sequence[Tensor], inputs: Sequence[Edge | Tensor]) -> None:
        self.errors: dict[Edge, Tensor | None] = {}
        self._wanted = set(inputs)
        self._stops = {x[0] for x in self._wanted if isinstance(x, tuple)}
        self._leads: dict[Node, bool] = {}
        stack = [edge[0] for edge in map(edge_of, outputs) if edge]
        while stack:
            node = stack[-1]
            following = [
                values.resolved(before, number) for before, number in node.next_functions if before is not None
            ]
            unknown = [x[0] for x in following if isinstance(x, tuple) and x[0] not in self._leads]
            if unknown and node not in self._leads:
                self._leads[node] = False
                stack += unknown
                continue
            self._leads[node] = any(
                x in self._wanted or (isinstance(x, tuple) and self._leads.get(x[0], False)) for x in following
            )
            stack.pop()

    def leads_through(self, node: Node) -> bool:
        """Whether errors go to a node."""
        return self._leads.get(node, False) or node in self._stops

    def goes_on(self, node: Node) -> bool:
        """Whether errors go on from a node."""
        return self._leads.get(node, False)

    def passed(self, node: Node, errors: Sequence[Tensor | None]) -> None:
        """Keep the errors of a node's values that are asked for."""
        self.errors.update(((node, i), error) for i, error in enumerate(errors) if (node, i) in self._wanted)


class Pending:
    """Errors on their way: at which node, and which node is next."""

    def __init__(self, values: _Local, route: Everywhere | Route) -> None:
        self.leaves: dict[Tensor, Tensor] = {}
        self._values, self._route = values, route
        self._arrived: dict[Node, dict[int, Tensor]] = {}
        self._heap: list[tuple[int, int, int, Node]] = []
        self._passed: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._heap)

    def arrive(self, node: Node, number: int, error: Tensor | None) -> None:
        """Add a contribution to the error of the value at an edge, as the engine does: in this order.

        None, an error that is not defined, is no contribution; but its node is visited all the same, as by the engine: a
        custom function may make zeros of it.
        """
        place = self._values.resolved(node, number)
        if not isinstance(place, tuple):
            if error is not None:
                self.leaves[place] = _sum(self.leaves.get(place), _fitted(error, place))
            self._route.arrived(place)
            return
        node, number = place
        if not self._route.leads_through(node):
            return
        self._route.arrived(node)
        slots = self._arrived.get(node)
        if slots is None:
            order = node._sequence_nr()
            if order in self._passed:
                raise UnsupportedModule(
                    f"an error arrived at {node.name()} after that had passed its error on: part of the forward ran in "
                    "another thread, or recorded its operations in another order than it ran them"
                )
            slots = self._arrived[node] = {}
            heapq.heappush(self._heap, (-order, len(self._heap), id(node), node))
        if error is not None:
            known = self._values.metadata(node)
            slots[number] = _sum(slots.get(number), _fitted(error, known[number]) if number < len(known) else error)

    def pop(self) -> tuple[Node, list[Tensor | None]]:
        """The latest of the operations at which errors have arrived, and its errors, one for each of its outputs."""
        *_, node = heapq.heappop(self._heap)
        self._passed.add(node._sequence_nr())
        slots = self._arrived.pop(node)
        outputs = len(self._values.metadata(node))
        if not NODES_TELL:
            outputs = max([outputs, *(number + 1 for number in slots), 1])  # a custom function's that nobody has seen
        return node, [slots.get(number) for number in range(outputs)]


def edge_of(tensor: Tensor) -> Edge | None:
    """The gradient edge of a value; None for what has no history."""
    node = tensor.grad_fn
    return None if node is None else (node, tensor.output_nr)


def entrance(output: Tensor) -> Edge:
    """Where an error of ``output`` sets out: its gradient edge or, without history, that of the node that adds gradients."""
    edge = edge_of(output)
    if edge is None:
        with torch.enable_grad():  # errors travel without it
            node: Any = output.view_as(output).grad_fn
        edge = node.next_functions[0]
    return edge


def dependencies(values: _Local, outputs: Sequence[Tensor]) -> dict[Node | Tensor, int]:
    """How many edges behind ``outputs`` lead to each node, and to each tensor without history, in all vertices together."""
    found: dict[Node | Tensor, int] = {}
    pending: list[Any] = [entrance(output) for output in outputs if output.requires_grad]
    while pending:
        place: Any = values.resolved(*pending.pop())
        if isinstance(place, tuple):
            place = place[0]
            if place not in found:
                pending += [edge for edge in place.next_functions if edge[0] is not None]
        found[place] = found.get(place, 0) + 1
    return found


def hand_over(queue: Sequence[Tensor | None], gradients: list[Tensor | None]) -> None:
    """Have PyTorch's engine add gradients to ``grad`` of their tensors, and run what hooks there are.

    Args:
        queue: tensors without history. None is a place that something takes in the engine's queue that comes later: of
            several tensors, these places decide which comes first.
        gradients: one for each tensor, of its shape, or None where there is none, of which hooks are told all the same. The
            list is emptied, so that a gradient which nobody else holds can become ``grad`` as it is.
    """
    with off(TorchFunctionMode), torch.enable_grad():
        device = next(leaf.device for leaf in queue if leaf is not None)
        later = torch.empty((), device=device, requires_grad=True)
        root = _HandedOver.apply(gradients, device, *(later.view(()) if leaf is None else leaf for leaf in queue))
        if root.requires_grad:  # else nothing learns any more
            _engine_run_backward((root,), (root.detach(),), False, False, (), accumulate_grad=True)


class _HandedOver(torch.autograd.Function):
    """Where the engine starts to bring tensors their gradients, to which it then holds the only references."""

    @staticmethod
    def forward(ctx, gradients, device, *queue):
        ctx.gradients = gradients
        return torch.empty((), device=device)

    @staticmethod
    def backward(ctx, _):
        found = (None, None, *ctx.gradients)
        ctx.gradients.clear()
        return found


def _sum(error, more):
    """The engine's own order, which for a sparse first term is the other one."""
    if error is None:
        return more
    return more + error if error.is_sparse else error + more


def _fitted(error, value):
    """``error`` in the shape and dtype of ``value``, as the engine makes it: what was broadcast is summed."""
    if value is None:
        return error
    if not error.is_nested and value.shape is not None and error.shape != torch.Size(value.shape):
        error = error.sum_to_size(value.shape)
    if error.ndim == 0 and error.device != value.device:
        error = error.to(value.device)  # a number on the CPU may be read where everything else is on a GPU
    return error if error.dtype is value.dtype else error.to(value.dtype)


class _Visited(Exception):
    """Raised by a hook, to keep the engine from going on to what follows the node that it has run."""


def by_engine(
    node: Node,
    errors: Sequence[Tensor | None],
    starts: tuple[GradientEdge | Tensor, ...],
    goes_on: bool,
    create_graph: bool,
    keep: bool,
) -> tuple[Sequence[Tensor | None], tuple[Tensor | None, ...]]:
    """The errors of a node's values after their hooks and, if they are to go on, its products; both by the engine.

    Args:
        starts: where the engine starts, for each error that there is; a tensor brings that error itself.
        keep: whether the node may be visited again.
    """
    values = tuple(GradientEdge(node, number) for number, error in enumerate(errors) if error is not None)
    given = tuple(
        torch.ones_like(start) if isinstance(start, Tensor) else error
        for start, error in zip(starts, (error for error in errors if error is not None), strict=True)
    )
    if not values:
        return errors, (None,) * len(node.next_functions)
    if not goes_on:
        after = iter(_engine_run_backward(starts, given, True, create_graph, values, accumulate_grad=False))
        return [None if error is None else next(after) for error in errors], ()
    found = []

    def stop(products, after):
        found.append((after, products))
        raise _Visited

    hook = node.register_hook(stop)
    # The engine warns of graphs of gradients that stay in memory, but these are forward's own.
    with suppress(_Visited), warnings.catch_warnings(action="ignore") if create_graph else nullcontext():
        _engine_run_backward(starts, given, keep, create_graph, (), accumulate_grad=True)
    hook.remove()
    return found[0]


class _OfThread(threading.local):
    queued: list[Callable[[], None]] | None = None  # None outside of `one_pass`


class _Passes:
    """PyTorch's engine, which keeps what is queued in a thread whose passes are to look like one."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def queue_callback(self, callback: Callable[[], None]) -> None:
        if _OF_THREAD.queued is None:
            self._engine.queue_callback(callback)
        else:
            _OF_THREAD.queued.append(callback)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def _queueing(undo: ExitStack) -> None:
    undo.enter_context(patch.object(Variable, "_execution_engine", _Passes(Variable._execution_engine)))


_OF_THREAD, _QUEUEING = _OfThread(), Patches(_queueing)


@contextmanager
def one_pass() -> Iterator[None]:
    """Let many small passes of PyTorch's engine look like one to who queues something for the end of a pass.

    A custom function's backward and a parameter's hook may do so: it is run at the end of this context. What they run in
    another thread than this one, as the engine does on a GPU, has the small pass for its own.
    """
    outer = _OF_THREAD.queued
    with _QUEUEING.made():
        queued = _OF_THREAD.queued = []
        try:
            yield
            for callback in queued:  # which may queue another one
                callback()
        finally:
            _OF_THREAD.queued = outer
