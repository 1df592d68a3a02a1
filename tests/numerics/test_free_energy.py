"""The free energy along Z-IL's inference and at its least; oracles: a linear network in NumPy, the engines of IL and Z-IL.

Aimed at: an output counted twice or with another scale, errors of two times taken for those of one, a minimum that is none.

The linear network is x₀ → μ₁ = W₁x₀ → μ₂ = W₂x₁, with L = c/2 ‖y − μ₂‖², summed over examples, and e = y − W₂W₁x₀: c is 1
where the loss is a sum over the batch, and one over the batch where it is a mean. F = ½‖x₁ − W₁x₀‖² + c/2 ‖y − W₂x₁‖².
"""

import math

import numpy as np
import pytest
import torch
from problems import PROBLEMS, outcome, relative_l2
from torch import nn

from pcbench import ZIL, Dynamics, InferenceLearning, Schedule
from pcbench.measure.first import FirstUpdate
from pcbench.measure.free_energy import Settled, cosine, free_energy

BATCH = 5
NUMBERS = {"residual": 1e-12, "evaluations": 200}


def mean_of_halves(outputs, targets):
    return 0.5 * (targets - outputs).square().sum() / len(targets)


@pytest.fixture
def linear():
    """The weight update, and the same numbers for NumPy, an example a column: ``first, (W₁, W₂, x₀, y)``."""
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False)).double()
    inputs, targets = torch.randn(BATCH, 4, dtype=torch.float64), torch.randn(BATCH, 2, dtype=torch.float64)
    w1, w2 = (p.detach().numpy().copy() for p in model.parameters())
    return FirstUpdate(model, inputs, targets, mean_of_halves, seed=0), (w1, w2, inputs.numpy().T, targets.numpy().T)


def flat(*parts):
    return np.concatenate([part.ravel() for part in parts])


