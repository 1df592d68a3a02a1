"""How far two sets of tensors are apart: in norm, in units in the last place, and bit by bit."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn
from torch.utils import _pytree as pytree

from pcbench import nn as counterparts
from pcbench.errors import InvalidParameters, NotRepeatable
from pcbench.nn.convert import copied
from pcbench.randomness import kept_randomness, random_digest
from pcbench.rules import Backprop, Loss, Rule, by_name


@dataclass(frozen=True)
class Divergence:
    """The distance of a list of tensors from reference tensors of the same shapes and dtypes.

    Attributes:
        l2: the Euclidean norm of all differences together.
        relative_l2: ``l2`` over the reference's norm; infinite if only the reference is zero.
        max_abs: the largest absolute difference of two elements.
        max_ulp: the largest difference in units in the last place: how many representable numbers apart; +0 and −0
            are 0 apart. None if a value is not finite.
        bitwise_equal: whether every bit is the same, the signs of zeros included.
    """

    l2: float
    relative_l2: float
    max_abs: float
    max_ulp: int | None
    bitwise_equal: bool


def compare(actual: Mapping[str, torch.Tensor | None], reference: Mapping[str, torch.Tensor | None]) -> Divergence:
    """Measure how far ``actual`` is from ``reference``.

    Args:
        actual, reference: dicts of tensors by name, or None where a parameter received no gradient.

    Returns:
        `Divergence`, computed in float64.

    Raises:
        ValueError: the names, the shapes, the dtypes or the Nones do not match: that is no distance at all.
    """
    if actual.keys() != reference.keys():
        raise ValueError(f"different names: {sorted(actual.keys() ^ reference.keys())}")
    ulps: int | None
    squares, norm, largest, ulps, same = [0.0], [0.0], 0.0, 0, True
    for name, b in reference.items():
        a = actual[name]
        if a is None and b is None:
            continue
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            raise ValueError(f"{name}: {_describe(a)} cannot be compared with {_describe(b)}")
        a, b = plain(a), plain(b)
        if bits_equal(a, b):
            norm.append(norm_of(b))
            continue
        same = False
        difference = a.double() - b.double()
        squares.append(norm_of(difference))
        norm.append(norm_of(b))
        largest = _largest(largest, difference.abs().max().item())
        ulps = None if ulps is None or not (_finite(a) and _finite(b)) else max(ulps, _ulps(a, b))
    l2, reference_l2 = math.hypot(*squares), math.hypot(*norm)
    relative = 0.0 if same or l2 == 0 else (l2 / reference_l2 if reference_l2 else math.inf)
    return Divergence(l2, relative, largest, ulps, same)


@dataclass(frozen=True)
class Update:
    """What one weight update leaves behind: each parameter's gradient (or None), each buffer, and a digest of the states of
    torch's, NumPy's and Python's global generators."""

    gradients: dict[str, torch.Tensor | None]
    buffers: dict[str, torch.Tensor]
    randomness: str

    def equals(self, other: "Update") -> bool:
        """Whether the other update leaves the same bits behind, in gradients, buffers and generators."""
        return (
            compare(self.gradients, other.gradients).bitwise_equal
            and compare(self.buffers, other.buffers).bitwise_equal
            and self.randomness == other.randomness
        )


