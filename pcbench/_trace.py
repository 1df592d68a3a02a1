"""From an ``nn.Module`` to a ``torch.fx`` graph, specialised to the shapes of one batch.

Plain symbolic tracing knows no shapes, so ``for t in range(x.shape[1])`` or ``if x.dim() == 2`` stop it. Here every
proxy carries a fake tensor (shape, dtype and device, no data): whatever depends on those is concrete while tracing, and
only what depends on the *data* is refused. The graph is therefore valid for one input signature; `pcbench.rules`
traces again when the signature changes.
"""

import contextlib
import operator
import os
import random
import sys
from contextlib import contextmanager
from dataclasses import is_dataclass

import numpy as np
import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from pcbench import _purity
from pcbench._purity import (
    IN_PLACE_OPERATORS,
    State,
    autograd_functions_recorded,
    described,
    functionalise,
    proxies_in_buffers,
    random_state_kept,
    refuse_hooks,
)
from pcbench.errors import UnsupportedModule

FUSED = {nn.RNN: "pcbench.nn.RNN", nn.LSTM: "pcbench.nn.LSTM", nn.GRU: "pcbench.nn.GRU"}

# One module of these holds many layers: they are traced into, so that each layer is a vertex of its own.
CONTAINERS = (
    nn.Sequential,
    nn.ModuleList,
    nn.ModuleDict,
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
)

_LIBRARIES = (os.path.dirname(torch.__file__), os.path.dirname(__file__), contextlib.__file__)
_NOT_THE_USERS = (os.path.dirname(torch.__file__), __file__, _purity.__file__, contextlib.__file__)


def trace(model, inputs, leaves=()):
    """Trace ``model`` on ``inputs`` (a tuple, as its ``forward`` takes them) without computing with the data.

    Returns:
        ``fx.Graph`` in functional form: operations that write in place are replaced by those that do not. Each node's
        ``meta["fake"]`` is its value's fake tensor, or a pytree of such.

    Raises:
        UnsupportedModule: naming the module and the line that cannot be expressed as local functions.
    """
    before = State(model, lambda module: _is_leaf(module, leaves))
    try:
        graph = _record(model, inputs, leaves, before)
        first = before.after_a_call()
        if first.differs_from(before):
            # It keeps something. What a second call leaves as it is (a mask built once) is a cache; the rest is state.
            graph = _record(model, inputs, leaves, first)
            changed = first.after_a_call().differs_from(first)
            if changed:
                raise first.not_advanced(changed[0])
            first.restore()
    except BaseException:
        before.restore()
        raise
    before.forget_traced_values()
    functionalise(model, graph)
    return graph


def _record(model, inputs, leaves, state):
    tracer = _Tracer(inputs, leaves, state)
    refuse_hooks(model, lambda module: _is_leaf(module, leaves))
    drawn = _random_states()
    try:
        with autograd_functions_recorded(), proxies_in_buffers(), random_state_kept(tracer):
            graph = tracer.trace(model)
    except (UnsupportedModule, KeyboardInterrupt):
        raise
    except Exception as error:  # whatever the user's forward raises on proxies, say where
        raise UnsupportedModule(f"{tracer.where()} cannot be traced: {error}") from error
    finally:
        tracer.finished = True
        now = _random_states()
        torch.set_rng_state(drawn[0])
    if tracer.refused:  # and the user's forward has caught it
        raise tracer.refused
    if not torch.equal(drawn[0], now[0]) or drawn[1:] != now[1:]:
        raise UnsupportedModule(
            f"{described(model)}: its forward draws random numbers that no input reaches, so one draw would be frozen into "
            "the graph; use nn.Dropout, or a function marked with torch.fx.wrap that takes the tensor as its argument"
        )
    return graph


def _is_leaf(module, leaves):
    if isinstance(module, tuple(leaves)):
        return True
    own = parametrize.type_before_parametrizations(module)
    return own.__module__.startswith("torch.nn") and not isinstance(module, CONTAINERS)


def _random_states():
    return torch.get_rng_state(), random.getstate(), repr(np.random.get_state())


# What would lead other libraries to the memory that a fake tensor does not have.
_MEMORY = (
    "__dlpack__",
    "__dlpack_device__",
    "__array__",
    "__array_interface__",
    "__cuda_array_interface__",
    "data_ptr",
)


