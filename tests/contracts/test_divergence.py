"""`pcbench.divergence` on a user's own model; oracle: the documented contract.

Aimed at: a check that trains the model a little, that compares two different dropout masks, or that cannot fail.
"""

import copy
import warnings

import pytest
import torch
from problems import Problem, assert_same_bits, vectors
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

import pcbench
from pcbench.errors import InvalidParameters, NonFiniteLoss, UnsupportedModule


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


def test_a_fused_recurrent_network_is_checked_by_its_counterpart():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.readout = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 3)

        def forward(self, x):
            return self.readout(self.encoder(x)[0][:, -1])

    problem = Problem("fused", Model, vectors(5, 3))
    model, inputs, targets = problem.build(torch.float32)
    assert pcbench.divergence(model, inputs, targets, problem.loss).bitwise_equal
    assert type(model.encoder) is nn.LSTM


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

    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x):
            return self.linear(x) if x.sum() > 0 else -self.linear(x)

    with pytest.raises(UnsupportedModule, match=r"'the model' \(Branch\), .*depends on the values of a tensor"):
        pcbench.divergence(Branch(), inputs, targets, F.cross_entropy)


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
