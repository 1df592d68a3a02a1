"""Whether one gradient is another one up to a scale: the scale by least squares, what is left, and the bits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pcbench.measure.divergence import bits_equal, norm_of, plain

Gradients = Mapping[str, torch.Tensor | None]


@dataclass(frozen=True)
class Scale:
    """What g is of the reference b, as one vector and tensor by tensor.

    Attributes:
        scale: s = ⟨g, b⟩ / ⟨b, b⟩; None where a number is not finite, or b is zero.
        residual: ‖g − s b‖ / ‖g‖, the sine of the angle between g and b, which is the relative distance of b from the nearest
            multiple of g as well: 0 where g is a multiple of b, 1 where g says nothing of b; None as ``scale``.
        scaled_bitwise: whether g has the bits of b times the power of two that is nearest to s.
        tensor_residual: the relative distance of b from g if every tensor of g is replaced by its own nearest multiple;
            None where a number is not finite, or b is zero.
        scales: of each tensor its own s, by name; None as ``scale``.
        scaled_tensors: how many of the tensors have the bits of b's times a power of two of their own.
    """

    scale: float | None
    residual: float | None
    scaled_bitwise: bool
    tensor_residual: float | None
    scales: dict[str, float | None]
    scaled_tensors: int


def fit(actual: Gradients, reference: Gradients) -> Scale:
    """Fit ``actual`` by a multiple of ``reference``.

    Args:
        actual, reference: tensors by name, of the same names, shapes and dtypes (`pcbench.measure.divergence.compare` makes
            sure of that); None in both where a parameter received no gradient.

    Returns:
        `Scale`, computed in float64; bits are compared in the tensors' own dtype.
    """
    both = {name: (actual[name], b) for name, b in reference.items()}
    pairs = {name: (plain(a), plain(b)) for name, (a, b) in both.items() if a is not None and b is not None}
    flat = [torch.cat([pair[i].flatten().double() for pair in pairs.values()]) for i in (0, 1)]
    scale, residual = _fitted(*flat)
    own = {name: _fitted(a.flatten().double(), b.flatten().double()) for name, (a, b) in pairs.items()}
    return Scale(
        scale,
        residual,
        _scaled_bitwise(scale, pairs.values()),
        _by_tensor(own, pairs, norm_of(flat[1])),
        {name: each for name, (each, _) in own.items()},
        sum(_scaled_bitwise(own[name][0], [pair]) for name, pair in pairs.items()),
    )


def _fitted(a, b):
    """``(s, residual)`` of two vectors in float64; no product under- or overflows, whatever their elements' size."""
    (a, above), (b, below) = _normal(a), _normal(b)
    if a is None or b is None or not b.any():
        return None, None
    s = (a @ b / (b @ b)).item()
    try:
        scale = math.ldexp(s, above - below)
    except OverflowError:
        return None, None
    return scale, norm_of(a - s * b) / norm_of(a) if a.any() else 1.0


def _normal(vector):
    """The vector over a power of two near its largest element, and that power's exponent; None if it is not finite."""
    if not torch.isfinite(vector).all():
        return None, 0
    exponent = math.frexp(vector.abs().max().item())[1] if vector.numel() else 0
    # In two steps: beyond 2¹⁰²³ there is no float.
    half = exponent // 2
    return vector * 2.0**-half * 2.0 ** -(exponent - half), exponent


def _scaled_bitwise(scale, pairs):
    if not scale:
        return False
    exponent = round(math.log2(abs(scale)))
    try:
        factor = math.copysign(2.0**exponent, scale)
    except OverflowError:
        return False
    return all(bits_equal(a, b * factor) for a, b in pairs)


def _by_tensor(own, pairs, whole):
    """√Σ (residual_i ‖b_i‖)² over ‖b‖; where b_i is zero no multiple of it is wanted."""
    left = []
    for name, (_, b) in pairs.items():
        size, residual = norm_of(b), own[name][1]
        if not math.isfinite(size) or (size and residual is None):
            return None
        left.append(size * residual if size else 0.0)
    return math.hypot(*left) / whole if whole else None
