"""What one forward pass did, operation by operation, so that each can be evaluated again at other values.

The state form (`pcbench.rules.zil_state`) needs every vertex's function at values that are not its own prediction. The
operations of the forward pass are replayed for that; the forward itself does not run again, so that whatever else it
does (counts, logs, draws, advances buffers) happens once, as under backpropagation. Hence the function of a vertex is the
one that the forward pass has run: what carries no gradient there (a mask made by a comparison, a random draw, a number
taken out by ``.item()``, the branch taken) is a constant of the weight update.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.fx.experimental.proxy_tensor import get_innermost_proxy_mode
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined] # not in its stub
from torch.overrides import _pop_mode_temporarily

from pcbench.arguments import mapped, tensors_in, writes
from pcbench.errors import PCBenchError, UnsupportedModule, running, told
from pcbench.passing import Edge, edge_of
from pcbench.randomness import random_state, set_random_state
from pcbench.values import SEEING, Tensor, Values


@dataclass(frozen=True)
class Value:
    """One output of one operation: ``number`` counts those that require a gradient."""

    operation: int
    number: int


@dataclass(frozen=True)
class Operation:
    """One operation of a forward pass.

    Attributes:
        name: the function's own.
        call: maps a function from `Value` to tensor to the outputs that require a gradient, in order.
        reads: the values among the arguments, each once, in their order.
        parameters: the leaves (parameters, or inputs that require a gradient) among the arguments.
        inputs: positions of the model's inputs on which it depends through what carries no gradient.
    """

    name: str
    call: Callable[[Callable[[Value], Tensor]], tuple[Tensor, ...]]
    reads: tuple[Value, ...]
    parameters: tuple[Tensor, ...] = ()
    inputs: tuple[int, ...] = ()


class Recording(Values):
    """One forward pass, with its loss, whose operations are noted: a context manager as `Values` is.

    Args:
        model: whose forward runs.
        inputs: its input tensors.

    Raises:
        UnsupportedModule: a value arose, or was written to, in a way that cannot be repeated; names module and line.
    """

    def __init__(self, model: nn.Module, inputs: Sequence[Tensor] = ()) -> None:
        super().__init__(model)
        self.operations: list[Operation] = []
        self._known: dict[Edge, Value] = {}
        self._sources = {id(x): (x, frozenset({i})) for i, x in enumerate(inputs)}
        # By id and version of a tensor that is no value: the tensor, and a copy.
        self._constants: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def __enter__(self) -> Self:
        self._aside.enter_context(SEEING.made())
        return super().__enter__()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """See `Values`; what is made of the inputs is noted where nothing else is, too."""
        if torch.is_grad_enabled():
            return super().__torch_function__(func, types, args, kwargs)
        arguments = tensors_in((args, kwargs or {}), everywhere=True)
        versions = [(tensor, tensor._version) for tensor in arguments if edge_of(_base(tensor)) is not None]
        out = super().__torch_function__(func, types, args, kwargs)
        if any(tensor._version != version for tensor, version in versions):
            raise UnsupportedModule(
                f"{running(self._model)} writes into a value under no_grad, past its gradient, which inference in state "
                "form cannot repeat at other values; Z-IL in error form can learn it"
            )
        self._derive(out, arguments)
        return out

    def _derive(self, out, arguments):
        """Note that ``out`` is made of ``arguments``; return the positions of the inputs that those are made of."""
        sources = [self._sources[id(tensor)][1] for tensor in arguments if id(tensor) in self._sources]
        inputs = frozenset().union(*sources)
        if inputs:
            self._sources.update((id(t), (t, inputs)) for t in tensors_in(out) if not t.requires_grad)
        return inputs

    def value(self, tensor: Tensor) -> Value:
        """The `Value` that a tensor with a history is.

        Raises:
            UnsupportedModule: its operation has not been seen.
        """
        edge: Any = edge_of(tensor)
        if edge not in self._known:
            # A write to its base gives a view another history, and nobody sees that arise.
            if not tensor._is_view() or isinstance(edge[0], torch._C._FunctionBase):
                raise UnsupportedModule(
                    f"{running(self._model)} reads a value that {edge[0].name()} made unseen (a compiled part, an alias of "
                    "an autograd function's `apply`, torch.func or torch.autograd.grad inside forward), so that it cannot "
                    "be evaluated at other values; Z-IL in error form can learn it, inference in state form cannot"
                )
            base, view = self.value(_base(tensor)), _geometry(tensor)
            self._add(Operation("view", lambda at: (view(at(base)),), (base,)), [edge])
        return self._known[edge]

    def _add(self, operation, edges):
        for number, edge in enumerate(edges):
            self._known.setdefault(edge, Value(len(self.operations), number))
        self.operations.append(operation)

    def _run(self, func, args, kwargs, read):
        items = []
        form = mapped((args, kwargs), lambda item: _place(item, items))
        sources, before = [self._noted(item) for item in items], [(self._owner(x), _version(x)) for x in items]
        named = writes(func) or kwargs.get("inplace")
        targets = self._targets(items[: len(tensors_in(args[:1]))] if named else items, named)
        state = random_state()
        out = super()._run(func, args, kwargs, read)
        inputs = self._derive(out, items)
        targets = {i: target for i, target in targets.items() if edge_of(target.base) != target.edge}
        bases = {id(target.base): target.base for target in targets.values() if target.base.requires_grad}
        changed = [
            owner for x, (owner, version) in zip(items, before, strict=True) if _version(x) != version and edge_of(x)
        ]
        if any(id(owner) not in bases for owner in changed) or (len(bases) < len(targets) and not named):
            raise UnsupportedModule(
                f"{running(self._model)} writes in place by {func.__name__}, which inference in state form cannot repeat "
                "at other values; use an out-of-place operation"
            )
        outputs = [tensor for tensor in tensors_in(out) if tensor.requires_grad]
        kept = [i for i, t in enumerate(outputs) if not any(t is items[target] for target in targets)]
        edges = [edge_of(tensor) for tensor in (*bases.values(), *(outputs[i] for i in kept))]
        if all(edge in self._known for edge in edges):
            return out  # nothing that learns, or its argument
        call = _Repetition(_repeated(func, state), form, sources, targets, tuple(bases), len(outputs), kept)
        reads = [targets[i].old if i in targets else source for i, source in enumerate(sources)]
        reads = dict.fromkeys(read for read in reads if isinstance(read, Value))
        parameters = {id(t): t for t in items if t.requires_grad and edge_of(t) is None}
        name = func.__name__.strip("_")
        self._add(Operation(name, call, tuple(reads), tuple(parameters.values()), tuple(sorted(inputs))), edges)
        return out

    def _noted(self, tensor):
        """A value as `Value`, a parameter as it is, and any other tensor as it is now: forward may write into it later."""
        if tensor.requires_grad:
            return tensor if edge_of(tensor) is None else self.value(tensor)
        if isinstance(tensor, UninitializedTensorMixin):
            return tensor
        key = id(tensor), _version(tensor)
        if key not in self._constants:
            self._constants[key] = tensor, tensor.detach().clone()
        return self._constants[key][1]

    def _targets(self, items, named):
        """What each of ``items`` was before an operation that may write into it, by position.

        Args:
            items: tensors.
            named: whether it is sure to write; otherwise only values are looked at.
        """
        found = {}
        for i, item in enumerate(items):
            base = self._owner(item)
            edge = edge_of(base)
            # Autograd lets nobody write into a parameter; `requires_grad_` only sounds so.
            writable = edge is not None or (named and not base.requires_grad)
            if writable and item.layout is torch.strided and not item.is_nested:
                found[i] = _Target(base, edge, self._noted(base), None if item is base else _geometry(item))
        return found

    def _owner(self, tensor):
        """The tensor whose memory it is, unless nobody has seen that (3-d results of linear layers have such a one)."""
        base = _base(tensor)
        edge = edge_of(base)
        return base if edge is None or edge in self._known else tensor

    def _differentiated(self, *args, **kwargs):
        raise UnsupportedModule(
            f"{running(self._model)} calls torch.autograd.grad inside forward: Z-IL in error form can learn it, inference "
            "in state form cannot evaluate it at other values"
        )

    def _hooked(self, *args, **kwargs):
        raise UnsupportedModule(
            f"{running(self._model)} hooks gradients, which inference in state form has other ones of at every time step; "
            "Z-IL in error form can learn it"
        )

    _retain = _hooked

    def applied(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Note a custom ``function``, and return its result.

        Raises:
            UnsupportedModule: it stands for a module's hooks on gradients.
        """
        if function.__name__ == "BackwardHookFunction":
            self._hooked()
        with _pop_mode_temporarily():
            return self.__torch_function__(function, (), args, kwargs)

    def saving(self, hooks: saved_tensors_hooks) -> None:
        """Refuse hooks that change what operations save, unless they are torch's own, which give back what was saved.

        Raises:
            UnsupportedModule: they are not.
        """
        if type(hooks) is saved_tensors_hooks or not type(hooks).__module__.startswith("torch."):
            self._hooked()


