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

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn, Self
from weakref import ref

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.autograd.graph import GradientEdge, Node, saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from pcbench.arguments import differentiable, listed, mapped, tensors_in, writes
from pcbench.aside import off, seeing, unnoticed
from pcbench.errors import UnsupportedModule, running
from pcbench.parallel import check_wrappers, found_behind, in_parallel
from pcbench.passing import (
    NODES_TELL,
    Edge,
    Everywhere,
    Learning,
    Pending,
    Route,
    by_engine,
    edge_of,
    entrance,
)
from pcbench.untold import Untold, shown

Tensor = torch.Tensor
_SET_HOOKS: Any = vars(torch._C.TensorBase)["_backward_hooks"].__set__


class Values(TorchFunctionMode):
    """One forward pass, with its loss, in which no autograd graph spans two vertices.

    Use it as a context manager around the forward; afterwards `pass_back` computes the errors.

    Raises:
        UnsupportedModule: forward itself calls ``backward``; names the module and the line.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model
        self._leaves: dict[Edge, Tensor] = {}  # gradient edge of a value: its leaf
        self._values: dict[int, tuple[Tensor, Edge]] = {}  # id of a leaf: (the leaf, the edge of its value)
        # Nodes that forward has been given: they, and what they lead to, may carry hooks.
        self._asked_for: list[Node | None] = []
        self._retaining: list[ref[Tensor]] = []  # references to the values that want to keep their errors in ``grad``
        self._hooked_nodes: set[Node] = set()
        if not NODES_TELL:
            self._untold = Untold()
        self._aside = ExitStack()

    def __enter__(self) -> Self:
        if in_parallel():
            check_wrappers(self._model)
            self._aside.enter_context(_FOUND.made())
        self._aside.enter_context(_ASIDE.made())
        if not NODES_TELL:
            self._aside.enter_context(SEEING.made())
            self._aside.enter_context(_SHOWN.made())
            self._aside.enter_context(self._untold)
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._aside.close()

    # Forward: what an operation reads.

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run ``func``, its arguments cut off from what computed them where it is a vertex of its own."""
        kwargs = kwargs or {}
        # What torch.func transforms, and what carries tangents, is left to PyTorch: its nodes are visited one by one, too.
        if not torch.is_grad_enabled() or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
            return func(*args, **kwargs)
        if (special := _SPECIAL.get(func)) is not None:
            return getattr(self, special)(*args, **kwargs)
        read = []
        differentiable(args, read)
        if kwargs:
            differentiable(kwargs, read)
        out = self._run(func, args, kwargs, read)
        if not NODES_TELL:
            for tensor in (*tensors_in(out), *tensors_in((args, kwargs), everywhere=True)):
                self._untold.see(tensor)
        return out

    def metadata(self, node: Node) -> Sequence[Any]:
        """Shape, dtype and device of each of a node's outputs; None for one of which nothing is known."""
        return node._input_metadata if NODES_TELL else self._untold.outputs(node)

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
            differentiable(args[:1], written)
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

    def leaf(self, tensor: Any, kept: Collection[Edge] = ()) -> Any:
        """What a reader of ``tensor`` is given: the leaf of its value; a parameter, and what is no tensor, as it is."""
        if not isinstance(tensor, Tensor) or not tensor.requires_grad:
            return tensor
        edge = edge_of(tensor)
        if edge is None or edge in kept:
            return tensor
        leaf: Any = self._leaves.get(edge)
        if leaf is None:
            if not NODES_TELL:
                self._untold.see(tensor)
            leaf = tensor.detach()
            if torch._C._is_any_autocast_enabled() and leaf.dtype is torch.float32:
                # What autocast has cast a leaf to it keeps for all readers, as it should for parameters: not so of a view.
                self._values[id(leaf)] = leaf, edge
                leaf = torch.ops.aten.alias(leaf)
            self._leaves[edge] = leaf.requires_grad_()
            self._values[id(leaf)] = leaf, edge
            leaf.belongs_to_an_update = True
        return leaf

    # Backward: how errors travel.

    def pass_back(self, outputs: list[Tensor], errors: Sequence[Tensor], learn: bool = False) -> dict[Tensor, Tensor]:
        """Send errors back through all vertices, each visited once, when all of its error has arrived.

        The code carries −ε, the sign that optimizers descend.

        Args:
            outputs: tensors; the list is emptied, so that each vertex is freed as soon as it has passed its error on.
            errors: one for each of them, of its shape.
            learn: whether each gradient is added to its tensor's ``grad`` as soon as it is whole, instead of being returned.

        Returns:
            ``{tensor: gradient}`` of all that are read without history (parameters).

        Raises:
            UnsupportedModule: an error arrived at a vertex that had already passed its error on.
        """
        route = Learning(self, outputs) if learn else Everywhere()
        return self._pass(outputs, errors, route, create_graph=False)

    def _pass(self, outputs, errors, route, create_graph):
        """Send errors along a route of `pcbench.passing`; return the gradients of what is read without history there.

        Args:
            outputs: see `pass_back`.
            errors: see `pass_back`.
            route: where they are to go.
            create_graph: whether the errors can be differentiated in their turn.
        """
        pending = Pending(self, route)
        self._find_hooked()
        with off(Values), torch.set_grad_enabled(create_graph):
            for error in errors:
                output = outputs.pop(0)
                pending.arrive(*entrance(output), error)
                del output
            route.learn(pending.leaves)
            while pending:
                node, arrived = pending.pop()
                if not NODES_TELL:
                    self._untold.visiting(node)
                if route.last:
                    self._forget(node, len(arrived))
                if create_graph:
                    arrived = [error if error is None else self.leaf(error) for error in arrived]
                products, product = self._visit(node, arrived, route, create_graph), None
                for (following, number), product in zip(node.next_functions, products, strict=False):
                    if following is not None:
                        pending.arrive(following, number, product)
                del arrived, products, product  # whoever holds a gradient keeps it from becoming `grad`
                route.learn(pending.leaves)
        return pending.leaves

    def _find_hooked(self):
        """Find the nodes that may carry hooks, which only the engine runs: a write moves retained errors to another one."""
        nodes = [*self._asked_for, *(x.grad_fn for x in (y() for y in self._retaining) if x is not None)]
        self._asked_for.clear()
        while nodes:
            node = nodes.pop()
            if node is not None and node not in self._hooked_nodes:
                self._hooked_nodes.add(node)
                nodes += [following for following, _ in node.next_functions]

    def _visit(self, node, errors, route, create_graph):
        """The node's own vector-Jacobian products, one for each of its ``next_functions``; none if no error is to go on."""
        custom = isinstance(node, torch._C._FunctionBase)
        if custom and (not NODES_TELL or all(error is None for error in errors)):
            known = self.metadata(node)
            errors = [
                torch.zeros(m.shape, dtype=m.dtype, device=m.device) if error is None and m is not None else error
                for error, m in zip(errors, (*known, *[None] * (len(errors) - len(known))), strict=True)
            ]
        # Only the engine runs hooks, and knows what a custom function is to be given, and in which state.
        if custom or (node in self._hooked_nodes and (NODES_TELL or self._untold.has_seen(node))):
            errors, products = by_engine(
                node, errors, self._starts(node, errors), route.goes_on(node), create_graph, not route.last
            )
            if route.last:
                self._hooked_nodes.discard(node)
        else:
            products = node(*errors) if route.goes_on(node) else ()
        route.passed(node, errors)
        return products if isinstance(products, tuple) else (products,)

    def _starts(self, node, errors):
        """Where the engine starts to bring a node its errors."""
        if NODES_TELL:
            return tuple(GradientEdge(node, number) for number, error in enumerate(errors) if error is not None)
        roots = self._untold.roots(node, errors)
        if roots is None:
            raise UnsupportedModule(
                f"nobody has seen all that {node.name()} has made, and torch {torch.__version__} does not tell: a custom "
                "function called by an alias, or an operation with hooks; use torch 2.5 or later"
            )
        return roots

    def _forget(self, node, outputs):
        """All readers of its values have been visited: nobody will ask for their leaves."""
        for number in range(outputs):
            if (leaf := self._leaves.pop((node, number), None)) is not None:
                del self._values[id(leaf)]
                self._values.pop(id(leaf._base), None)

    def resolved(self, node: Node, number: int) -> Edge | Tensor:
        """Where an edge of a local graph leads: a gradient edge or, behind no leaf of this mode's, a tensor.

        Raises:
            UnsupportedModule: it leads to a value that has passed its error on already.
        """
        variable = getattr(node, "variable", None)
        if variable is None:
            return node, number
        found = self._values.get(id(variable))
        if found is not None:
            return found[1]
        if hasattr(variable, "belongs_to_an_update"):
            raise UnsupportedModule(
                "an error arrived at a value that has passed its error on: it is of an earlier update (detach what forward "
                "keeps, as for backpropagation), or part of the forward ran in another thread"
            )
        return variable

    # What is no plain operation.

    def _iterated(self, tensor):
        return iter(self.__torch_function__(Tensor.unbind, (), (tensor,)))

    def _hooked(self, tensor, hook):
        if getattr(getattr(hook, "__code__", None), "co_filename", "") == torch.autograd.graph.__file__:
            raise UnsupportedModule(
                f"{running(self._model)} registers one hook on the gradients of several values, which no pass of the engine "
                "has together; register a hook on each"
            )
        self._hand_out(tensor)
        return Tensor.register_hook(tensor, hook)

    def _retain(self, tensor):
        self._retaining.append(ref(tensor))
        return Tensor.retain_grad(tensor)

    def _set_hooks(self, tensor, hooks):
        # PyTorch 2.3 does it itself inside `grad_fn`, whose lock it holds: to ask for `grad_fn` would be to wait for ever.
        _SET_HOOKS(tensor, hooks)

    def _hand_out(self, tensor):
        if not NODES_TELL:
            self._untold.see(tensor)
        self._asked_for.append(tensor.grad_fn)
        return tensor.grad_fn

    def applied(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a custom ``function``."""
        out = function(*args, **kwargs)
        with off(Values):
            for tensor in tensors_in(out):
                self._untold.see(tensor)
        return out

    def saving(self, hooks: saved_tensors_hooks) -> None:
        """What operations save is theirs."""

    def engine_started(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse what differentiates past this mode: it would find what one vertex has made, and take that for all.

        Raises:
            UnsupportedModule: always; names the module and the line.
        """
        raise UnsupportedModule(
            f"{running(self._model)} calls backward() inside forward, or asks for gradients of edges alone, before anything "
            "is known of the rest of the network's error; compute it outside, or use torch.autograd.grad on tensors"
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
            raise UnsupportedModule(
                f"{running(self._model)} calls torch.autograd.grad with is_grads_batched; use torch.func.vmap"
            )
        outputs, inputs = listed(outputs), [_origin(x) for x in listed(inputs)]
        given = [None] * len(outputs) if grad_outputs is None else listed(grad_outputs)
        errors = [torch.ones_like(o) if g is None else g for o, g in zip(outputs, given, strict=True)]
        route = Route(self, outputs, inputs)
        leaves = self._pass(outputs, errors, route, create_graph)
        found = [route.errors.get(x) if isinstance(x, tuple) else leaves.get(x) for x in inputs]
        if any(gradient is None for gradient in found) and not (allow_unused or materialize_grads):
            raise RuntimeError(
                "One of the differentiated Tensors appears to not have been used in the graph. Set allow_unused=True "
                "if this is the desired behavior."
            )
        if materialize_grads:
            shapes = [x[0]._input_metadata[x[1]] if isinstance(x, tuple) else x for x in inputs]
            zeros = [torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in shapes]
            found = [zero if gradient is None else gradient for zero, gradient in zip(zeros, found, strict=True)]
        return tuple(found)


_SPECIAL = {
    Tensor.__iter__: "_iterated",
    Tensor.register_hook: "_hooked",
    Tensor.retain_grad: "_retain",
    Tensor.grad_fn.__get__: "_hand_out",  # type: ignore[union-attr] # the stub knows it of instances only
    _SET_HOOKS: "_set_hooks",
    Tensor.backward: "engine_started",
    torch.autograd.backward: "engine_started",
    torch.autograd.grad: "_differentiated",
}
_ASIDE, _FOUND = unnoticed(Values), found_behind(Values)
SEEING, _SHOWN = seeing(Values), shown(Values)


def _origin(of):
    """What an argument of `torch.autograd.grad` stands for: a gradient edge or, without history, a tensor."""
    if isinstance(of, GradientEdge):
        return getattr(of.node, "variable", (of.node, of.output_nr))
    return edge_of(of) or of
