"""Forwards that write, ask and count: backpropagation's bits, or a refusal; oracle: autograd on the same model.

Aimed at: what a trace would drop without a word, so that Z-IL learns something else from then on.
"""

import copy

import pytest
import torch
from torch import nn

from pcbench import ZIL, Backprop, Dynamics, Schedule, UnsupportedModule


class Model(nn.Module):
    """Two layers, and a forward of its own."""

    def __init__(self, forward):
        super().__init__()
        self.a, self.b, self.function = nn.Linear(5, 6), nn.Linear(6, 3), forward
        self.flip, self.calls = False, 0

    def forward(self, x):
        return self.function(self, x)


def passed_on_as_it_is(m, x):
    h = m.a(x)
    same = h.float()
    return m.b((h * 1.1).tanh() + (same * 1.3).sin() + (h * 1.7).cos())


def passed_on_by_a_module(m, x):
    h = m.a(x)
    same = nn.functional.dropout(h, 0.5, training=False)
    return m.b((same * 1.1).tanh() + (h * 1.3).sin() + (same * 1.7).cos())


def asks_for_the_type(m, x):
    return m.b(m.a(x * 2 if isinstance(x, torch.Tensor) else x))


def alternates(m, x):
    m.flip = not m.flip
    h = m.a(x)
    return m.b(h.tanh() if m.flip else h.relu())


def counts_in_a_circle(m, x):
    m.calls = (m.calls + 1) % 3
    return m.b(m.a(x) * m.calls)


def fills_a_fresh_tensor(m, x):
    total = torch.zeros(4, 6)
    total += m.a(x)
    return m.b(total.masked_fill_(total > 1, 0.0))


@pytest.mark.parametrize(
    "forward",
    [
        passed_on_as_it_is,
        passed_on_by_a_module,
        asks_for_the_type,
        alternates,
        counts_in_a_circle,
        fills_a_fresh_tensor,
    ],
    ids=lambda forward: forward.__name__,
)
def test_six_updates_in_a_row_have_the_bits_of_backprop(forward):
    reference = Model(forward)
    model = copy.deepcopy(reference)
    inputs, targets = torch.randn(4, 5), torch.randn(4, 3)
    rules = [Backprop(reference), ZIL(model)]
    for _ in range(6):
        for rule in rules:
            rule.model.zero_grad()
            rule.backward(inputs, targets, nn.functional.mse_loss)
            torch.optim.SGD(rule.model.parameters(), lr=0.1).step()
        for expected, actual in zip(reference.parameters(), model.parameters(), strict=True):
            assert torch.equal(expected.grad, actual.grad) and torch.equal(expected, actual)


def writes_past_the_gradient(m, x):
    h = m.a(x)
    with torch.no_grad():
        h.clamp_(-0.5, 0.5)
    return m.b(h)


def writes_into_a_part(m, x):
    total = torch.zeros(4, 6)
    total[:2].add_(m.a(x)[:2])
    return m.b(total)


def writes_into_out(m, x):
    total = torch.zeros(4, 5)
    torch.add(total, x, out=total)
    return m.b(m.a(total))


def writes_another_dtype(m, x):
    h = m.a(x)
    low = torch.zeros_like(h, dtype=torch.bfloat16)
    low += h
    return m.b(low.float())


def draws_over_a_tensor(m, x):
    h = m.a(x)
    return m.b(h * torch.zeros_like(h).bernoulli_())


def compares_in_place(m, x):
    h = m.a(x)
    return m.b(h * h.detach().clone().gt_(0))


def clips_its_weights(m, x):
    with torch.no_grad():
        for parameter in m.parameters():
            parameter.clamp_(-0.2, 0.2)
    return m.b(m.a(x))


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (writes_past_the_gradient, r"clamp.* writes in place into 'a' under no_grad"),
        (writes_into_a_part, r"add.* writes in place into a part of a tensor"),
        (writes_into_out, r"test_graph_purity\.py:\d+, writes into `out`"),
        (writes_another_dtype, r"writes torch\.float32 in place into .* which is torch\.bfloat16; convert it first"),
        (draws_over_a_tensor, r"bernoulli_ writes in place and has no out-of-place counterpart"),
        (compares_in_place, r"gt_ writes in place and has no out-of-place counterpart"),
        (clips_its_weights, r"parameter 'a\.weight' .* is written by a forward"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_would_be_lost_is_refused_by_name(forward, words):
    with pytest.raises(UnsupportedModule, match=words):
        ZIL(Model(forward)).backward(torch.randn(4, 5), torch.randn(4, 3), nn.functional.mse_loss)


def test_a_parametrized_module_of_the_user_is_still_many_vertices():
    class Halved(nn.Module):
        def forward(self, weight):
            return weight / 2

    model = nn.Sequential(Model(lambda m, x: m.b(m.a(x).tanh())))
    nn.utils.parametrize.register_parametrization(model[0].a, "weight", Halved())
    model[0].extra = nn.Parameter(torch.ones(3))
    nn.utils.parametrize.register_parametrization(model[0], "extra", Halved())
    graph = ZIL(model).graph((torch.randn(4, 5),))
    assert len([vertex for vertex in graph.vertices if vertex.parameters]) == 2


def test_spectral_norm_is_one_function_throughout_an_update_of_the_state_form():
    reference = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(5, 6)), nn.Tanh(), nn.Linear(6, 3))
    reference = reference.double()
    model = copy.deepcopy(reference)
    inputs, targets = torch.randn(4, 5).double(), torch.randn(4, 3).double()
    for rule in (Backprop(reference), Dynamics(model, Schedule())):
        rule.backward(inputs, targets, nn.functional.mse_loss)
    for expected, actual in zip(reference.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-11, atol=1e-13)
    for expected, actual in zip(reference.buffers(), model.buffers(), strict=True):
        assert torch.equal(expected, actual)