class _Proxy(fx.Proxy):
    """A proxy whose value's structure is known."""

    @property
    def __class__(self):
        """What `isinstance` is answered with: a user's forward that asks takes the branch that it takes with the value.

        PyTorch's own code would take it for a tensor that has memory.
        """
        asked_by_user = not sys._getframe(1).f_code.co_filename.startswith(_LIBRARIES)
        is_tensor = isinstance(self.__dict__["node"].meta.get("fake"), torch.Tensor)
        return torch.Tensor if asked_by_user and is_tensor else type(self)

    def __getattr__(self, name):
        if name in _MEMORY:
            raise AttributeError(f"a traced tensor has no {name}: only its shape, dtype and device are known")
        value = getattr(self.node.meta["fake"], name)
        if callable(value) and not isinstance(value, torch.Tensor):
            return super().__getattr__(name)  # a method: recorded when it is called
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def __setattr__(self, name, value):
        if name in ("data", "grad"):
            raise self.tracer.refuse(
                f"assigns to .{name} of a traced tensor, which would be lost; compute a new tensor"
            )
        super().__setattr__(name, value)

    def __setitem__(self, index, value):
        raise self.tracer.refuse("assigns to a part of a tensor in place; use torch.where, torch.cat or torch.stack")

    def __len__(self):
        return len(self.node.meta["fake"])

    def __int__(self):
        return self.tracer.to_bool(self)

    __float__ = __complex__ = __index__ = __int__


def _recorded(function):
    def in_place(self, other):
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return in_place


# Without these, Python takes `x *= 2` for `x = x * 2`, and another name of x, or a view, would not see the write.
for _operator in IN_PLACE_OPERATORS:
    setattr(_Proxy, f"__{_operator.__name__}__", _recorded(_operator))


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # what is computed from a buffer is computed anew at every update

    def __init__(self, inputs, leaves, state):
        super().__init__()
        self.refused = None
        self.finished = False
        self.kept = state.tensors
        self.constants = {}
        self.autocast = _autocast()
        self.inputs = inputs
        self.leaves = leaves
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.evaluating = False

    def is_leaf_module(self, module, path):
        return _is_leaf(module, self.leaves)

    def create_args_for_root(self, root_fn, is_module, concrete_args=None):
        leaves, spec = pytree.tree_flatten(self.inputs)
        proxies = [
            self._placeholder(i, leaf) if isinstance(leaf, torch.Tensor) else leaf for i, leaf in enumerate(leaves)
        ]
        return root_fn, [self.root, *pytree.tree_unflatten(proxies, spec)]

    def _placeholder(self, i, value):
        node = self.create_node("placeholder", f"input_{i}", (), {})
        node.meta["fake"] = self.mode.from_tensor(value.detach())
        return self.proxy(node)

    def proxy(self, node):
        return _Proxy(node, self)

    def create_arg(self, a):
        if isinstance(a, torch.Generator):
            raise self.refuse(
                "draws from a torch.Generator of its own, whose state no rule restores; draw from torch's global one"
            )
        if isinstance(a, fx.Proxy):
            if a.tracer.finished:
                raise self.refuse(_KEPT)
            return a.node
        if isinstance(a, tuple) and hasattr(a, "_fields"):
            return type(a)(*(self.create_arg(item) for item in a))  # fx would make a node of the named tuple
        if is_dataclass(a):
            raise self.refuse(f"passes on or returns a {type(a).__name__}; use a tensor, or a tuple or dict of tensors")
        if isinstance(a, torch.Tensor) and not self._is_attribute(a):
            if a.requires_grad:
                raise self.refuse(
                    "reads a parameter past attribute access (from a list, or `parameters()`): its gradient would be lost; "
                    "read it as an attribute of its module, such as self.weight"
                )
            # fx would store a constant as a new attribute of the user's model; the node itself keeps it here. One tensor
            # is one node, so that who reads it after a write in place reads what was written.
            if id(a) not in self.constants:
                node = self.create_node("get_attr", f"constant_{len(self.graph.nodes)}", (), {})
                node.meta["constant"] = a
                if id(a) in self.kept:
                    node.meta["kept"] = self.kept[id(a)]
                node.meta["fake"] = self.mode.from_tensor(a)
                self.constants[id(a)] = node
            return self.constants[id(a)]
        return super().create_arg(a)

    def _is_attribute(self, tensor):
        return any(tensor is t for t in (*self.root.parameters(), *self.root.buffers()))

    def call_module(self, m, forward, args, kwargs):
        if self.evaluating:
            return forward(*args, **kwargs)
        path = self.path_of_module(m)
        for fused, counterpart in FUSED.items():
            if isinstance(m, fused):
                raise UnsupportedModule(
                    f"{path!r} (nn.{fused.__name__}) is fused: all its time steps are one kernel; use {counterpart}"
                )
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr, attr_val, parameter_proxy_cache):
        return attr_val if self.evaluating else super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_proxy(self, kind, target, args, kwargs, name=None, type_expr=None, proxy_factory_fn=None):
        """Record the operation, unless its value is no tensor but a fact about shapes: that is returned as it is."""
        if self.finished:
            raise self.refuse(_KEPT)
        if parametrize._cache_enabled:
            raise self.refuse(
                "enters torch.nn.utils.parametrize.cached, whose shared weight would span several vertices; leave it out"
            )
        if target in ("__setitem__", torch.Tensor.__setitem__, operator.setitem):
            raise self.refuse("assigns to a part of a tensor in place; use torch.where, torch.cat or torch.stack")
        if kwargs.get("out") is not None:
            raise self.refuse("writes into `out`; compute a new tensor")
        if _autocast() != self.autocast:
            raise self.refuse("switches autocast inside forward, which no vertex would see; enter it around the rule")
        fake = self._evaluate(kind, target, args, kwargs)
        if not any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(fake)):
            return fake
        proxy = super().create_proxy(kind, target, args, kwargs, name, type_expr, proxy_factory_fn)
        proxy.node.meta["fake"] = fake
        proxy.node.meta["grad"] = torch.is_grad_enabled()
        return proxy

    def _evaluate(self, kind, target, args, kwargs):
        def fake(value):
            if isinstance(value, fx.Proxy):
                return fx.node.map_arg(value.node, lambda node: node.meta["fake"])
            return value

        args, kwargs = _map_proxies((args, kwargs), fake)
        with self._evaluation(), self.mode, torch.random.fork_rng(devices=[]):
            try:
                if kind == "get_attr":
                    value = self.root
                    for atom in target.split("."):
                        value = getattr(value, atom)
                    return self.mode.from_tensor(value)
                if kind == "call_module":
                    module = self.root.get_submodule(target)
                    # Given fake tensors of its own, for a real buffer would be written to.
                    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
                    state = {name: torch.empty_like(value) for name, value in state.items()}
                    with _fixed_momentum(module):
                        return torch.func.functional_call(module, state, args, kwargs)
                if kind == "call_method":
                    return getattr(args[0], target)(*args[1:], **kwargs)
                return target(*args, **kwargs)
            except (DataDependentOutputException, DynamicOutputShapeException) as error:
                raise self.refuse(_DATA_DEPENDENT) from error

    @contextmanager
    def _evaluation(self):
        self.evaluating = True
        try:
            yield
        finally:
            self.evaluating = False

    def iter(self, obj):
        return iter([obj[i] for i in range(len(obj))])

    def to_bool(self, obj):
        raise self.refuse(_DATA_DEPENDENT)

    def refuse(self, why):
        """Return the error to raise; it is kept, for a forward may catch it and go on."""
        self.refused = self.refused or UnsupportedModule(f"{self.where()} {why}")
        return self.refused

    def where(self):
        """Name the module being traced and the user's line that was running."""
        frame, line = sys.exc_info()[2], None
        frames = []
        while frame is not None:
            frames.append((frame.tb_frame.f_code.co_filename, frame.tb_lineno))
            frame = frame.tb_next
        current = sys._getframe()
        outer = []
        while current is not None:
            outer.append((current.f_code.co_filename, current.f_lineno))
            current = current.f_back
        for file, number in [*reversed(frames), *outer]:
            if not file.startswith(_NOT_THE_USERS) and not file.startswith("<"):
                line = f"{file}:{number}"
                break
        path = next(reversed(self.module_stack), "") if getattr(self, "module_stack", None) else ""
        module = self.root.get_submodule(path) if path else self.root
        return f"{path or 'the model'!r} ({type(module).__name__}), {line or 'unknown line'},"