def weight_update(
    model: nn.Module,
    rule: Callable[[nn.Module], Rule],
    inputs: Any,
    targets: Any,
    loss_fn: Loss,
) -> Update:
    """Compute one `Update` under ``rule(model)`` on a copy of ``model``; neither the model nor a global generator changes.

    Args:
        model, inputs, targets, loss_fn: see `divergence`.
        rule: maps the copied model to a `pcbench.rules.Rule`.

    Raises:
        InvalidParameters: the model has no parameter that requires a gradient.
        UnsupportedModule: the model cannot be copied.
        PCBenchError: what the rule raises, see `pcbench.rules.Rule.backward`.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InvalidParameters(f"{type(model).__name__} has no parameters to learn, so there is nothing to compare")
    # Copies of everything that a forward or a loss may write into.
    model, loss_fn = copied(model), copy.deepcopy(loss_fn) if isinstance(loss_fn, nn.Module) else loss_fn
    inputs, targets = clone_tensors((inputs, targets))
    model.zero_grad(set_to_none=True)
    with kept_randomness():
        rule(model).backward(inputs, targets, loss_fn)
        randomness = random_digest()
    return Update({name: p.grad for name, p in model.named_parameters()}, dict(model.named_buffers()), randomness)


def check_repeats(expected: Update, repeat: Callable[[], Update]) -> None:
    """Raise `NotRepeatable` unless ``repeat()``, a second `Update` by backpropagation, equals the first one, ``expected``."""
    again = repeat()
    if again.equals(expected):
        return
    names = [
        name
        for name, g in expected.gradients.items()
        if g is not None and not torch.equal(g, cast(torch.Tensor, again.gradients[name]))
    ]
    raise NotRepeatable(
        "backpropagation does not repeat itself on this model: two runs from the same weights, buffers and random states "
        f"differ in {names[0] if names else 'what they leave behind'}, so that no rule can be compared with it. Something "
        "outside of the module decides (a counter in a global or a class attribute, a generator of the file's own, a "
        "kernel that is not deterministic); make it part of the module, or call torch.use_deterministic_algorithms(True)"
    )


def clone_tensors(tree: Any) -> Any:
    """A copy of a pytree whose tensors are copies without history."""
    return pytree.tree_map(_cloned, tree)


def _cloned(leaf):
    return leaf.detach().clone().requires_grad_(leaf.requires_grad) if isinstance(leaf, torch.Tensor) else leaf


def divergence(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    loss_fn: Loss,
    rule: str = "zil",
    convert: bool = True,
    **options: Any,
) -> Divergence:
    """How far one weight update's gradients under a learning rule are from backpropagation's.

    Both start from the same weights, buffers and random state, on copies: ``model`` is left as it is.

    Args:
        model: any ``nn.Module`` that autograd can train.
        inputs: one tensor, or a tuple of what ``model.forward`` takes.
        targets: whatever ``loss_fn`` takes as its second argument.
        loss_fn: maps ``(outputs, targets)`` to a 0-d tensor.
        rule: a rule's name, see `pcbench.rules.by_name`; ``options`` are its options (``steps``, ``gamma``, ...).
        convert: whether fused recurrent modules are replaced by their counterparts (`pcbench.nn.convert`), for both rules;
            otherwise each is one vertex: exact, but not local in time.

    Returns:
        `Divergence` over all parameters' gradients; not ``bitwise_equal`` either if a buffer, or the state of the random
        generators, is another one afterwards.

    Raises:
        UnsupportedModule, InvalidParameters, NonFiniteLoss, NotRepeatable: see `pcbench.errors`.
        ValueError: one rule left a parameter without a gradient and the other did not.
    """
    model = counterparts.convert(model) if convert else model
    reference = weight_update(model, Backprop, inputs, targets, loss_fn)
    actual = weight_update(model, lambda m: by_name(rule, m, **options), inputs, targets, loss_fn)
    found = compare(actual.gradients, reference.gradients)
    if not actual.equals(reference):
        check_repeats(reference, lambda: weight_update(model, Backprop, inputs, targets, loss_fn))
    return replace(found, bitwise_equal=actual.equals(reference))


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a sparse or complex tensor as an ordinary one."""
    tensor = tensor.detach()
    tensor = tensor.to_dense() if tensor.layout is not torch.strided else tensor
    return (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).contiguous()


def _describe(tensor):
    return "no tensor" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"


def norm_of(tensor: torch.Tensor) -> float:
    """The Euclidean norm; no square of an element under- or overflows, whatever its size."""
    tensor = tensor.double()
    largest = tensor.abs().max().item() if tensor.numel() else 0.0
    if largest == 0 or not math.isfinite(largest):
        return largest
    # A power of two changes no digit, only exponents; beyond 2¹⁰²³ there is none, and subnormal numbers need no more.
    scale = 2.0 ** min(-math.frexp(largest)[1], 1023)
    return torch.linalg.vector_norm(tensor * scale).item() / scale


def _largest(a, b):
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


def _finite(tensor):
    return bool(torch.isfinite(tensor).all())


_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits_equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors of one shape and dtype have the same bits, the signs of zeros included."""
    return torch.equal(_bits(a), _bits(b))


def _bits(tensor):
    return tensor.view(_INTEGERS[tensor.element_size()])


def _ulps(a, b):
    """Largest difference of the tensors' places on the line of representable numbers."""
    ranks = []
    for tensor in (a, b):
        bits = _bits(tensor).to(torch.int64)
        magnitude = bits & (2 ** (8 * tensor.element_size() - 1) - 1)
        ranks.append(torch.where(bits < 0, -magnitude, magnitude))
    high, low = torch.maximum(*ranks), torch.minimum(*ranks)
    # The distance of two float64 of opposite sign can exceed int64: Python's integers are exact.
    opposite = (high > 0) & (low < 0)
    same_sign = torch.where(opposite, 0, high - low).max().item()
    if not opposite.any():
        return same_sign
    return max(same_sign, max(a - b for a, b in zip(high[opposite].tolist(), low[opposite].tolist(), strict=True)))