@dataclass(frozen=True)
class _Target:
    """A tensor that an operation may write into: its memory's owner, what that was before, and which part of it it is."""

    base: Tensor
    edge: tuple | None
    old: "Value | Tensor"
    view: Callable | None


@dataclass(frozen=True)
class _Place:
    """Where a tensor stands among an operation's arguments: its position among their tensors."""

    position: int


def _place(item, items):
    if not isinstance(item, Tensor):
        return item
    items.append(item)
    return _Place(len(items) - 1)


def _base(tensor):
    return tensor._base if not isinstance(tensor, UninitializedTensorMixin) and tensor._is_view() else tensor


def _version(tensor):
    return None if isinstance(tensor, UninitializedTensorMixin) or tensor.is_inference() else tensor._version


@dataclass(frozen=True)
class _Repetition:
    """An operation as a function of values; what it writes into are copies, which it returns first.

    Attributes:
        run: the operation.
        form: its arguments, with a `_Place` for each tensor.
        sources: what stands there: a `Value`, or the tensor itself.
        targets: those of them that it writes into, by position.
        written: the ids of the tensors in whose memory they are, as far as those require a gradient afterwards.
        count: how many results it has that require a gradient.
        kept: which of them are its own.
    """

    run: Callable
    form: tuple
    sources: list
    targets: dict
    written: tuple
    count: int
    kept: list

    def __call__(self, at):
        def filled(item):
            if not isinstance(item, _Place):
                return item
            target = self.targets.get(item.position)
            if target is None:
                return now(self.sources[item.position])
            whole = wholes.setdefault(id(target.base), None)
            if whole is None:
                whole = wholes[id(target.base)] = now(target.old).clone()
            return whole if target.view is None else target.view(whole)

        def now(source):
            return at(source) if isinstance(source, Value) else source

        wholes = {}
        args, kwargs = mapped(self.form, filled)
        found = [tensor for tensor in tensors_in(self.run(*args, **kwargs)) if tensor.requires_grad]
        if len(found) != self.count:
            raise UnsupportedModule("an operation has another number of results at the values of a later time step")
        return (*(wholes[base] for base in self.written), *(found[i] for i in self.kept))


