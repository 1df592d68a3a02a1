"""What all learning rules share: one interface, and a graph that is traced once per input signature."""

from abc import ABC, abstractmethod

import torch
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from pcbench._purity import PLAIN
from pcbench.errors import InvalidParameters, NonFiniteLoss, UnsupportedModule
from pcbench.graph import Graph


class Rule(ABC):
    """A learning rule computes the gradient that an optimizer follows, and leaves it in ``param.grad``.

    Args:
        model: the module whose parameters learn; it is used as it is, in training or evaluation mode.
    """

    def __init__(self, model):
        self.model = model

    @abstractmethod
    def backward(self, inputs, targets, loss_fn):
        """Compute the loss and *add* each parameter's gradient to ``param.grad``, as ``loss.backward()`` would.

        Args:
            inputs: one tensor, or a tuple of what ``model.forward`` takes.
            targets: whatever ``loss_fn`` takes as its second argument.
            loss_fn: maps ``(outputs, targets)`` to a 0-d tensor; any reduction over the batch is its own and is kept.

        Returns:
            The loss, a detached 0-d tensor.

        Raises:
            NonFiniteLoss: the loss is NaN or infinite; ``param.grad`` is then left as it was.
            InvalidParameters: the loss is no real tensor with one element that depends on the model.
        """

    def _arguments(self, inputs):
        # A PackedSequence is a tuple too, but one argument.
        return inputs if isinstance(inputs, tuple) and not isinstance(inputs, PackedSequence) else (inputs,)


class GraphRule(Rule):
    """A rule that works on the model's graph.

    Args:
        model: see `Rule`.
        granularity, leaves: see `pcbench.graph.Graph.from_module`.
    """

    def __init__(self, model, *, granularity="layer", leaves=()):
        super().__init__(model)
        self._granularity = granularity
        self._leaves = leaves
        self._graphs = {}

    def graph(self, inputs):
        """The model's graph for ``inputs``, traced anew when what it depends on has changed.

        That is a shape, dtype or device, a module's mode or numbers, or which tensors are the model's parameters.

        Raises:
            InvalidParameters: an input is neither a tensor nor a number, text or None.
            UnsupportedModule: see `pcbench.graph.Graph.from_module`.
        """
        if parametrize._cache_enabled:
            raise UnsupportedModule(
                "torch.nn.utils.parametrize.cached is on: the weight that it keeps would span the vertices that read it; "
                "call the rule outside of it"
            )
        leaves, structure = pytree.tree_flatten(inputs)
        for leaf in leaves:
            if not isinstance(leaf, (torch.Tensor, *PLAIN)):
                raise InvalidParameters(
                    f"an input is a {type(leaf).__name__}; inputs are tensors, numbers, texts or None"
                )
        signature = (
            tuple((x.shape, x.dtype, x.device) if isinstance(x, torch.Tensor) else repr(x) for x in leaves),
            str(structure),
            tuple(_settings(module) for module in self.model.modules()),
            # An id is not given to another parameter while a graph here holds this one.
            tuple((id(p), p.dtype, p.device) for p in self.model.parameters()),
        )
        if signature not in self._graphs:
            graph = Graph.from_module(self.model, inputs, granularity=self._granularity, leaves=self._leaves)
            graph = self._prepare(graph)
            if tuple(_settings(module) for module in self.model.modules()) != signature[2]:
                return graph  # its forward counts its calls: it has to run at every one
            self._graphs[signature] = graph
        return self._graphs[signature]

    def _prepare(self, graph):
        return graph


def _settings(module):
    """A module's own numbers, texts and flags: its forward may branch on them, or compute with them."""
    return tuple((name, value) for name, value in vars(module).items() if isinstance(value, PLAIN))


def check_loss(loss):
    """Raise `InvalidParameters` unless ``loss`` is what a backward pass can begin with, `NonFiniteLoss` unless finite."""
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or loss.is_complex() or not loss.requires_grad:
        found = f"{tuple(loss.shape)} {loss.dtype}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise InvalidParameters(
            f"the loss ({found}) cannot be differentiated: loss_fn must return a real tensor with one element, and "
            "compute it from the outputs of a model that has something to learn"
        )
    if not torch.isfinite(loss).all():
        raise NonFiniteLoss(
            f"the loss is {loss.item()}; nothing learned from it would mean anything. "
            "Lower the learning rate, or look for NaN or infinity in the inputs and targets"
        )


def tensors(value):
    """The tensors of a value (a tensor or a pytree of such)."""
    if isinstance(value, torch.Tensor):
        return [value]  # nearly every value is one, and pytree takes ten times as long to say so
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def map_leaves(function, value):
    """The value with ``function`` applied to each of its leaves."""
    return function(value) if isinstance(value, torch.Tensor) else pytree.tree_map(function, value)


def detached(value, *, requires_grad=None):
    """The value cut off from whatever computed it: the parents that a vertex is given.

    Args:
        requires_grad: whether the new leaves ask for gradients; None keeps what each tensor had.
    """

    def cut(leaf):
        if not isinstance(leaf, torch.Tensor):
            return leaf
        wanted = leaf.requires_grad if requires_grad is None else requires_grad
        return leaf.detach().requires_grad_(wanted and (leaf.is_floating_point() or leaf.is_complex()))

    return map_leaves(cut, value)


def accumulate(gradients):
    """Add each gradient to its parameter's ``grad``, in place if there is one, as autograd does.

    Args:
        gradients: ``{parameter: gradient}``; a gradient has its parameter's shape.
    """
    taken = set()
    with torch.no_grad():
        for parameter, gradient in gradients.items():
            if parameter.grad is None:
                if gradient.layout is not torch.strided:
                    parameter.grad = gradient.clone()
                    continue
                # Two parameters may have got one tensor, or one number seen at every place: optimizers write into it.
                storage = gradient.untyped_storage()
                owned = storage.nbytes() == gradient.nbytes and storage.data_ptr() not in taken
                parameter.grad = gradient if owned else gradient.clone()
                taken.add(storage.data_ptr())
            else:
                parameter.grad += gradient
