"""`pcbench.divergence` on a user's own model; oracle: the documented contract.

Aimed at: a check that trains the model a little, that compares two different dropout masks, or that cannot fail.
"""

import copy
import itertools
import random
import warnings

import numpy as np
import pytest
import torch
from problems import Problem, assert_same_bits, vectors
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

import pcbench
from pcbench.errors import InvalidParameters, NonFiniteLoss, UnsupportedModule
from pcbench.measure.verify import verify


def test_nothing_of_the_model_and_no_random_state_changes(problem):
    model, inputs, targets = problem.build(torch.float32)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    modes = [module.training for module in model.modules()]
    pcbench.divergence(model, inputs, targets, problem.loss)
    assert_same_bits(model.state_dict(), before)
    assert all((parameter.grad == 3).all() for parameter in model.parameters())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_zil_is_at_no_distance_and_its_state_form_at_one_of_rounding(problem):
    batch = (*problem.build(torch.float64), problem.loss)
    exact, state = pcbench.divergence(*batch), pcbench.divergence(*batch, rule="zil-state")
    assert (exact.l2, exact.relative_l2, exact.max_abs, exact.max_ulp, exact.bitwise_equal) == (0, 0, 0, 0, True)
    assert state.relative_l2 < 1e-10


@pytest.mark.parametrize(
    "options",
    [
        {"rule": "il"},
        {"rule": "il", "steps": 5, "gamma": 0.2},
        {"rule": "zil-state", "gamma": 0.5},
        {"rule": "zil-state", "layer_dependent": False},
        {"rule": "zil-state", "sigma": 0.6, "generator": torch.Generator()},
    ],
    ids=["il", "il-5", "gamma", "not-layer-dependent", "sigma"],
)
def test_other_rules_are_at_a_distance(chain, options):
    d = pcbench.divergence(*chain.build(torch.float32), chain.loss, **options)
    assert d.relative_l2 > 1e-3 and d.max_ulp > 1000 and not d.bitwise_equal


def test_a_rule_that_was_told_to_be_backprop_is_at_no_distance_from_it(problem):
    assert pcbench.divergence(*problem.build(torch.float32), problem.loss, rule="bp").bitwise_equal


class DrawsFromAll(nn.Module):
    """Noise from torch's, NumPy's and Python's global generators; dropout masks by all three."""

    def __init__(self):
        super().__init__()
        self.hidden, self.readout = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        mask = torch.from_numpy(np.random.binomial(1, 0.5, (4,))).float() * (random.random() > 0.1)
        return self.readout(F.dropout(torch.tanh(self.hidden(x)), 0.5) * mask)


@pytest.mark.parametrize("rule", ["zil", "zil-state"])
def test_all_three_random_states_are_the_same_for_both_rules_and_put_back(rule):
    model, batch = DrawsFromAll(), (torch.randn(4, 5), torch.randint(3, (4,)), F.cross_entropy)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    found = pcbench.divergence(model, *batch, rule=rule)
    assert found.relative_l2 < 1e-5 and found.bitwise_equal == (rule == "zil")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all() and random.getstate() == states[2]


CALLS = itertools.count()


class CountsOutside(nn.Linear):
    """A private source of chance: nobody can put it back."""

    def forward(self, x):
        return super().forward(x) * next(CALLS)


@pytest.mark.parametrize("compared", [pcbench.divergence, verify])
def test_a_model_that_does_not_repeat_itself_is_named_rather_than_the_rule(compared):
    batch = nn.Sequential(CountsOutside(5, 3)), torch.randn(4, 5), torch.randint(3, (4,)), F.cross_entropy
    with pytest.raises(pcbench.NotRepeatable, match=r"backpropagation does not repeat itself .*differ in 0\.weight"):
        compared(*batch)


class Fused(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.encoder, self.readout = kind(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.readout(self.encoder(x)[0][:, -1])


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_fused_recurrent_network_is_checked_by_its_counterpart_or_kept_whole(kind):
    problem = Problem("fused", lambda: Fused(kind), vectors(5, 3))
    batch = (*problem.build(torch.float32), problem.loss)
    assert pcbench.divergence(*batch).bitwise_equal
    assert pcbench.divergence(*batch, convert=False).bitwise_equal
    assert pcbench.divergence(*batch, rule="zil-state", convert=False).relative_l2 < 1e-4
    assert type(batch[0].encoder) is kind
    converted, whole = (verify(*batch, ablations=False, convert=convert).whole() for convert in (True, False))
    assert converted == []
    assert len(whole) == 1 and whole[0].startswith(f"'encoder' (nn.{kind.__name__}) was kept whole: one vertex")


def test_a_subclass_of_a_fused_network_can_be_kept_whole():
    class Peephole(nn.LSTM):
        pass

    batch = Fused(Peephole), torch.randn(4, 5, 3), torch.randint(3, (4,)), F.cross_entropy
    with pytest.raises(UnsupportedModule, match=r"keep it whole.*--keep-fused"):
        pcbench.divergence(*batch)
    assert pcbench.divergence(*batch, convert=False).bitwise_equal


@pytest.mark.parametrize("frozen", [nn.Tanh(), nn.Linear(3, 2).requires_grad_(False)], ids=["none", "all frozen"])
def test_a_model_with_nothing_to_learn_is_refused(frozen):
    with pytest.raises(InvalidParameters, match=r"has no parameters to learn.*nothing to compare"):
        pcbench.divergence(frozen, torch.ones(2, 3), None, lambda outputs, _: outputs.sum())


def test_errors_reach_the_user_as_they_are():
    model, inputs, targets = nn.Sequential(nn.Linear(3, 2)), torch.ones(2, 3), torch.tensor([0, 1])
    with pytest.raises(InvalidParameters, match="unknown rule"):
        pcbench.divergence(model, inputs, targets, F.cross_entropy, rule="adam")
    with pytest.raises(NonFiniteLoss, match="the loss is nan"):
        pcbench.divergence(model, inputs * float("nan"), targets, F.cross_entropy)

    class LearnsInside(nn.Linear):
        def forward(self, x):
            out = super().forward(x)
            out.sum().backward(retain_graph=True)
            return out

    with pytest.raises(UnsupportedModule, match=r"'the model' \(LearnsInside\), .*calls backward\(\) inside forward"):
        pcbench.divergence(LearnsInside(3, 2), inputs, targets, F.cross_entropy)


def weight_normed(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and in use
        return torch.nn.utils.weight_norm(layer)


def pruned(layer):
    return prune.l1_unstructured(layer, "weight", 0.5)


@pytest.mark.parametrize("hooked", [weight_normed, pruned, torch.nn.utils.spectral_norm])
def test_a_weight_that_a_hook_computes_can_be_compared(hooked):
    """`copy.deepcopy` refuses such a weight. The model is compared as it is made, and after it has been used."""
    model = nn.Sequential(hooked(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2))
    batch = torch.randn(5, 3), torch.randint(0, 2, (5,)), F.cross_entropy
    for _ in range(2):
        found = pcbench.divergence(model, *batch)
        assert found.bitwise_equal and found.max_ulp == 0
        assert not pcbench.divergence(model, *batch, rule="il").bitwise_equal
        model(batch[0])


def test_an_attribute_with_a_history_is_named():
    model = nn.Sequential(nn.Linear(3, 2))
    model[0].doubled = 2 * model[0].weight
    with pytest.raises(UnsupportedModule, match=r"attribute 'doubled' of '0' \(Linear\) was computed from parameters"):
        pcbench.divergence(model, torch.zeros(2, 3), torch.tensor([0, 1]), F.cross_entropy)
