"""What one forward pass did, operation by operation, so that each can be evaluated again at other values.

The state form (`pcbench.rules.dynamics`) needs every vertex's function at values that are not its own prediction. The
operations of the forward pass are replayed for that; the forward itself does not run again, so that whatever else it
does (counts, logs, draws, advances buffers) happens once, as under backpropagation. Hence the function of a vertex is the
one that the forward pass has run: what carries no gradient there (a mask made by a comparison, a random draw, a number
taken out by ``.item()``, the branch taken) is a constant of the weight update.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.fx.experimental.proxy_tensor import get_innermost_proxy_mode
from torch.overrides import _get_current_function_mode, _pop_mode_temporarily

from pcbench.errors import UnsupportedModule
from pcbench.randomness import random_state, set_random_state
from pcbench.values import Tensor, Values, edge_of, mapped, tensors_in, writes


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

    def __init__(self, model, inputs=()):
        super().__init__(model)
        self.operations = []
        self._known = {}  # gradient edge: Value
        self._sources = {id(x): (x, frozenset({i})) for i, x in enumerate(inputs)}
        self._constants = {}  # (id, version) of a tensor that is no value: the tensor, and a copy

    def __enter__(self):
        # Its `apply` is no torch function. (An alias of it that was made before is not seen.)
        self._apply = vars(torch.autograd.Function)["apply"]
        torch.autograd.Function.apply = classmethod(self._seen(self._apply))
        return super().__enter__()

    def __exit__(self, *error):
        torch.autograd.Function.apply = self._apply
        return super().__exit__(*error)

    def _seen(self, original):
        def apply(cls, *args, **kwargs):
            def function(*args, **kwargs):
                return original.__get__(None, cls)(*args, **kwargs)

            function.__name__ = cls.__name__
            if _get_current_function_mode() is not self:  # inside an operation, which is noted whole
                return function(*args, **kwargs)
            with _pop_mode_temporarily():
                return self.__torch_function__(function, (), args, kwargs)

        return apply

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """See `Values`; what is made of the inputs is noted where nothing else is, too."""
        out = super().__torch_function__(func, types, args, kwargs)
        if not torch.is_grad_enabled():
            self._derive(out, tensors_in((args, kwargs or {}), everywhere=True))
        return out

    def _derive(self, out, arguments):
        """Note that ``out`` is made of ``arguments``; return the positions of the inputs that those are made of."""
        sources = [self._sources[id(tensor)][1] for tensor in arguments if id(tensor) in self._sources]
        inputs = frozenset().union(*sources)
        if inputs:
            self._sources.update((id(t), (t, inputs)) for t in tensors_in(out) if not t.requires_grad)
        return inputs

    def value(self, tensor):
        """The `Value` that a tensor with a history is."""
        edge = edge_of(tensor)
        if edge not in self._known:
            if not tensor._is_view():
                raise UnsupportedModule(
                    f"{self.where()} reads a value that {edge[0].name()} made unseen (a compiled part, an alias of an "
                    "autograd function's `apply`, torch.func or torch.autograd.grad inside forward), so that it cannot be "
                    "evaluated at other values; Z-IL in error form can learn it, inference in state form cannot"
                )
            base, view = self.value(tensor._base), _geometry(tensor)
            self._add(Operation("view", lambda at: (view(at(base)),), (base,)), [edge])
        return self._known[edge]

    def _add(self, operation, edges):
        for number, edge in enumerate(edges):
            self._known.setdefault(edge, Value(len(self.operations), number))
        self.operations.append(operation)

    def _run(self, func, args, kwargs, read):
        versions = [(tensor, tensor._version) for tensor in tensors_in((args, kwargs), everywhere=True)]
        given = mapped((args, kwargs), self._noted)
        target = args[0] if (writes(func) or kwargs.get("inplace")) and args and isinstance(args[0], Tensor) else None
        base = target._base if target is not None and target._is_view() else target
        if base is not None and base.requires_grad and edge_of(base) is None:
            base = target = None  # a parameter: autograd lets nobody write into it, `requires_grad_` only sounds so
        old = None if base is None else self.value(base) if base.requires_grad else base.detach().clone()
        state = random_state()
        out = super()._run(func, args, kwargs, read)
        outputs = [tensor for tensor in tensors_in(out) if tensor.requires_grad]
        inputs = self._derive(out, [tensor for tensor, _ in versions])
        if not outputs and not (base is not None and base.requires_grad):
            return out
        if base is None and any(v != t._version and t.requires_grad and edge_of(t) for t, v in versions):
            raise UnsupportedModule(
                f"{self.where()} writes in place by {func.__name__}, which inference in state form cannot repeat at other "
                "values; use an operation whose name ends with an underscore"
            )
        run = _repeated(func, state)
        if base is not None:
            call, edges = _write(run, given, old, None if target is base else _geometry(target)), [edge_of(base)]
            given = (old, given[0][1:], given[1])
        else:
            edges = [edge_of(tensor) for tensor in outputs]
            if all(edge in self._known for edge in edges):
                return out  # it has returned its argument
            call = _computation(run, given, len(outputs))
        reads, parameters = {}, {}
        mapped(given, lambda item: reads.setdefault(item) if isinstance(item, Value) else None)
        parameters = {id(t): t for t, _ in versions if t.requires_grad and edge_of(t) is None}
        name = func.__name__.strip("_")
        self._add(Operation(name, call, tuple(reads), tuple(parameters.values()), tuple(sorted(inputs))), edges)
        return out

    def _noted(self, item):
        """A value as `Value`, a parameter as it is, and any other tensor as it is now: forward may write into it later."""
        if not isinstance(item, Tensor):
            return item
        if item.requires_grad:
            return item if edge_of(item) is None else self.value(item)
        key = id(item), item._version
        if key not in self._constants:
            self._constants[key] = item, item.detach().clone()
        return self._constants[key][1]

    def _differentiated(self, *args, **kwargs):
        raise UnsupportedModule(
            f"{self.where()} calls torch.autograd.grad inside forward: Z-IL in error form can learn it, inference in state "
            "form cannot evaluate it at other values"
        )


def _computation(run, given, count):
    def call(at):
        args, kwargs = _filled(given, at)
        outputs = tuple(tensor for tensor in tensors_in(run(*args, **kwargs)) if tensor.requires_grad)
        if len(outputs) != count:
            raise UnsupportedModule("an operation has another number of results at the values of a later time step")
        return outputs

    return call


def _write(run, given, old, view):
    """A write in place as a function from what was there to what is there then.

    Args:
        old: the `Value`, or the constant, in whose memory is written.
        view: which part of it is written to; None for all.
    """
    (_, *rest), kwargs = given

    def call(at):
        whole = (at(old) if isinstance(old, Value) else old).clone()
        args, keywords = _filled((rest, kwargs), at)
        run(whole if view is None else view(whole), *args, **keywords)
        return (whole,)

    return call


def _filled(given, at):
    return mapped(given, lambda item: at(item) if isinstance(item, Value) else item)


def _geometry(view):
    """A function that takes the same view of another tensor as ``view`` is of its base."""
    base = view._base
    size, stride, offset = view.size(), view.stride(), view.storage_offset() - base.storage_offset()
    dtype, layout = view.dtype, base.stride()

    def take(whole):
        if whole.stride() != layout or whole.dtype != dtype:
            raise UnsupportedModule("a view of memory that overlaps, or of another dtype, cannot be taken at other values")
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
        if not drew and autocast == autocast_state():
            return func(*args, **kwargs)
        now = random_state()
        set_random_state(state)
        try:
            with torch.autocast(autocast[0], autocast[1], enabled=autocast[2], cache_enabled=False):
                return func(*args, **kwargs)
        finally:
            set_random_state(now)

    return run


def autocast_state():
    """The autocast that is on, as arguments for `torch.autocast`: device type, dtype, whether it is enabled."""
    if not hasattr(torch, "get_autocast_dtype"):  # torch 2.3
        if torch.is_autocast_enabled():
            return "cuda", torch.get_autocast_gpu_dtype(), True
        return "cpu", torch.get_autocast_cpu_dtype(), torch.is_autocast_cpu_enabled()
    device = "cuda" if torch.is_autocast_enabled("cuda") else "cpu"
    return device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
