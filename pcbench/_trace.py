"""From an ``nn.Module`` to a ``torch.fx`` graph, specialised to the shapes of one batch.

Plain symbolic tracing knows no shapes, so ``for t in range(x.shape[1])`` or ``if x.dim() == 2`` stop it. Here every
proxy carries a fake tensor (shape, dtype and device, no data): whatever depends on those is concrete while tracing, and
only what depends on the *data* is refused. The graph is therefore valid for one input signature; `pcbench.rules`
traces again when the signature changes.
"""

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
from torch.utils import _pytree as pytree

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

IN_PLACE_OPERATORS = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.imatmul: operator.matmul,
    operator.ipow: operator.pow,
    operator.imod: operator.mod,
    operator.ifloordiv: operator.floordiv,
    operator.iand: operator.and_,
    operator.ior: operator.or_,
    operator.ixor: operator.xor,
}

_HERE = (os.path.dirname(torch.__file__), __file__)


def trace(model, inputs, leaves=()):
    """Trace ``model`` on ``inputs`` (a tuple, as its ``forward`` takes them) without computing with the data.

    Returns:
        ``fx.Graph`` in functional form: operations that write in place are replaced by those that do not. Each node's
        ``meta["fake"]`` is its value's fake tensor, or a pytree of such.

    Raises:
        UnsupportedModule: naming the module and the line that cannot be expressed as local functions.
    """
    tracer = _Tracer(inputs, leaves)
    _refuse_hooks(model, tracer)
    state, other_states = torch.get_rng_state(), (random.getstate(), repr(np.random.get_state()))
    before = _snapshot(model)
    try:
        with _autograd_functions_recorded(), _proxies_in_buffers():
            graph = tracer.trace(model)
    except (UnsupportedModule, KeyboardInterrupt):
        raise
    except Exception as error:  # whatever the user's forward raises on proxies, say where
        raise UnsupportedModule(f"{tracer.where()} cannot be traced: {error}") from error
    finally:
        written = _restore(before)
    if tracer.refused:  # and the user's forward has caught it
        raise tracer.refused
    if not torch.equal(state, torch.get_rng_state()) or other_states != (
        random.getstate(),
        repr(np.random.get_state()),
    ):
        torch.set_rng_state(state)
        raise UnsupportedModule(
            f"{_kind(model)}: its forward draws random numbers that no input reaches, so one draw would be frozen into "
            "the graph; use nn.Dropout, or a function marked with torch.fx.wrap that takes the tensor as its argument"
        )
    if written:
        raise UnsupportedModule(
            f"buffer {written[0]!r} of {_kind(model)} is written by a forward that is traced into, so it would "
            "not advance; pass the class that owns it in `leaves`"
        )
    _functionalise(model, graph)
    return graph


def _refuse_hooks(model, tracer):
    """Raise UnsupportedModule if something is hooked where a graph of local functions has no place for it."""
    from torch.nn.modules import module as registry

    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(hooks for name, hooks in vars(registry).items() if name.startswith("_global_") and name.endswith("hooks")):
        raise UnsupportedModule("hooks for all modules are registered, which no traced module runs; remove them")
    for path, module in model.named_modules():
        # A leaf runs its own; a container's forward hooks are traced.
        lost = kinds if module is model else kinds[2:] if not tracer.is_leaf_module(module, path) else ()
        for kind in lost:
            if getattr(module, kind):
                raise UnsupportedModule(
                    f"{path or 'the model'!r} ({type(module).__name__}) has {kind.strip('_').replace('_', ' ')}, which no "
                    "vertex would run; remove them, or put what they do into forward"
                )
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise UnsupportedModule(
                f"parameter {name!r} has gradient hooks, which a vertex would run on its own share alone; remove them, and "
                "change param.grad after rule.backward instead"
            )


def _snapshot(model):
    """Every module's path, attributes and buffers, and the buffers' values, as they are before its forward is run."""
    return [
        (
            path,
            module,
            dict(vars(module)),
            dict(module._buffers),
            {name: (buffer._version, buffer.clone()) for name, buffer in module.named_buffers(recurse=False)},
        )
        for path, module in model.named_modules()
    ]


def _restore(snapshot):
    """Undo what the traced forward has written into the model; return the names of the tensors that it replaced."""
    written = []
    for path, module, attributes, buffers, values in snapshot:
        for current, before in ((vars(module), attributes), (module._buffers, buffers)):
            for name in [name for name, value in current.items() if isinstance(value, fx.Proxy)]:
                if isinstance(before.get(name), torch.Tensor):
                    written.append(f"{path}.{name}".lstrip("."))
                if name in before:
                    current[name] = before[name]
                else:
                    del current[name]
        for name, (version, value) in values.items():
            if buffers[name]._version != version:
                written.append(f"{path}.{name}".lstrip("."))
                with torch.no_grad():
                    buffers[name].copy_(value)
    return written


