"""Who reads what: the mode in which a user's forward runs, once a weight update, as it runs under backpropagation.

No autograd graph may span two vertices. So every operation that merges values, or that joins a value and parameters, reads
each value through its *leaf*: an alias without history, made once per value and shared by all its readers. What the
operation returns then carries a graph that ends at leaves and parameters: the vertex. Operations that follow one value
alone (activations, pooling, views), and writes in place as far as they concern what they write into, belong to the vertex
that made it and run on the value itself: PyTorch keeps track of aliases and of histories that a write replaces.

A value is named by its *gradient edge*, (autograd node, number of the node's output), not by the Python object: after a
write in place the same object is another value.

`Values.pass_back` sends errors along these graphs, each elementary function's own vector-Jacobian product at a time: the
autograd nodes in the order in which PyTorch's engine would visit them, so that sums are added up in its order, bit by bit.
Histories that arose unseen (custom functions, compiled or scripted parts, C++ extensions) consist of such nodes too.
"""

import heapq
import os
import sys
from collections import OrderedDict
from weakref import ref

import torch
from torch import nn
from torch.autograd.graph import GradientEdge
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from pcbench.aside import unnoticed
from pcbench.errors import UnsupportedModule

_LIBRARIES = (os.path.dirname(torch.__file__), os.path.dirname(__file__))
_IN_PLACE = {f"__i{name}__" for name in "add sub mul truediv floordiv mod pow and or xor lshift rshift matmul".split()}
_IN_PLACE.add("__setitem__")
Tensor = torch.Tensor