def _geometry(view):
    """A function that takes the same view of another tensor as ``view`` is of its base."""
    base = view._base
    size, stride, offset = view.size(), view.stride(), view.storage_offset() - base.storage_offset()
    dtype, layout = view.dtype, base.stride()

    def take(whole):
        if whole.stride() != layout or whole.dtype != dtype:
            raise UnsupportedModule(
                "a view of memory that overlaps, or of another dtype, cannot be taken at other values"
            )
        return whole.as_strided(size, stride, whole.storage_offset() + offset)

    return take


def _repeated(func, state):
    """``func`` as it was run: with the random draws from ``state`` if it has drawn any, under autocast as it was then."""
    drew, autocast = any(not torch.equal(a, b) for a, b in zip(state, random_state(), strict=True)), autocast_state()

    def run(*args, **kwargs):
        if drew and get_innermost_proxy_mode() is not None:
            raise UnsupportedModule(
                f"{func.__name__} draws random numbers, which inference in state form repeats at every time step, as no "
                "program can: use the rule without capturing it"
            )
        now = random_state() if drew else None
        if drew:
            set_random_state(state)
        try:
            if autocast == autocast_state():
                return func(*args, **kwargs)
            with torch.autocast(autocast[0], autocast[1], enabled=autocast[2], cache_enabled=False):
                return func(*args, **kwargs)
        except Exception as error:
            if isinstance(error, PCBenchError) or get_innermost_proxy_mode() is not None:
                raise
            raise UnsupportedModule(
                f"{func.__name__} fails at the values of a later time step ({told(error)}), as inference in state form moves "
                "them; Z-IL in error form can learn it"
            ) from error
        finally:
            if drew:
                set_random_state(now)

    return run


def autocast_state() -> tuple[str, torch.dtype, bool]:
    """The autocast that is on, as arguments for `torch.autocast`: device type, dtype, whether it is enabled."""
    if not hasattr(torch, "get_autocast_dtype"):  # torch 2.3
        if torch.is_autocast_enabled():
            return "cuda", torch.get_autocast_gpu_dtype(), True
        return "cpu", torch.get_autocast_cpu_dtype(), torch.is_autocast_cpu_enabled()
    device = "cuda" if torch.is_autocast_enabled("cuda") else "cpu"
    return device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