@contextmanager
def _autograd_functions_recorded():
    """Record a custom autograd function as one operation: if it were traced into, its own backward would be lost."""
    original = vars(torch.autograd.Function)["apply"]

    def apply(cls, *args, **kwargs):
        function = original.__get__(None, cls)
        for argument in (*args, *kwargs.values()):
            if isinstance(argument, fx.Proxy):
                return argument.tracer.create_proxy("call_function", function, args, kwargs, name=cls.__name__)
        return function(*args, **kwargs)

    def refuse(cls, forward):
        function = forward.__func__ if isinstance(forward, staticmethod) else forward

        def guarded(*args, **kwargs):
            for argument in (*args, *kwargs.values()):
                if isinstance(argument, fx.Proxy):
                    raise argument.tracer.refuse(
                        f"calls {cls.__name__}.apply by a name that was bound before: its own backward would be lost; "
                        f"write {cls.__name__}.apply(...) in forward"
                    )
            return function(*args, **kwargs)

        return staticmethod(guarded)

    forwards = {cls: vars(cls)["forward"] for cls in _subclasses(torch.autograd.Function) if "forward" in vars(cls)}
    torch.autograd.Function.apply = classmethod(apply)
    for cls, forward in forwards.items():
        cls.forward = refuse(cls, forward)
    try:
        yield
    finally:
        torch.autograd.Function.apply = original
        for cls, forward in forwards.items():
            cls.forward = forward


def _subclasses(cls):
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


@contextmanager
def _proxies_in_buffers():
    """Let the traced forward replace a buffer, so that `_restore` can name it: torch before 2.5 refuses a proxy there."""
    original = nn.Module.__setattr__

    def assign(module, name, value):
        if isinstance(value, fx.Proxy) and name in module._buffers:
            module._buffers[name] = value
        else:
            original(module, name, value)

    nn.Module.__setattr__ = assign
    try:
        yield
    finally:
        nn.Module.__setattr__ = original


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

    def __init__(self, inputs, leaves):
        super().__init__()
        self.refused = None
        self.constants = {}
        self.autocast = _autocast()
        self.inputs = inputs
        self.leaves = tuple(leaves)
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.evaluating = False

    def is_leaf_module(self, module, path):
        if isinstance(module, self.leaves):
            return True
        return type(module).__module__.startswith("torch.nn") and not isinstance(module, CONTAINERS)

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
        if isinstance(a, fx.Proxy):
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
        if target in ("__setitem__", torch.Tensor.__setitem__, operator.setitem):
            raise self.refuse("assigns to a part of a tensor in place; use torch.where, torch.cat or torch.stack")
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
            if not file.startswith(_HERE) and not file.startswith("<"):
                line = f"{file}:{number}"
                break
        path = next(reversed(self.module_stack), "") if getattr(self, "module_stack", None) else ""
        module = self.root.get_submodule(path) if path else self.root
        return f"{path or 'the model'!r} ({type(module).__name__}), {line or 'unknown line'},"


_DATA_DEPENDENT = (
    "depends on the values of a tensor, not only on its shape (an `if`, a loop, `.item()` or a mask as index): such "
    "control flow has no fixed graph; use torch.where, or mark the function with torch.fx.wrap so that it is one vertex"
)


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


def _kind(model):
    return f"the model ({type(model).__name__})"


def _functionalise(model, graph):
    """Replace what writes into its argument by what returns a new value, for every later reader of that argument.

    Values of the graph are shared between vertices, so nothing may write into them. Writing through a *view* of a value
    that is read later would need the base to be rebuilt: that is refused.
    """
    nodes = list(graph.nodes)
    for position, node in enumerate(nodes):
        if not _make_out_of_place(model, node):
            continue
        written = node.all_input_nodes[0]
        storage = _storage(written)
        for other in nodes[:position]:
            if (
                other.op == "get_attr"
                and "constant" not in other.meta
                and (other is written or _storage(other) == storage)
            ):
                raise UnsupportedModule(
                    f"{_what(model, other.target)} of {_kind(model)} is written by a forward that is traced into, so it "
                    "would not advance; pass the class that owns it in `leaves`"
                )
        later = set(nodes[position + 1 :])
        for other in nodes[:position]:
            shares = other is not written and storage is not None and _storage(other) == storage
            # Nodes already replaced by an earlier in-place operation have no users left.
            if shares and any(user in later for user in other.users):
                raise UnsupportedModule(
                    f"{node.name!r} ({node.target}) writes in place into {written.name!r}, which shares its memory "
                    f"with {other.name!r}, and that is read afterwards; use the out-of-place operation"
                )
        written.replace_all_uses_with(node, delete_user_cb=lambda user, later=later: user in later)


def _what(model, target):
    return f"{'parameter' if target in dict(model.named_parameters()) else 'buffer'} {target!r}"


def _make_out_of_place(model, node):
    """Rewrite one node; return whether it wrote into its first argument."""
    if node.op == "call_module":
        return bool(getattr(model.get_submodule(node.target), "inplace", False))
    if node.op == "call_function":
        if node.target in IN_PLACE_OPERATORS:
            node.target = IN_PLACE_OPERATORS[node.target]
            return isinstance(node.args[0], fx.Node)
        if node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
            return True
        name = getattr(node.target, "__name__", "")
        # The names of and, or and not end like those of what writes in place.
        if _in_place_name(name) and getattr(node.target, "__module__", "") != "_operator":
            node.target = _out_of_place(name, node, torch, torch.nn.functional, torch.Tensor)
            return True
    if node.op == "call_method" and _in_place_name(node.target):
        node.target = _out_of_place(node.target, node, torch.Tensor).__name__
        return True
    return False


def _in_place_name(name):
    return name.endswith("_") and not name.endswith("__") and name != "requires_grad_"


def _out_of_place(name, node, *owners):
    for owner in owners:
        if hasattr(owner, name[:-1]):
            return getattr(owner, name[:-1])
    raise UnsupportedModule(
        f"{node.name!r}: {name} writes in place and has no out-of-place counterpart; compute a new tensor instead"
    )


def _storage(node):
    fake = node.meta.get("fake")
    return fake.untyped_storage()._cdata if isinstance(fake, torch.Tensor) else None
