"""A captured program made ready to run: straightened, and with the quickest way to call each operation."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pcbench.program import PASSED_ON, Program, written_positions

# Not all of these are in PyTorch's stubs.
_NAMESPACES = (torch, torch.Tensor, torch._C._nn, torch._C._special, torch._C._fft, torch._C._linalg)  # type: ignore[attr-defined]


def straightened(
    program: Program, tensors: Sequence[torch.Tensor]
) -> tuple[Callable[..., Any], tuple[torch.Tensor, ...]]:
    """The program as a function of what it reads, without what only autograd needed.

    Args:
        program: it stays as it is.
        tensors: the batch's, on which it was captured.

    Returns:
        ``(function, constants)``: the function takes the constants and then the batch's tensors, and returns the loss and
        the list of gradients. Call it under `torch.no_grad`.
    """
    graph = fx.Graph()
    graph.output(graph.graph_copy(program.module.graph, {}))
    constants = _constants_as_arguments(program.module, graph)
    for node in list(graph.nodes):
        if node.target in PASSED_ON:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and not node.users and _is_pure(node.target):
            graph.erase_node(node)
    _bind(graph, [*constants, *tensors])
    return fx.GraphModule(torch.nn.Module(), graph).forward, tuple(constants)


def _constants_as_arguments(module, graph):
    """Turn what the graph reads of the module into arguments before the others, each once."""
    arguments, constants = {}, []
    first = next(iter(graph.nodes))
    for node in [node for node in graph.nodes if node.op == "get_attr"]:
        tensor = getattr(module, node.target)
        if id(tensor) not in arguments:
            with graph.inserting_before(first):
                arguments[id(tensor)] = graph.placeholder(f"constant_{len(constants)}")
            constants.append(tensor)
        node.replace_all_uses_with(arguments[id(tensor)])
        graph.erase_node(node)
    return constants


def _is_pure(target):
    tags = getattr(target, "tags", ())
    schema = getattr(target, "_schema", None)
    return not written_positions(target, schema) and torch.Tag.nondeterministic_seeded not in tags


class _Seen(TorchDispatchMode):
    """Notes which operations are dispatched."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def _bind(graph, tensors):
    """Call operations by PyTorch's ordinary Python bindings, which takes half as long, where these do the very same.

    That is tried out on tensors without data: one dispatch, of the same operation with the same arguments.
    """
    mode, found = FakeTensorMode(allow_non_fake_inputs=True), {}
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    values = {node: mode.from_tensor(t.detach()) for node, t in zip(placeholders, tensors, strict=True)}
    with mode:
        for node in graph.nodes:
            if node.op != "call_function":
                continue
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            try:
                values[node] = node.target(*args, **kwargs)
            except Exception:  # an operation that says nothing without data; what follows stays as it is
                return
            if isinstance(node.target, torch._ops.OpOverload):
                call = node.target, _described(args, kwargs)
                if call not in found:
                    found[call] = _binding(node.target, args, kwargs)
                node.target = found[call] or node.target


def _described(args, kwargs):
    """The same text for calls that differ in tensors' data alone."""
    tensors: list[int] = []

    def described(value):
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) not in tensors:
            tensors.append(id(value))
        strides = value.stride() if value.layout is torch.strided else value.layout
        return tensors.index(id(value)), value.dtype, value.device, value.shape, strides, value.requires_grad

    return repr(pytree.tree_map(described, (args, kwargs)))


def _binding(target, args, kwargs):
    name = target._schema.name.removeprefix("aten::")
    for namespace in _NAMESPACES:
        binding = getattr(namespace, name, None)
        if binding is None:
            continue
        try:
            with _Seen() as seen:
                binding(*args, **kwargs)
        except Exception:  # its arguments are others
            continue
        if len(seen.calls) == 1 and seen.calls[0][0] is target and _alike(seen.calls[0][1:], (args, kwargs), target):
            return binding
    return None


def _alike(seen, meant, target):
    """Whether two calls of an operation have the same arguments, left out where they are the default's or given."""
    schema = target._schema.arguments
    filled = []
    for args, kwargs in (seen, meant):
        names = [argument.name for argument in schema]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        filled.append([given.get(a.name, a.default_value) for a in schema])
    return all(
        a is b or (not isinstance(a, torch.Tensor) and _plain(a) == _plain(b)) for a, b in zip(*filled, strict=True)
    )


def _plain(value):
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return id(value) if isinstance(value, torch.Tensor) else value