def angle(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def apart(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


SCALES = pytest.mark.parametrize(("reduction", "c"), [("mean", 1 / BATCH), ("sum", 1.0)])


@SCALES
def test_settled_the_free_energy_is_that_of_the_normal_equations(linear, reduction, c):
    """Where ε₁ = W₂ᵀε₂ and ε₂ = c(e − W₂ε₁): ε₂ = (1/c + W₂W₂ᵀ)⁻¹e, and F = ½ eᵀε₂."""
    first, (w1, w2, x0, y) = linear
    e = y - w2 @ w1 @ x0
    e2 = np.linalg.solve(np.eye(2) / c + w2 @ w2.T, e)
    e1 = w2.T @ e2
    update = flat(c * w2.T @ e @ x0.T, c * e @ (w1 @ x0).T)
    slope = flat(e1 @ x0.T, e2 @ (w1 @ x0 + e1).T)
    found = free_energy(first, ZIL, NUMBERS, reduction)["settled"]
    assert found["energy"] == pytest.approx((e * e2).sum() / 2, rel=1e-12)
    assert found["cosine"] == pytest.approx(angle(slope, update), rel=1e-9)
    assert found["relative_l2"] == pytest.approx(apart(slope, update), rel=1e-8)
    assert found["relative_l2"] > 1e-2, "or the test could not tell the one from the other"


@SCALES
def test_along_zils_inference_errors_are_those_of_one_time(linear, reduction, c):
    """At t = 0 only the output has one; at t = 1 ε₁ = cW₂ᵀe is Z-IL's, but ε₂ has moved on to c(e − W₂ε₁), and x₁ with it."""
    first, (w1, w2, x0, y) = linear
    e = y - w2 @ w1 @ x0
    e1 = c * w2.T @ e
    update = flat(e1 @ x0.T, c * e @ (w1 @ x0).T)
    slopes = [
        flat(0 * e1 @ x0.T, c * e @ (w1 @ x0).T),
        flat(e1 @ x0.T, c * (e - w2 @ e1) @ (w1 @ x0 + e1).T),
    ]
    found = free_energy(first, ZIL, NUMBERS, reduction)
    energies = [c / 2 * (e**2).sum(), (e1**2).sum() / 2 + c / 2 * ((e - w2 @ e1) ** 2).sum()]
    np.testing.assert_allclose(found["energy"], energies, rtol=1e-12)
    np.testing.assert_allclose(found["at_one_time"]["cosine"], [angle(s, update) for s in slopes], rtol=1e-12)
    np.testing.assert_allclose(found["at_one_time"]["relative_l2"], [apart(s, update) for s in slopes], rtol=1e-12)


def observed(problem, **numbers):
    """The rule `Settled` after one update of a problem in float64, and the gradients that it left."""
    made = []

    def settling(model):
        made.append(Settled(model, **{**NUMBERS, **numbers}))
        return made[0]

    gradients = outcome(problem, torch.float64, settling).gradients
    return made[0], gradients


def test_the_slopes_at_one_time_are_the_updates_that_the_engine_makes_there(problem):
    """All θ at t = T: the state form without layer dependence, which knows of no energy, for every T."""
    rule, _ = observed(problem, evaluations=1)
    assert len(rule.energies) == len(rule.slopes) > 1
    for steps, slopes in list(enumerate(rule.slopes))[1:]:
        schedule = Schedule(steps=steps, layer_dependent=False)
        expected = outcome(problem, torch.float64, lambda model, s=schedule: Dynamics(model, s)).gradients
        named = {name: slopes.get(p) for name, p in rule.model.named_parameters()}
        assert relative_l2(named, expected) < 1e-10, f"at t = {steps}"


def test_zils_update_takes_each_layer_from_the_time_at_which_the_wave_is_there(chain):
    """Layer by layer Z-IL's update is −∂F/∂θ, each at its own time; at no one time is all of it."""
    rule, _ = observed(chain, evaluations=1)
    expected = outcome(chain, torch.float64, ZIL).gradients
    names = list(expected)
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names))[::-1]
    assert len(layers) == len(rule.slopes)
    for level, layer in enumerate(layers):
        named = {n: rule.slopes[level][p] for n, p in rule.model.named_parameters() if n.startswith(f"{layer}.")}
        assert relative_l2(named, {name: expected[name] for name in named}) < 1e-10
    for slopes in rule.slopes:
        assert relative_l2({n: slopes.get(p) for n, p in rule.model.named_parameters()}, expected) > 1e-2


SETTLING = [p for p in PROBLEMS if p.name in ("mlp", "sum-of-squares", "shared-cell", "lstm-cell", "branches")]


@pytest.mark.parametrize("problem", SETTLING, ids=lambda problem: problem.name)
def test_il_comes_to_rest_where_the_descent_ends(problem):
    """Equation (1) itself, many small steps of it; also where edges skip levels, on the graph without identity vertices."""
    rule, settled = observed(problem)
    rested = outcome(problem, torch.float64, lambda model: InferenceLearning(model, steps=1500, gamma=0.2)).gradients
    assert relative_l2(settled, rested) < 1e-6
    assert rule.descent["residual"] < 1e-6
    assert rule.descent["energy"] < rule.energies[0]


def test_a_descent_that_is_cut_short_says_so(chain):
    rule, _ = observed(chain, evaluations=2)
    assert rule.descent["residual"] > 1e-3 and rule.descent["evaluations"] < 10


def test_the_cosine_takes_all_tensors_for_one_vector():
    a = {"w": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0]), "unused": None}
    b = {"w": torch.tensor([0.0, 2.0]), "b": torch.tensor([0.5]), "unused": torch.tensor([7.0])}
    assert cosine(a, b) == pytest.approx(2 / (5 * math.sqrt(4 + 0.25 + 49)))
    assert cosine(a, {name: None for name in a}) is None
    assert cosine(a, {**b, "b": torch.tensor([math.inf])}) is None
