"""The divergence meter; oracle: `torch.nextafter`, stepped one representable number at a time, and integer views.

Aimed at: a meter that returns 0 for what differs (a −0, a NaN, a name that only one side has), and a distance in ULP
that forgets the sign or the exponent.
"""

import math

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from problems import bits

from pcbench.measure.divergence import compare

DTYPES = {torch.float32: 32, torch.float64: 64}
dtypes = st.sampled_from(list(DTYPES))


@st.composite
def tensors(draw, finite=True):
    dtype = draw(dtypes)
    number = st.floats(width=DTYPES[dtype], allow_nan=not finite, allow_infinity=not finite)
    return torch.tensor(draw(st.lists(number, min_size=1, max_size=5)), dtype=dtype)


@st.composite
def pairs(draw, finite=True):
    a = draw(tensors(finite))
    number = st.floats(width=DTYPES[a.dtype], allow_nan=not finite, allow_infinity=not finite)
    b = a.clone()
    for i in draw(st.lists(st.integers(0, len(a) - 1), max_size=3)):
        b[i] = draw(number)
    return a, b


@given(pair=pairs(finite=False))
@example(pair=(torch.tensor([0.0]), torch.tensor([-0.0])))
@example(pair=(torch.tensor([math.nan]), torch.tensor([math.nan])))
def test_bitwise_equal_means_that_the_bits_are_equal(pair):
    a, b = pair
    assert compare({"w": a}, {"w": b}).bitwise_equal == torch.equal(bits(a), bits(b))


@given(tensor=tensors(finite=False))
def test_everything_is_at_no_distance_from_itself(tensor):
    d = compare({"w": tensor.clone()}, {"w": tensor})
    assert (d.l2, d.relative_l2, d.max_abs, d.max_ulp, d.bitwise_equal) == (0, 0, 0, 0, True)


@given(pair=pairs())
def test_distances_are_symmetric(pair):
    there, back = compare({"w": pair[0]}, {"w": pair[1]}), compare({"w": pair[1]}, {"w": pair[0]})
    assert (there.l2, there.max_abs, there.max_ulp) == (back.l2, back.max_abs, back.max_ulp)


@given(pair=pairs())
def test_only_zeros_of_other_sign_differ_in_bits_at_no_distance(pair):
    d = compare({"w": pair[0]}, {"w": pair[1]})
    assert (d.max_ulp == 0) == bool((pair[0] == pair[1]).all())
    assert (d.max_abs == 0) == (d.max_ulp == 0)


@given(start=tensors(), steps=st.integers(0, 40), up=st.booleans())
@example(start=torch.tensor([0.0]), steps=3, up=False)
@example(start=torch.tensor([1e-45]), steps=3, up=False)
@example(start=torch.tensor([1.0], dtype=torch.float64), steps=2, up=False)
def test_ulps_count_steps_to_the_next_number(start, steps, up):
    """Across powers of two, through the subnormal numbers and through zero."""
    end = start.clone()
    for _ in range(steps):
        end = torch.nextafter(end, torch.full_like(end, math.inf if up else -math.inf))
    assume(torch.isfinite(end).all())
    assert compare({"w": end}, {"w": start}).max_ulp == steps


@given(dtype=dtypes)
def test_the_furthest_numbers_are_apart_by_their_count(dtype):
    """2 · (2^exponent bits − 1) · 2^mantissa bits: too far for a 64-bit integer."""
    exponent, mantissa = {torch.float32: (8, 23), torch.float64: (11, 52)}[dtype]
    largest = torch.tensor([torch.finfo(dtype).max], dtype=dtype)
    assert compare({"w": largest}, {"w": -largest}).max_ulp == 2 * ((2**exponent - 1) * 2**mantissa - 1)


def test_norms_are_those_of_all_tensors_together():
    reference = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]]), "c": None}
    d = compare({"a": torch.tensor([3.0, 1.5]), "b": torch.tensor([[6.0]]), "c": None}, reference)
    assert (d.l2, d.relative_l2, d.max_abs) == (2.5, 0.5, 2.0)
    assert not d.bitwise_equal


def test_differences_of_float32_are_taken_in_float64():
    """Their squares would vanish in float32."""
    d = compare({"w": torch.tensor([1e-30])}, {"w": torch.tensor([0.0])})
    assert d.l2 == pytest.approx(1e-30)
    assert d.relative_l2 == math.inf


@given(exponent=st.integers(-1000, 1020))
def test_norms_scale_with_the_numbers_whatever_their_size(exponent):
    """The square of 1e-200 is no number any more, and neither is that of 1e200; (3, 4) is 5 long in every unit."""
    unit = 2.0**exponent
    a, b = (torch.tensor(numbers, dtype=torch.float64) * unit for numbers in ([4.0, 5.0], [1.0, 1.0]))
    d = compare({"w": a}, {"w": b})
    assert d.l2 == 5 * unit
    assert d.relative_l2 == pytest.approx(5 / math.sqrt(2), rel=1e-14)


def test_the_smallest_difference_that_there_is_is_not_zero():
    smallest = torch.tensor([5e-324, 0.0], dtype=torch.float64)
    d = compare({"w": 2 * smallest}, {"w": smallest})
    assert (d.l2, d.relative_l2) == (5e-324, 1.0)


def test_a_value_that_is_not_finite_has_no_distance_in_ulp():
    for bad in (math.nan, math.inf):
        d = compare(
            {"v": torch.tensor([2.0]), "w": torch.tensor([bad])}, {"v": torch.tensor([1.0]), "w": torch.tensor([1.0])}
        )
        assert d.max_ulp is None
        assert not math.isfinite(d.l2) and not math.isfinite(d.max_abs)


def test_integers_and_empty_tensors_can_be_compared():
    """BatchNorm counts its batches in an int64."""
    state = {"count": torch.tensor(3), "empty": torch.zeros(0, 2), "w": torch.ones(2, 3).T}
    assert compare(dict(state), state).bitwise_equal
    d = compare({**state, "count": torch.tensor(5)}, state)
    assert (d.max_abs, d.bitwise_equal) == (2, False)


ONE = torch.ones(2)


@pytest.mark.parametrize(
    ("actual", "reference", "message"),
    [
        ({"a": ONE}, {"a": ONE, "b": ONE}, r"different names: \['b'\]"),
        ({"a": ONE, "b": ONE}, {"a": ONE}, r"different names: \['b'\]"),
        ({"a": ONE}, {"a": torch.ones(1, 2)}, r"a: \(2,\) torch.float32 cannot be compared with \(1, 2\)"),
        ({"a": ONE}, {"a": ONE.double()}, r"a: .*float32 cannot be compared with .*float64"),
        ({"a": None}, {"a": ONE}, "a: no tensor cannot be compared"),
        ({"a": ONE}, {"a": None}, "a: .* cannot be compared with no tensor"),
    ],
)
def test_what_does_not_match_is_refused_rather_than_cut_to_fit(actual, reference, message):
    with pytest.raises(ValueError, match=message):
        compare(actual, reference)