class Values(TorchFunctionMode):
    """One forward pass, with its loss, in which no autograd graph spans two vertices.

    Use it as a context manager around the forward; afterwards `pass_back` computes the errors.

    Raises:
        UnsupportedModule: forward itself calls ``backward``; names the module and the line.
    """

    def __init__(self, model):
        super().__init__()
        self._model = model
        self._leaves = {}  # gradient edge of a value: its leaf
        self._values = {}  # id of a leaf: (the leaf, the edge of its value)
        self._hooks = {}  # gradient edge: the tensor hooks on its value
        self._retained = {}  # gradient edge: the tensors that want to keep its error in ``grad``
        self._handed_out = set()  # nodes that forward has asked for: they may carry hooks, which only the engine runs

    def __enter__(self):
        self._aside = _ASIDE.made()
        self._aside.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        return self._aside.__exit__(*error)

    # Forward: what an operation reads.

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run ``func``, its arguments cut off from what computed them where it is a vertex of its own."""
        kwargs = kwargs or {}
        if not torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            return func(*args, **kwargs)
        if (special := _SPECIAL.get(func)) is not None:
            return getattr(self, special)(*args, **kwargs)
        read = []
        _differentiable(args, read)
        if kwargs:
            _differentiable(kwargs, read)
        return self._run(func, args, kwargs, read)

    def _run(self, func, args, kwargs, read):
        if len(read) > 1:
            # A value and a parameter, or two values; what follows one value alone belongs to the vertex that made it.
            edges = {edge_of(tensor) for tensor in read}
            if len(edges) > 1:
                return self._run_apart(func, args, kwargs)
        return func(*args, **kwargs)

    def _run_apart(self, func, args, kwargs):
        kept = set()
        if writes(func):
            written = []
            _differentiable(args[:1], written)
            # What is read beside being written to must be one value in both roles: its contributions have one order.
            kept.update(map(edge_of, written))
        cut_args, cut_kwargs = mapped((args, kwargs), lambda item: self.leaf(item, kept))
        out = func(*cut_args, **cut_kwargs)
        if not kept and any(self._is_passed_on(tensor) for tensor in tensors_in(out)):
            return func(*args, **kwargs)
        return out

    def _is_passed_on(self, tensor):
        """Whether an operation's result is its argument, or a view of it: then it is no vertex of its own."""
        return id(tensor) in self._values or (tensor._is_view() and id(tensor._base) in self._values)

    def leaf(self, tensor, kept=()):
        """What a reader of ``tensor`` is given: the leaf of its value; a parameter, and what is no tensor, as it is."""
        if not isinstance(tensor, Tensor) or not tensor.requires_grad:
            return tensor
        edge = edge_of(tensor)
        if edge is None or edge in kept:
            return tensor
        leaf = self._leaves.get(edge)
        if leaf is None:
            leaf = self._leaves[edge] = tensor.detach().requires_grad_()
            self._values[id(leaf)] = leaf, edge
        return leaf

    # Backward: how errors travel.

    def pass_back(self, outputs, errors, inputs=None, create_graph=False):
        """Send errors back through all vertices, each visited once, when all of its error has arrived.

        The code carries −ε, the sign that optimizers descend.

        Args:
            outputs: tensors; the list is emptied, so that each vertex is freed as soon as it has passed its error on.
            errors: one for each of them, of its shape.
            inputs: the tensors whose errors are asked for, only; None asks for all that are read without history
                (parameters).
            create_graph: whether the errors can be differentiated in their turn.

        Returns:
            ``{tensor: gradient}``, or with ``inputs`` one gradient or None for each of them.

        Raises:
            UnsupportedModule: an error arrived at a vertex that had already passed its error on.
        """
        route = _Everywhere() if inputs is None else _Route(self, outputs, inputs)
        pending = _Pending(self, route)
        with torch.set_grad_enabled(create_graph):
            for error in errors:
                output = outputs.pop(0)
                pending.arrive(*(edge_of(output) or (_accumulator(output), 0)), error)
                del output
            while pending:
                node, errors = pending.pop()
                errors = [self._whole(node, number, error) for number, error in enumerate(errors)]
                route.passed(node, errors)
                if inputs is None:
                    self._forget(node, len(errors))
                if not route.goes_on(node):
                    continue
                products = self._products(node, errors, create_graph)
                self._keep(node, errors)
                for (following, number), product in zip(node.next_functions, products, strict=True):
                    if following is not None:
                        pending.arrive(following, number, product)
        if inputs is None:
            return pending.leaves
        return [route.errors.get(edge_of(x)) if edge_of(x) else pending.leaves.get(x) for x in inputs]

    def _whole(self, node, number, error):
        """The error of a value, complete, after the hooks that the value has."""
        if error is None or not self._hooks:
            return error
        for hook in tuple(self._hooks.get((node, number), {}).values()):
            changed = hook(error)
            error = error if changed is None else changed
        return error

    def _keep(self, node, errors):
        """Leave its error in the ``grad`` of each value that has asked for it by ``retain_grad``."""
        for number, error in enumerate(errors if self._retained else ()):
            for tensor in self._retained.get((node, number), ()):
                if error is not None and (kept := tensor()) is not None:
                    kept.grad = error

    def _products(self, node, errors, create_graph):
        """The node's own vector-Jacobian products, one for each of its ``next_functions``."""
        if create_graph:
            errors = [error if error is None else self.leaf(error) for error in errors]
        custom = isinstance(node, torch._C._FunctionBase)
        # Only the engine runs a node's own hooks, and knows whether a function wants zeros for errors that are missing.
        if custom and all(error is None for error in errors):
            errors = [torch.zeros(m.shape, dtype=m.dtype, device=m.device) for m in node._input_metadata]
        if node in self._handed_out or (custom and any(error is None for error in errors)):
            return _by_engine(node, errors, create_graph)
        if custom:
            return _of_custom_function(node, errors)
        products = node(*errors)
        return products if isinstance(products, tuple) else (products,)

    def _forget(self, node, outputs):
        """All readers of its values have been visited: nobody will ask for their leaves."""
        for number in range(outputs):
            if (leaf := self._leaves.pop((node, number), None)) is not None:
                del self._values[id(leaf)]

    def resolved(self, node, number):
        """Where an edge of a local graph leads: a gradient edge or, behind no leaf of this mode's, a tensor."""
        variable = getattr(node, "variable", None)
        if variable is None:
            return node, number
        found = self._values.get(id(variable))
        return variable if found is None else found[1]

    # What is no plain operation.

    def _iterated(self, tensor):
        return iter(self.__torch_function__(Tensor.unbind, (), (tensor,)))

    def _hooked(self, tensor, hook):
        if edge_of(tensor) is None:
            return Tensor.register_hook(tensor, hook)
        hooks = self._hooks.setdefault(edge_of(tensor), OrderedDict())
        handle = RemovableHandle(hooks)
        hooks[handle.id] = hook
        return handle

    def _retain(self, tensor):
        if edge_of(tensor) is not None:
            self._retained.setdefault(edge_of(tensor), []).append(ref(tensor))
        return Tensor.retain_grad(tensor)

    def _hand_out(self, tensor):
        node = tensor.grad_fn
        if node is not None:
            self._handed_out.add(node)
        return node

    def engine_started(self, *args, **kwargs):
        """Refuse what differentiates past this mode: it would find what one vertex has made, and take that for all."""
        raise UnsupportedModule(
            f"{self.where()} calls backward() inside forward, before anything is known of the rest of the network's error; "
            "compute it outside, or use torch.autograd.grad"
        )

    def _differentiated(
        self,
        outputs,
        inputs,
        grad_outputs=None,
        retain_graph=None,
        create_graph=False,
        only_inputs=True,
        allow_unused=None,
        is_grads_batched=False,
        materialize_grads=False,
    ):
        """`torch.autograd.grad` inside a forward: the same local products, which are values in their turn."""
        if is_grads_batched:
            raise UnsupportedModule(f"{self.where()} calls torch.autograd.grad with is_grads_batched; use torch.func.vmap")
        outputs, inputs = _listed(outputs), _listed(inputs)
        given = [None] * len(outputs) if grad_outputs is None else _listed(grad_outputs)
        errors = [torch.ones_like(o) if g is None else g for o, g in zip(outputs, given, strict=True)]
        found = self.pass_back(outputs, errors, inputs, create_graph)
        if any(gradient is None for gradient in found) and not (allow_unused or materialize_grads):
            raise RuntimeError(
                "One of the differentiated Tensors appears to not have been used in the graph. Set allow_unused=True "
                "if this is the desired behavior."
            )
        if materialize_grads:
            found = [torch.zeros_like(x) if gradient is None else gradient for x, gradient in zip(inputs, found)]
        return tuple(found)

    def where(self):
        """Name the module that is running and the user's line."""
        frame, line, module = sys._getframe(1), None, None
        paths = {id(m): path for path, m in self._model.named_modules()}
        while frame is not None:
            if line is None and not frame.f_code.co_filename.startswith(_LIBRARIES):
                line = f"{frame.f_code.co_filename}:{frame.f_lineno}"
            owner = frame.f_locals.get("self")
            if module is None and isinstance(owner, nn.Module) and id(owner) in paths:
                module = owner
            frame = frame.f_back
        module = self._model if module is None else module
        return f"{paths[id(module)] or 'the model'!r} ({type(module).__name__}), {line or 'unknown line'},"