_DATA_DEPENDENT = (
    "depends on the values of a tensor, not only on its shape (an `if`, a loop, `.item()` or a mask as index): such "
    "control flow has no fixed graph; use torch.where, or mark the function with torch.fx.wrap so that it is one vertex"
)


_KEPT = (
    "reads what an earlier call has left in an attribute, which would not advance; keep it in a buffer of a module of its "
    "own, and pass that module's class in `leaves`"
)


@contextmanager
def _fixed_momentum(module):
    """BatchNorm without a momentum reads a number from its counter, which a fake one has not; no shape depends on it."""
    averages = isinstance(module, nn.modules.batchnorm._NormBase) and module.momentum is None
    if averages:
        module.momentum = 0.0
    try:
        yield
    finally:
        if averages:
            module.momentum = None


def _autocast():
    """For which devices autocast is on, and with which dtypes: a value to compare."""
    if hasattr(torch, "get_autocast_dtype"):  # from PyTorch 2.4 on
        return [(torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in ("cpu", "cuda")]
    return torch.is_autocast_enabled(), torch.is_autocast_cpu_enabled(), torch.get_autocast_cpu_dtype()


def _map_proxies(tree, function):
    """Apply ``function`` to every proxy in nested tuples, lists, dicts and slices; leave the rest."""
    if isinstance(tree, fx.Proxy):
        return function(tree)
    if isinstance(tree, tuple):
        items = [_map_proxies(item, function) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    if isinstance(tree, list):
        return [_map_proxies(item, function) for item in tree]
    if isinstance(tree, dict):
        return {key: _map_proxies(item, function) for key, item in tree.items()}
    if isinstance(tree, slice):
        return slice(*(_map_proxies(item, function) for item in (tree.start, tree.stop, tree.step)))
    return tree
