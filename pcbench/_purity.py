"""What makes a traced forward a graph of pure functions, or refuses it.

A vertex is evaluated by itself, at any time and any number of times, so that the only thing a forward may do is to compute
its outputs from its inputs. Writes in place into its own values are replaced by operations that return new ones. What is
left is refused: hooks, state that one call leaves to the next, random numbers that only one call sees.
"""

import copy
import operator
import re
from collections import deque
from contextlib import contextmanager

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree

from pcbench.errors import UnsupportedModule

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

PLAIN = (int, float, str, type(None))  # bool is an int; the rules trace again when a module's own ones change


def described(model):
    return f"the model ({type(model).__name__})"


def _would_not_advance(model, name):
    kinds = {"parameter": model.named_parameters(), "buffer": model.named_buffers()}
    kind = next((kind for kind, named in kinds.items() if name in dict(named)), "attribute")
    return UnsupportedModule(
        f"{kind} {name!r} of {described(model)} is written by a forward that is traced into, so it would not advance; "
        f"{'make it a buffer, and ' if kind == 'attribute' else ''}pass the class that owns it in `leaves`"
    )


def refuse_hooks(model, is_leaf):
    """Raise UnsupportedModule if something is hooked where a graph of local functions has no place for it."""
    from torch.nn.modules import module as registry

    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(hooks for name, hooks in vars(registry).items() if name.startswith("_global_") and name.endswith("hooks")):
        raise UnsupportedModule("hooks for all modules are registered, which no traced module runs; remove them")
    for path, module in model.named_modules():
        # A leaf runs its own; a container's forward hooks are traced.
        lost = kinds if module is model else kinds[2:] if not is_leaf(module) else ()
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


@contextmanager
def autograd_functions_recorded():
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
def random_state_kept(tracer):
    """Refuse a forward that sets the random state: draws made under it would leave the vertices' own order."""
    originals = {name: getattr(torch, name) for name in ("manual_seed", "set_rng_state")}  # fork_rng calls the latter

    def refusing(original):
        def guarded(*args, **kwargs):
            if not tracer.evaluating:
                raise tracer.refuse(
                    "sets torch's random state (manual_seed, set_rng_state or fork_rng), which no vertex would; do it around "
                    "the rule"
                )
            return original(*args, **kwargs)

        return guarded

    for name, original in originals.items():
        setattr(torch, name, refusing(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(torch, name, original)


@contextmanager
def proxies_in_buffers():
    """Let the traced forward replace a buffer, so that `State` can name it: torch before 2.5 refuses a proxy there."""
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


class State:
    """What a model keeps from call to call besides its parameters, as it is now.

    That is its buffers, and in its modules' own attributes and the lists, dicts and sets there: tensors, generators and
    numbers. Into other objects it does not look. A leaf keeps what it likes: a vertex runs its forward as it is.

    Args:
        is_leaf: says of a module whether its forward is not traced into.

    Attributes:
        tensors: the name of the attribute that holds it, for each tensor's id.
    """

    def __init__(self, model, is_leaf):
        self._model, self._is_leaf = model, is_leaf
        self._modules, self._versions, self._generators, self._containers = [], [], [], {}
        self._parameters = [(name, parameter, parameter._version) for name, parameter in model.named_parameters()]
        self._values = {}
        whole = set()
        for path, module in model.named_modules():
            if path and (module in whole or is_leaf(module)):
                whole.update(module.modules())
            attributes, buffers = _own_attributes(module), dict(module._buffers)
            self._modules.append((module, attributes, buffers, module in whole))
            for name, value in (attributes | buffers).items():
                name = f"{path}.{name}".lstrip(".")
                frozen = self._frozen(name, value, module in whole)
                if module not in whole:
                    self._values[name] = frozen
        self.tensors = {id(tensor): name for name, tensor, _, _, _ in self._versions}

    def _frozen(self, name, value, whole):
        """The value with containers as tuples; what it holds is noted down, so that it can be restored."""
        if _traced(value):
            return value
        if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
            self._versions.append((name, value, value._version, value.detach().clone(), whole))
        if isinstance(value, torch.Generator):
            self._generators.append((name, value, value.get_state(), whole))
        if not isinstance(value, (list, tuple, dict, set, deque)) or id(value) in self._containers:
            return value
        if not isinstance(value, tuple):
            self._containers[id(value)] = value, copy.copy(value), whole
        items = value.items() if isinstance(value, dict) else value
        return (type(value), *(self._frozen(name, item, whole) for item in items))

    def after_a_call(self):
        """The state now.

        Raises:
            UnsupportedModule: a tensor was written into or replaced by a computed one, or a generator was drawn from.
        """
        for name, parameter, version in self._parameters:
            if parameter._version != version:
                raise self.not_advanced(name)
        for name, tensor, version, _, whole in self._versions:
            if not whole and tensor._version != version:
                raise self.not_advanced(name)
        for name, generator, state, whole in self._generators:
            if not whole and not torch.equal(generator.get_state(), state):
                raise UnsupportedModule(
                    f"{name!r} of {described(self._model)} is a torch.Generator from which its forward draws, so one draw "
                    "would be frozen into the graph; use nn.Dropout, or draw from torch's global generator in a function "
                    "marked with torch.fx.wrap that takes the tensor as its argument"
                )
        now = State(self._model, self._is_leaf)
        for name, value in self._values.items():
            if isinstance(value, torch.Tensor) and not _traced(value) and _traced(now._values.get(name)):
                raise self.not_advanced(name)
        return now

    def differs_from(self, earlier):
        """The names of what is no longer what it was; a module's own plain numbers may be, see `PLAIN`."""
        names = dict.fromkeys((*earlier._values, *self._values))
        pairs = [(name, earlier._values.get(name), self._values.get(name)) for name in names]
        return [
            name for name, a, b in pairs if not (isinstance(a, PLAIN) and isinstance(b, PLAIN)) and not _alike(a, b)
        ]

    def not_advanced(self, name):
        """The error that says that what is called ``name`` would not advance."""
        return _would_not_advance(self._model, name)

    def restore(self):
        """Put everything back."""
        self._put_back(lambda value: True)
        with torch.no_grad():
            for _, tensor, version, value, _ in self._versions:
                if tensor._version != version:
                    tensor.copy_(value)
        for _, generator, state, _ in self._generators:
            generator.set_state(state)

    def forget_traced_values(self):
        """Put back what holds a value of the graph, and all that a leaf has kept of being asked for its shape."""
        self._put_back(lambda value: any(map(_traced, pytree.tree_leaves(value))))

    def _put_back(self, wanted):
        for module, attributes, buffers, whole in self._modules:
            for current, before in ((vars(module), attributes), (module._buffers, buffers)):
                for name in dict.fromkeys((*before, *current)):
                    if name in _EVERY_MODULES or not (whole or wanted(current.get(name))):
                        continue
                    if name in before:
                        current[name] = before[name]
                    else:
                        del current[name]
        for container, content, whole in self._containers.values():
            if whole or wanted(container):
                container.clear()
                (container.update if isinstance(container, (dict, set)) else container.extend)(content)


_EVERY_MODULES = frozenset(vars(nn.Module())) - {"training"}


def _own_attributes(module):
    return {name: value for name, value in vars(module).items() if name not in _EVERY_MODULES}


def _traced(value):
    return isinstance(value, (fx.Proxy, FakeTensor))


def _alike(a, b):
    if a is b or (_traced(a) and _traced(b)):
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_alike, a, b))
    return not isinstance(a, PLAIN) or a == b