_SPECIAL = {
    Tensor.__iter__: "_iterated",
    Tensor.register_hook: "_hooked",
    Tensor.retain_grad: "_retain",
    Tensor.grad_fn.__get__: "_hand_out",
    Tensor.backward: "engine_started",
    torch.autograd.backward: "engine_started",
    torch.autograd.grad: "_differentiated",
}
_ASIDE = unnoticed(Values)


class _Everywhere:
    """The way of errors that are to reach every parameter."""

    def leads_through(self, node):
        return True

    goes_on = leads_through

    def passed(self, node, errors):
        """Nothing to keep."""


class _Route:
    """The way of errors that are to reach certain values: the nodes from which they do, and the errors of the values."""

    def __init__(self, values, outputs, inputs):
        self.errors = {}
        self._wanted = {edge_of(x) or x for x in inputs}
        self._stops = {x[0] for x in self._wanted if isinstance(x, tuple)}
        self._leads = {}
        stack = [edge[0] for edge in map(edge_of, outputs) if edge]
        while stack:
            node = stack[-1]
            following = [values.resolved(*edge) for edge in node.next_functions if edge[0] is not None]
            unknown = [x[0] for x in following if isinstance(x, tuple) and x[0] not in self._leads]
            if unknown and node not in self._leads:
                self._leads[node] = False
                stack += unknown
                continue
            self._leads[node] = any(
                x in self._wanted or (isinstance(x, tuple) and self._leads.get(x[0], False)) for x in following
            )
            stack.pop()

    def leads_through(self, node):
        return self._leads.get(node, False) or node in self._stops

    def goes_on(self, node):
        return self._leads.get(node, False)

    def passed(self, node, errors):
        self.errors.update(((node, i), error) for i, error in enumerate(errors) if (node, i) in self._wanted)


