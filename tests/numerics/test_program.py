"""Programs of weight updates; oracles: rules that are broken on purpose, and the bits of proven rules on random inputs.

Aimed at: a certificate that cannot fail, and one that holds only for the batch on which it was made.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import PROBLEMS, ConvNet, assert_same_bits
from torch import nn
from torch.nn import functional as F

import pcbench
from pcbench import ZIL, Backprop, Dynamics, InferenceLearning, Schedule, UnsupportedModule, passing, values
from pcbench.measure.proof import canonical_update


def test_zil_is_the_same_program_as_backpropagation(problem):
    model, inputs, targets = problem.build(torch.float32)
    certificate = pcbench.prove(model, inputs, targets, problem.loss)
    assert certificate.equal, str(certificate)
    assert certificate.operations == certificate.own_operations > 10
    assert "kernels" in str(certificate)


def test_a_program_is_the_same_whenever_it_is_captured_and_capturing_leaves_the_model_alone(problem):
    model, inputs, targets = problem.build(torch.float32)
    state, before = torch.get_rng_state(), {n: t.clone() for n, t in model.state_dict().items()}
    first, second = (canonical_update(model, ZIL, inputs, targets, problem.loss) for _ in range(2))
    assert first == second
    assert_same_bits(dict(model.state_dict()), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


OTHER = {
    "il": InferenceLearning,
    "zil-state": Dynamics,
    "gamma": lambda model: Dynamics(model, Schedule(gamma=0.5)),
    "not-layer-dependent": lambda model: Dynamics(model, Schedule(layer_dependent=False)),
    "sigma": lambda model: Dynamics(model, Schedule(sigma=0.1), torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("rule", OTHER.values(), ids=OTHER)
def test_another_rule_is_another_program(rule):
    problem = PROBLEMS[0]
    certificate = pcbench.prove(*problem.build(torch.float32), problem.loss, rule=rule)
    assert not certificate.equal
    assert "first result that differs: gradient of parameter" in str(certificate)


class SignFlipped(ZIL):
    def gradients(self, *batch):
        loss, found = super().gradients(*batch)
        return loss, {p: -g for p, g in found.items()}


class Other(values.Values):
    """The mode with one of its steps replaced."""


class SkipsAVertex(Other):
    def _visit(self, node, errors, *how):
        return errors if node.name() == "TanhBackward0" else super()._visit(node, errors, *how)


def broken(problem, rule=ZIL):
    return pcbench.prove(*problem.build(torch.float32), problem.loss, rule=rule)


def named(name):
    (problem,) = (problem for problem in PROBLEMS if problem.name == name)
    return problem


def test_a_sign_is_seen():
    certificate = broken(PROBLEMS[0], SignFlipped)
    assert not certificate.equal and certificate.first_difference.step.name == "aten.neg.default"


def test_a_vertex_that_is_skipped_is_seen(monkeypatch):
    monkeypatch.setattr("pcbench.rules.zil.Values", SkipsAVertex)
    certificate = broken(PROBLEMS[0])
    assert not certificate.equal and certificate.first_difference.expected.name == "aten.tanh_backward.default"


def test_a_shared_weight_that_is_counted_once_is_seen(monkeypatch):
    monkeypatch.setattr(passing, "_sum", lambda error, more: more)
    assert not broken(named("shared-cell")).equal


def test_a_sum_in_another_association_is_seen(monkeypatch):
    """(a + b) + c is not a + (b + c), in bits."""
    parts = {}

    def added_from_the_right(error, more):
        if error is None:
            return more
        first, rest = parts.get(id(error), (error, None))
        rest = more if rest is None else rest + more
        total = first + rest
        parts[id(total)] = first, rest
        kept.append(total)
        return total

    kept = []
    monkeypatch.setattr(passing, "_sum", added_from_the_right)
    assert not broken(named("shared-cell")).equal


def test_a_sum_with_its_operands_exchanged_is_the_same(monkeypatch):
    """a + b is b + a, bit for bit."""
    monkeypatch.setattr(passing, "_sum", lambda error, more: more if error is None else more + error)
    assert broken(named("shared-cell")).equal


class TwoMasks(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.swapped = nn.Linear(5, 4), nn.Linear(5, 4), False

    def forward(self, x):
        if self.swapped:
            b = F.dropout(self.b(x))
            return F.dropout(self.a(x)) * b
        a = F.dropout(self.a(x))
        return a * F.dropout(self.b(x))


class Swapped(ZIL):
    """Draws the two masks in the other order."""

    def gradients(self, *batch):
        self.model.swapped = True
        return super().gradients(*batch)


BATCH = torch.randn(3, 5), torch.randint(0, 4, (3,)), F.cross_entropy


def test_masks_drawn_in_the_other_order_are_seen():
    assert pcbench.prove(TwoMasks(), *BATCH).equal
    assert not pcbench.prove(TwoMasks(), *BATCH, rule=Swapped).equal


class ForwardTwice(ZIL):
    def gradients(self, inputs, targets, loss_fn):
        with torch.no_grad():
            self.model(inputs)
        return super().gradients(inputs, targets, loss_fn)


def test_a_buffer_that_advances_twice_is_seen():
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
    assert pcbench.prove(model, *BATCH).equal
    certificate = pcbench.prove(model, *BATCH, rule=ForwardTwice)
    assert not certificate.equal
    assert certificate.first_difference.result == "buffer 1.num_batches_tracked afterwards"


class IntoSlices(nn.Module):
    """Writes into a buffer through views, in an order that matters."""

    def __init__(self, turned):
        super().__init__()
        self.a, self.turned = nn.Linear(5, 4), turned

    def forward(self, x):
        h = self.a(x)
        out = torch.zeros(3, 4)
        parts = [(slice(None, 3), h[:, 1:]), (slice(1, None), h[:, :3])]
        for place, value in reversed(parts) if self.turned else parts:
            out[:, place].copy_(value)
        return out


def test_writes_through_overlapping_views_are_told_apart_by_their_order():
    for turned in (False, True):
        assert pcbench.prove(IntoSlices(turned), *BATCH).equal
    first, second = (canonical_update(IntoSlices(turned), Backprop, *BATCH) for turned in (False, True))
    assert first.digest != second.digest


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(5, 4)

    def forward(self, x):
        h = self.a(x)
        return h if h.sum() > 0 else -h  # the line


def test_an_update_that_depends_on_values_has_no_program():
    with pytest.raises(
        UnsupportedModule, match=r"Branches cannot be captured .*depends on the values.*test_program\.py"
    ):
        pcbench.prove(Branches(), *BATCH)


def test_a_difference_names_the_line_of_the_model():
    certificate = pcbench.prove(
        ConvNet(), torch.randn(4, 1, 12, 12), torch.randint(0, 3, (4,)), F.cross_entropy, rule="il"
    )
    assert any("problems.py:" in (step.line or "") for step in (certificate.first_difference.step,))


# What a certificate claims: the same bits from every input of this shape, whatever stands in it.

anything = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)
PROVEN = {
    p.name: (p, *p.build(torch.float32)) for p in PROBLEMS if p.name in ("mlp", "convolutions", "branches", "attention")
}


def all_bits(rule, model, inputs, targets, loss_fn):
    """The loss and the gradients as integers, every NaN as one."""
    loss, found = rule(model).gradients(inputs, targets, loss_fn)
    kept = [loss, *(found[p] for p in model.parameters())]
    return [torch.where(t.isnan(), math.nan, t).contiguous().view(torch.int32) for t in kept]


@pytest.mark.parametrize("name", PROVEN)
def test_a_proven_model_has_the_bits_of_backpropagation_on_whatever_inputs(name):
    problem, model, inputs, targets = PROVEN[name]
    assert pcbench.prove(model, inputs, targets, problem.loss).equal

    @settings(max_examples=50, deadline=None)  # on four models: 200 inputs
    @given(numbers=st.lists(anything, min_size=8, max_size=8), scale=st.sampled_from([1.0, 1e-38, 1e30, 0.0]))
    def same(numbers, scale):
        changed = inputs.clone() * scale
        changed.view(-1)[: len(numbers)] = torch.tensor(numbers)
        zil, backprop = (all_bits(rule, model, changed, targets, problem.loss) for rule in (ZIL, Backprop))
        assert all(torch.equal(a, b) for a, b in zip(zil, backprop, strict=True))

    same()