def functionalise(model, graph):
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
        if not node.meta.get("grad", True) and written.meta.get("grad", True):
            raise UnsupportedModule(
                f"{node.name!r} ({node.target}) writes in place into {written.name!r} under no_grad, past its gradient; "
                "compute a new tensor, or write into a detached clone"
            )
        if any(_one_memory(written, other) for other in nodes if other is not written):
            raise UnsupportedModule(
                f"{node.name!r} ({node.target}) writes in place into a part of a tensor that forward has made; "
                "use torch.where, torch.cat or torch.stack"
            )
        for other in nodes[:position]:
            if (
                other.op == "get_attr"
                and ("constant" not in other.meta or "kept" in other.meta)
                and (other is written or _storage(other) == storage)
            ):
                raise _would_not_advance(model, other.meta.get("kept", other.target))
            if other.op == "placeholder" and (other is written or (storage is not None and _storage(other) == storage)):
                raise UnsupportedModule(
                    f"{node.name!r} ({node.target}) writes in place into an input of {described(model)}, which the caller "
                    "would see; use the out-of-place operation, or clone the input first"
                )
        _refuse_other_dtype(node, written)
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


def _refuse_other_dtype(node, written):
    """Raise UnsupportedModule if what replaces a write in place would not be converted to the written tensor's dtype."""
    mine = written.meta.get("fake")
    for argument in node.all_input_nodes[1:]:
        other = argument.meta.get("fake")
        if not isinstance(mine, torch.Tensor) or not isinstance(other, torch.Tensor):
            continue
        if node.target not in _SELECTED and torch.result_type(mine, other) != mine.dtype:
            raise UnsupportedModule(
                f"{node.name!r} ({node.target}) writes {other.dtype} in place into {written.name!r}, which is {mine.dtype}; "
                "convert it first"
            )


# Here an argument of another dtype chooses elements, and none of it is written.
_SELECTED = ("masked_fill", "index_add", "index_fill", "index_copy", "scatter", "scatter_add", "clamp")


def _in_place_name(name):
    return name.endswith("_") and not name.endswith("__") and name != "requires_grad_"


# Out of place these give another dtype, or take what they overwrite for a probability.
_OTHER_OUT_OF_PLACE = re.compile(
    r"(lt|le|gt|ge|eq|ne|less|greater|not_equal|(less|greater)_equal|logical_\w+|bernoulli)_"
)


def _out_of_place(name, node, *owners):
    for owner in owners if not _OTHER_OUT_OF_PLACE.fullmatch(name) else ():
        if hasattr(owner, name[:-1]):
            return getattr(owner, name[:-1])
    raise UnsupportedModule(
        f"{node.name!r}: {name} writes in place and has no out-of-place counterpart; compute a new tensor instead"
    )


def _one_memory(a, b):
    """Whether two nodes are constants (tensors that forward has made without its inputs) in the same memory."""
    a, b = (node.meta.get("constant") for node in (a, b))
    if a is None or b is None or not (a.layout is b.layout is torch.strided):
        return False
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr() != 0


def _storage(node):
    fake = node.meta.get("fake")
    return fake.untyped_storage()._cdata if isinstance(fake, torch.Tensor) else None
