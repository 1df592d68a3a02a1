"""The scale that is fitted to a gradient; oracle: gradients that were planted, with their scale and what is beside it.

Aimed at: a scale that hides what is left of the distance, an overflow that passes for one, a bit that is not looked at.
"""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from pcbench.measure.scale import fit

DTYPES = {torch.float32: 32, torch.float64: 64}


@st.composite
def vectors(draw, size=None):
    """A vector that is not zero, whose elements can be multiplied by 2^±30 without a loss."""
    dtype = draw(st.sampled_from(list(DTYPES)))
    number = st.floats(-(2**40), 2**40, width=DTYPES[dtype]).filter(lambda x: x == 0 or abs(x) > 2**-40)
    found = torch.tensor(draw(st.lists(number, min_size=size or 1, max_size=size or 6)), dtype=dtype)
    assume(found.any())
    return found


@given(b=vectors(), exponent=st.integers(-30, 30), sign=st.sampled_from([1, -1]))
def test_a_power_of_two_is_found_bit_for_bit(b, exponent, sign):
    found = fit({"w": sign * b * 2.0**exponent}, {"w": b})
    assert found.scaled_bitwise and found.scaled_tensors == 1
    assert found.scale == found.scales["w"] == pytest.approx(sign * 2.0**exponent, rel=1e-12)
    assert found.residual == pytest.approx(0, abs=1e-12) and found.tensor_residual == pytest.approx(0, abs=1e-12)


@given(b=vectors(), exponent=st.integers(-30, 30), at=st.integers(0, 5))
def test_one_last_place_is_no_power_of_two(b, exponent, at):
    at = at % len(b)
    assume(b[at] != 0)
    g = b * 2.0**exponent
    g[at] = torch.nextafter(g[at], g.new_tensor(math.inf))
    found = fit({"w": g}, {"w": b})
    assert not found.scaled_bitwise and found.scaled_tensors == 0


@given(b=vectors(), at=st.integers(0, 5))
def test_the_sign_of_a_zero_is_a_bit(b, at):
    b[at % len(b)] = 0.0
    assume(b.any())
    g = 0.5 * b
    g[at % len(b)] = -0.0
    assert not fit({"w": g}, {"w": b}).scaled_bitwise


@given(scale=st.floats(-100, 100).filter(lambda s: abs(s) > 1e-2), beside=st.floats(0, 1e3))
def test_the_scale_and_the_sine_are_those_that_were_planted(scale, beside):
    b, orthogonal = torch.tensor([3.0, 4.0, 0.0]).double(), torch.tensor([4.0, -3.0, 12.0]).double()
    found = fit({"w": scale * b + beside * orthogonal}, {"w": b})
    along, across = abs(scale) * 5, beside * 13
    assert found.scale == pytest.approx(scale, rel=1e-9, abs=1e-9)
    assert found.residual == pytest.approx(across / math.hypot(along, across), rel=1e-9, abs=1e-12)


@given(b=vectors(4), exponents=st.tuples(st.integers(-30, 30), st.integers(-30, 30)))
def test_tensors_with_scales_of_their_own_are_a_multiple_tensor_by_tensor(b, exponents):
    reference = {"a": b[:2], "b": b[2:]}
    assume(b[:2].any() and b[2:].any())
    found = fit({name: reference[name] * 2.0**k for name, k in zip("ab", exponents, strict=True)}, reference)
    assert found.scaled_tensors == 2 and found.tensor_residual == pytest.approx(0, abs=1e-12)
    assert [found.scales[name] for name in "ab"] == pytest.approx([2.0**k for k in exponents])
    assert found.scaled_bitwise == (exponents[0] == exponents[1])


@given(g=vectors(4), factor=st.floats(1e-3, 1e3))
def test_what_is_left_does_not_depend_on_the_scale(g, factor):
    b = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=g.dtype)
    one, other = (fit({"w": g.double() * by}, {"w": b.double()}) for by in (1.0, factor))
    assert 0 <= one.residual <= 1 + 1e-15
    assert other.residual == pytest.approx(one.residual, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_no_product_under_or_overflows(size):
    b = torch.tensor([1.0, 2.0]).double()
    found = fit({"w": b * size * 0.25}, {"w": b * size})
    assert found.scaled_bitwise and found.scale == 0.25 and found.residual == 0
    assert fit({"w": b * size}, {"w": b}).scale == pytest.approx(size)


def test_a_gradient_of_zero_is_no_multiple_and_its_tensor_counts_as_lost():
    b = {"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}
    nothing = fit({"a": torch.zeros(1), "b": torch.zeros(1)}, b)
    assert (nothing.scale, nothing.residual, nothing.tensor_residual, nothing.scaled_tensors) == (0, 1, 1, 0)
    assert fit({"a": torch.zeros(1), "b": torch.tensor([9.0])}, b).tensor_residual == pytest.approx(3 / 5)


def test_without_a_finite_number_there_is_no_scale():
    b = {"w": torch.tensor([1.0, 2.0])}
    for value in (math.nan, math.inf):
        found = fit({"w": torch.tensor([1.0, value])}, b)
        assert (found.scale, found.residual, found.tensor_residual) == (None, None, None) and not found.scaled_bitwise
    zero = fit({"w": torch.ones(2)}, {"w": torch.zeros(2)})
    assert (zero.scale, zero.residual, zero.tensor_residual) == (None, None, None)


def test_a_parameter_without_a_gradient_has_no_scale():
    b = torch.tensor([1.0, 2.0])
    found = fit({"w": 2 * b, "frozen": None}, {"w": b, "frozen": None})
    assert found.scales == {"w": 2.0} and found.scaled_bitwise
