"""Fingerprints; oracle: bits flipped by hand, one or several, in tensors of every kind.

Aimed at: two runs called equal that are not, and an element named that is not the one.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcbench.measure.fingerprint import Trace, fingerprint, layout, locate, trace


def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(30, 20, generator=generator),
        "bias": torch.randn(20, generator=generator, dtype=torch.float64),
        "none": None,
        "half": torch.randn(3, 5, generator=generator).to(torch.bfloat16),
        "complex": torch.randn(4, generator=generator, dtype=torch.complex64),
        "count": torch.tensor(3),
        "mask": torch.tensor([True, False]),
        "empty": torch.zeros(0, 4),
    }


WORDS = {torch.float32: torch.int32, torch.float64: torch.int64, torch.bfloat16: torch.int16, torch.int64: torch.int64}


def flipped(found, name, index, bit):
    found = {key: None if tensor is None else tensor.clone() for key, tensor in found.items()}
    words = found[name].view(-1).view(WORDS[found[name].dtype])
    width = 8 * words.element_size()
    words[index] ^= -(2 ** (width - 1)) if bit == width - 1 else 2**bit
    return found


BITS = st.one_of(
    st.tuples(st.just("weight"), st.integers(0, 599), st.integers(0, 31)),
    st.tuples(st.just("bias"), st.integers(0, 19), st.integers(0, 63)),
    st.tuples(st.just("half"), st.integers(0, 14), st.integers(0, 15)),
    st.tuples(st.just("count"), st.just(0), st.integers(0, 63)),
)


@given(place=BITS)
def test_a_single_flipped_bit_is_found_wherever_it_is(place):
    whole, other = tensors(), flipped(tensors(), *place)
    found = locate(fingerprint(whole), fingerprint(other), layout(whole))
    assert (found.tensor, found.index) == place[:2]
    assert abs(found.distance) == 2 ** place[2]
    assert str(found) == f"{place[0]}, element {place[1]}, bit {place[2]}"


@given(first=BITS, second=BITS)
def test_of_two_flipped_bits_none_is_named_but_that_they_differ_is_seen(first, second):
    whole = tensors()
    both = flipped(flipped(whole, *first), *second)
    assert (fingerprint(whole) == fingerprint(both)) == (first == second)
    if first[:2] != second[:2]:
        assert locate(fingerprint(whole), fingerprint(both), layout(whole)) is None


def test_a_float_one_unit_further_is_one_unit_away():
    whole = tensors()
    other = {**whole, "weight": whole["weight"].clone()}
    other["weight"][2, 3] = torch.nextafter(whole["weight"][2, 3], torch.tensor(math.inf))
    found = locate(fingerprint(whole), fingerprint(other), layout(whole))
    assert (found.tensor, found.index, abs(found.distance)) == ("weight", 43, 1)


def test_elements_that_change_places_are_seen():
    whole = tensors()
    other = {**whole, "weight": whole["weight"].flip(0)}
    assert fingerprint(whole) != fingerprint(other)


def test_equal_tensors_have_equal_fingerprints_whatever_their_memory():
    whole = {"weight": torch.arange(12.0).view(3, 4)}
    assert fingerprint(whole) == fingerprint({"weight": torch.arange(12.0).view(3, 4).t().contiguous().t()})
    assert fingerprint({}) == "0" * 32
    assert locate(fingerprint(whole), fingerprint(whole), layout(whole)) is None


def test_a_trace_keeps_every_update_and_single_tensors_at_powers_of_two_and_where_told():
    kept = Trace()
    states = [{"w": torch.full((2,), float(i)), "b": torch.tensor([float(-i)])} for i in range(11)]
    for state in states:
        kept.add(state)
    kept.note(states[-1])
    value = kept.value(states[-1])
    assert value["updates"] == [fingerprint(state) for state in states]
    assert list(value["tensors"]) == ["1", "2", "4", "8", "11"]
    assert value["tensors"]["4"] == {name: fingerprint({name: states[3][name]}) for name in ("w", "b")}
    assert value["layout"] == [["w", 2, 1], ["b", 1, 1]]
    again = Trace(value["updates"], value["tensors"])
    again.add(states[0])
    assert len(again.updates) == 12


@pytest.mark.parametrize("name", ["weight", "none"])
def test_a_single_update_is_a_trace_too(name):
    found = trace({name: tensors()[name]})
    assert len(found["updates"]) == 1 and list(found["tensors"]) == ["1"]