class _Pending:
    """Errors on their way: at which node, and which node is next."""

    def __init__(self, values, route):
        self.leaves = {}
        self._values, self._route = values, route
        self._arrived, self._heap, self._passed = {}, [], set()

    def __bool__(self):
        return bool(self._heap)

    def arrive(self, node, number, error):
        """Add a contribution to the error of the value at an edge, as the engine does: in this order.

        None, an error that is not defined, is no contribution; but its node is visited all the same, as by the engine: a
        custom function may make zeros of it.
        """
        place = self._values.resolved(node, number)
        if not isinstance(place, tuple):
            if error is not None:
                self.leaves[place] = _sum(self.leaves.get(place), _fitted(error, place))
            return
        node, number = place
        if not self._route.leads_through(node):
            return
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
            slots[number] = _sum(slots.get(number), _fitted(error, node._input_metadata[number]))

    def pop(self):
        """The latest of the operations at which errors have arrived, and its errors, one for each of its outputs."""
        *_, node = heapq.heappop(self._heap)
        self._passed.add(node._sequence_nr())
        slots = self._arrived.pop(node)
        return node, [slots.get(number) for number in range(len(node._input_metadata))]


def edge_of(tensor):
    """The gradient edge of a value; None for what has no history."""
    node = tensor.grad_fn
    return None if node is None else (node, tensor.output_nr)


def _accumulator(leaf):
    return leaf.view_as(leaf).grad_fn.next_functions[0][0]


def _differentiable(argument, found):
    """Append all tensors in ``argument`` that require a gradient to ``found``."""
    if isinstance(argument, Tensor):
        if argument.requires_grad:
            found.append(argument)
    elif isinstance(argument, (tuple, list)):
        for item in argument:
            _differentiable(item, found)
    elif type(argument) is dict:
        for item in argument.values():
            _differentiable(item, found)


def tensors_in(value, everywhere=False):
    """The tensors in a tuple or list, nested or not; ``everywhere`` looks into dicts too."""
    if isinstance(value, Tensor):
        return [value]
    if everywhere and type(value) is dict:
        value = tuple(value.values())
    return [t for item in value for t in tensors_in(item, everywhere)] if isinstance(value, (tuple, list)) else []


def mapped(argument, function):
    """``argument`` with each leaf of its tuples, lists and dicts replaced by what ``function`` makes of it."""
    kind = type(argument)
    if kind is tuple or kind is list:
        return kind([mapped(item, function) for item in argument])
    if kind is dict:
        return {key: mapped(item, function) for key, item in argument.items()}
    if isinstance(argument, tuple) and hasattr(argument, "_fields"):
        return kind(*(mapped(item, function) for item in argument))
    return function(argument)


def _listed(tensors):
    return list(tensors) if isinstance(tensors, (tuple, list)) else [tensors]


def writes(func):
    """Whether a function writes in place into its first argument, which its name says."""
    name = func.__name__
    return name in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))


def _sum(error, more):
    """The engine's own order, which for a sparse first term is the other one."""
    if error is None:
        return more
    return more + error if error.is_sparse else error + more


def _fitted(error, value):
    """``error`` in the shape and dtype of ``value``, as the engine makes it: what was broadcast is summed."""
    if not error.is_nested and error.shape != torch.Size(value.shape):
        error = error.sum_to_size(value.shape)
    return error if error.dtype is value.dtype else error.to(value.dtype)


def _of_custom_function(node, errors):
    """The products of a `torch.autograd.Function`, by its own ``backward``."""
    products = node.apply(*errors)
    products = products if isinstance(products, tuple) else (products,)
    # Its arguments that are no tensors have a product, but no edge.
    needed = iter([p for p, needs in zip(products, node.needs_input_grad, strict=False) if needs])
    return [None if following is None else next(needed) for following, _ in node.next_functions]


def _by_engine(node, errors, create_graph):
    """The products of a node that may have hooks of its own."""
    if not any(error is not None for error in errors):
        return [None] * len(node.next_functions)
    roots = [(GradientEdge(node, number), error) for number, error in enumerate(errors) if error is not None]
    edges = list(dict.fromkeys(edge for edge in node.next_functions if edge[0] is not None))
    found = torch.autograd.grad(
        [edge for edge, _ in roots],
        [GradientEdge(*edge) for edge in edges],
        [error for _, error in roots],
        retain_graph=True,
        create_graph=create_graph,
        allow_unused=True,
    )
    products = dict(zip(edges, found, strict=True))
    return [products.pop(edge, None) for edge in node.next_functions]
