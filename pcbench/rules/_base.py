"""What all learning rules share: one interface, the checks of a loss, and how gradients are left behind."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from pcbench.errors import InvalidParameters, NonFiniteLoss
from pcbench.parallel import in_parallel
from pcbench.passing import hand_over, one_pass

Loss = Callable[[Any, Any], Tensor]  # of outputs and targets
Gradients = dict[Tensor, Tensor]  # {tensor: gradient}, of the same shape

ENGINES: dict[str, type["Rule"]] = {}
_R = TypeVar("_R", bound="Rule")


def engine(name: str) -> Callable[[type[_R]], type[_R]]:
    """Register a class of rules under its file's name, which params.yaml and the command line have for it too."""

    def register(kind: type[_R]) -> type[_R]:
        ENGINES[name] = kind
        return kind

    return register


class Rule(ABC):
    """A learning rule computes the gradient that an optimizer follows, and leaves it in ``param.grad``.

    Args:
        model: the module whose parameters learn; it is used as it is, in training or evaluation mode.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @classmethod
    def from_options(cls, model: nn.Module, generator: torch.Generator | None, **options: Any) -> Self:
        """Make the rule from its options in params.yaml; ``generator`` is for those that draw noise.

        Raises:
            TypeError: it has no such option.
            InvalidParameters: an option's value makes no sense.
        """
        return cls(model, **options)

    @abstractmethod
    def gradients(self, inputs: Any, targets: Any, loss_fn: Loss) -> tuple[Tensor, Gradients]:
        """Compute the loss and the gradients, and leave ``param.grad`` alone.

        Args:
            inputs, targets, loss_fn: see `backward`.

        Returns:
            ``(loss, {tensor: gradient})`` over the parameters, and whatever else requires a gradient, that got one. The loss
            is detached, and may be infinite or NaN.

        Raises:
            InvalidParameters: the loss is no real tensor with one element that depends on the model.
        """

    def backward(self, inputs: Any, targets: Any, loss_fn: Loss) -> Tensor:
        """Compute the loss and *add* each parameter's gradient to ``param.grad``, as ``loss.backward()`` would.

        Args:
            inputs: one tensor, or a tuple of what ``model.forward`` takes.
            targets: whatever ``loss_fn`` takes as its second argument.
            loss_fn: maps ``(outputs, targets)`` to a 0-d tensor; any reduction over the batch is its own and is kept.

        Returns:
            The loss, a detached 0-d tensor.

        Raises:
            NonFiniteLoss: the loss is NaN or infinite; ``param.grad`` is then left as it was. Of several processes that learn
                together one that goes on alone is out of step: catch it in all of them or in none.
            InvalidParameters: the loss is no real tensor with one element that depends on the model.
        """
        loss, gradients = self.gradients(inputs, targets, loss_fn)
        check_finite(loss)
        with one_pass():
            learn(gradients)
        return loss

    def _arguments(self, inputs):
        # A PackedSequence is a tuple too, but one argument.
        return inputs if isinstance(inputs, tuple) and not isinstance(inputs, PackedSequence) else (inputs,)


def check_loss(loss: Any) -> None:
    """Raise `InvalidParameters` unless ``loss`` is what a backward pass can begin with."""
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.is_complex() or not loss.requires_grad:
        found = f"{tuple(loss.shape)} {loss.dtype}" if isinstance(loss, Tensor) else type(loss).__name__
        raise InvalidParameters(
            f"the loss ({found}) cannot be differentiated: loss_fn must return a real tensor with one element, and "
            "compute it from the outputs of a model that has something to learn"
        )


def check_finite(loss: Tensor) -> None:
    """Raise `NonFiniteLoss` unless ``loss``, one number, is finite."""
    if not torch.isfinite(loss).all():
        raise NonFiniteLoss(
            f"the loss is {loss.item()}; nothing learned from it would mean anything. "
            "Lower the learning rate, or look for NaN or infinity in the inputs and targets"
        )


def leaves_behind(tensor: Tensor) -> list[Tensor]:
    """The tensors without history at which the history of ``tensor`` ends, in the order in which they are found."""
    leaves: dict[Tensor, None] = {}
    pending, seen = [tensor.grad_fn], set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            leaves[leaf] = None
        pending.extend(following for following, _ in node.next_functions)
    return list(leaves)


def learn(gradients: Gradients) -> None:
    """Add each gradient to its tensor's ``grad``, in place if there is one, and run hooks, as autograd does.

    Args:
        gradients: ``{tensor: gradient}``; a gradient has its tensor's shape. What is handed over is taken out.
    """
    if not in_parallel():
        _accumulate(gradients)  # in a third of the time that the engine takes
        return
    for leaf in tuple(gradients):
        hand_over([leaf], [gradients.pop(leaf)])


def _accumulate(gradients):
    taken = set()
    with torch.no_grad():
        for leaf, gradient in gradients.items():
            for hook in tuple((leaf._backward_hooks or {}).values()):
                changed = hook(gradient)
                gradient = gradient if changed is None else changed
            _add(leaf, gradient.clone() if leaf._backward_hooks else gradient, taken)  # whoever hooks it may keep it
            for hook in tuple((leaf._post_accumulate_grad_hooks or {}).values()):
                hook(leaf)


def _add(leaf, gradient, taken):
    strided = gradient.layout is torch.strided
    if leaf.grad is not None:
        if leaf.grad.layout is not torch.strided and strided:
            leaf.grad = gradient + leaf.grad
        else:
            leaf.grad += gradient
    elif not strided or gradient.is_nested:
        leaf.grad = gradient.clone()
    else:
        # Two parameters may have got one tensor, or one number seen at every place: optimizers write into it. And it is laid
        # out in memory as its parameter is.
        storage = gradient.untyped_storage()
        owned = (
            storage.nbytes() == gradient.nbytes and storage.data_ptr() not in taken and _laid_out_alike(gradient, leaf)
        )
        leaf.grad = gradient if owned else torch.empty_like(leaf, dtype=gradient.dtype).copy_(gradient)
        taken.add(leaf.grad.untyped_storage().data_ptr())


def _laid_out_alike(a, b):
    return a.stride() == b.stride() or all(
        i == j or size == 1 for i, j, size in zip(a.stride(), b.stride(), a.size(), strict=True)
    )
