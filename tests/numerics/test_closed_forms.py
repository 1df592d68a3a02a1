"""The rules against numbers worked out without autograd; oracles: algebra on linear networks in NumPy, and differences.

Aimed at: γ ignored or applied twice, a sign, T counted from one, an update at the wrong time, a mean that became a sum.

The linear network is x₀ → μ₁ = W₁x₀ → μ₂ = W₂x₁ with L = ½‖y − μ₂‖², one example, e = y − W₂W₁x₀. From ε₁(0) = 0,
equation (1) gives the value x₁ after one and two steps; equation (2) is read off there. Gradients are −ε xᵀ.
"""

import numpy as np
import pytest
import torch
from problems import assert_same_bits, gradients_of, outcome, relative_l2
from torch import nn

from pcbench import ZIL, Backprop, Dynamics, Graph, InferenceLearning, Schedule

GAMMAS = [0.05, 0.5, 1.0, 1.7]


def half_squared_error(outputs, targets):
    return 0.5 * (targets - outputs).square().sum()


@pytest.fixture
def linear():
    """The module, its batch of one, and the same numbers for NumPy: ``(model, inputs, targets), (W₁, W₂, x₀, y)``."""
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False)).double()
    inputs, targets = torch.randn(1, 4, dtype=torch.float64), torch.randn(1, 2, dtype=torch.float64)
    w1, w2 = (p.detach().numpy().copy() for p in model.parameters())
    return (model, inputs, targets), (w1, w2, inputs[0].numpy(), targets[0].numpy())


def assert_gradients(rule, problem, first, second):
    rule(problem[0]).backward(problem[1], problem[2], half_squared_error)
    for actual, expected in zip(problem[0].parameters(), (first, second), strict=True):
        np.testing.assert_allclose(actual.grad.numpy(), expected, rtol=1e-12, atol=1e-14)


def il(steps, gamma):
    return lambda model: InferenceLearning(model, steps=steps, gamma=gamma)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_il_after_one_step(linear, gamma):
    problem, (w1, w2, x0, y) = linear
    e = y - w2 @ w1 @ x0
    x1 = w1 @ x0 + gamma * w2.T @ e
    first = -np.outer(gamma * w2.T @ e, x0)
    second = -np.outer(e - gamma * w2 @ w2.T @ e, x1)
    assert_gradients(il(1, gamma), problem, first, second)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_il_after_two_steps(linear, gamma):
    problem, (w1, w2, x0, y) = linear
    e, a = y - w2 @ w1 @ x0, w2.T @ w2
    error = gamma * ((2 - gamma) * np.eye(3) - gamma * a) @ w2.T @ e
    first = -np.outer(error, x0)
    second = -np.outer(e - w2 @ error, w1 @ x0 + error)
    assert_gradients(il(2, gamma), problem, first, second)


def test_il_settles_where_the_energys_slope_is_zero(linear):
    """There ε₁ = W₂ᵀε₂, hence ε₂ = (1 + W₂W₂ᵀ)⁻¹ e: not backpropagation's error, however many the steps."""
    problem, (w1, w2, x0, y) = linear
    e2 = np.linalg.solve(np.eye(2) + w2 @ w2.T, y - w2 @ w1 @ x0)
    e1 = w2.T @ e2
    assert_gradients(il(500, 0.2), problem, -np.outer(e1, x0), -np.outer(e2, w1 @ x0 + e1))


@pytest.mark.parametrize("gamma", GAMMAS)
def test_layer_dependence_reads_each_layer_when_the_wave_reaches_it(linear, gamma):
    """W₂ at t = 0, where the error is e and x₁ has not moved; W₁ at t = 1, when ε₁ = γW₂ᵀe."""
    problem, (w1, w2, x0, y) = linear
    e = y - w2 @ w1 @ x0
    first, second = -np.outer(gamma * w2.T @ e, x0), -np.outer(e, w1 @ x0)
    assert_gradients(lambda model: Dynamics(model, Schedule(gamma=gamma)), problem, first, second)


def test_without_layer_dependence_every_layer_is_read_at_the_end(linear):
    problem, (w1, w2, x0, y) = linear
    e = y - w2 @ w1 @ x0
    first = -np.outer(w2.T @ e, x0)
    second = -np.outer(e - w2 @ w2.T @ e, w1 @ x0 + w2.T @ e)
    assert_gradients(lambda model: Dynamics(model, Schedule(layer_dependent=False)), problem, first, second)


def test_the_initial_error_is_sigma_times_standard_noise_on_hidden_values_only(linear):
    """With one step, ε₁(1) = (1 − γ)·σn + γW₂ᵀε₂(0), where ε₂(0) = y − W₂(W₁x₀ + σn)."""
    problem, (w1, w2, x0, y) = linear
    noise = 0.3 * torch.randn(1, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)[0].numpy()
    e = y - w2 @ (w1 @ x0 + noise)
    first, second = -np.outer(0.6 * noise + 0.4 * w2.T @ e, x0), -np.outer(e, w1 @ x0 + noise)
    schedule = Schedule(gamma=0.4, sigma=0.3)
    generator = torch.Generator().manual_seed(5)
    assert_gradients(lambda model: Dynamics(model, schedule, generator), problem, first, second)


@pytest.mark.parametrize("rule", [ZIL, Dynamics], ids=["zil", "zil-state"])
def test_zil_gives_the_derivative_of_the_loss(linear, rule):
    problem, (w1, w2, x0, y) = linear
    e = y - w2 @ w1 @ x0
    assert_gradients(rule, problem, -np.outer(w2.T @ e, x0), -np.outer(e, w1 @ x0))


@pytest.mark.parametrize("rule", [Backprop, ZIL, Dynamics], ids=["bp", "zil", "zil-state"])
def test_gradients_are_the_limits_of_difference_quotients(chain, rule):
    """Central differences in random directions, each with dropout masks drawn from the same seed."""
    model, inputs, targets = chain.build(torch.float64)

    def loss(offsets=()):
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            moved = {n: p + o for (n, p), o in zip(model.named_parameters(), offsets, strict=True)}
            return chain.loss(torch.func.functional_call(model, moved, (inputs,)), targets).item()

    found = outcome(chain, torch.float64, rule).gradients
    for _ in range(3):
        direction = [torch.randn_like(p) for p in model.parameters()]
        slope = sum((g * d).sum().item() for g, d in zip(found.values(), direction, strict=True))
        step = 1e-5
        quotient = (loss([step * d for d in direction]) - loss([-step * d for d in direction])) / (2 * step)
        assert slope == pytest.approx(quotient, rel=1e-6, abs=1e-9)


def test_il_reaches_one_layer_further_with_every_step(chain):
    """The error moves one level a step: until it arrives a vertex's error is zero, and exactly so."""
    model, inputs, _ = chain.build(torch.float64)
    graph = Graph.from_module(model, inputs)
    for steps in range(1, graph.depth + 1):
        found = outcome(chain, torch.float64, il(steps, 0.1)).gradients
        for vertex in graph.vertices:
            for name in vertex.parameters:
                assert bool(found[name].any()) == (vertex.level <= steps), f"{name} after {steps} steps"


BROKEN = {
    "not-layer-dependent": lambda model: Dynamics(model, Schedule(layer_dependent=False)),
    "gamma": lambda model: Dynamics(model, Schedule(gamma=0.5)),
    "sigma": lambda model: Dynamics(model, Schedule(sigma=0.6), torch.Generator().manual_seed(0)),
    "sigma-small": lambda model: Dynamics(model, Schedule(sigma=0.01), torch.Generator().manual_seed(0)),
    "il-20": il(20, 0.1),
    "il-100": il(100, 0.1),
}


@pytest.mark.parametrize("rule", BROKEN.values(), ids=BROKEN)
def test_with_one_condition_broken_the_update_is_another_one(chain, rule):
    expected = outcome(chain, torch.float64, Backprop).gradients
    assert relative_l2(outcome(chain, torch.float64, rule).gradients, expected) > 1e-3


def test_without_levelling_the_update_of_a_network_with_skips_is_another_one(skips):
    """The wave then arrives by the short way first, before all of a vertex's error is there."""
    expected = outcome(skips, torch.float64, Backprop).gradients
    actual = outcome(skips, torch.float64, lambda model: Dynamics(model, Schedule(levelled=False))).gradients
    assert relative_l2(actual, expected) > 1e-3


def test_without_levelling_the_update_of_a_chain_is_the_same(chain):
    expected = outcome(chain, torch.float64, Dynamics).gradients
    assert_same_bits(
        outcome(chain, torch.float64, lambda model: Dynamics(model, Schedule(levelled=False))).gradients, expected
    )


def test_il_is_the_dynamics_without_layer_dependence_and_without_levelling(problem):
    schedule = Schedule(steps=4, gamma=0.3, layer_dependent=False, levelled=False)
    expected = outcome(problem, torch.float64, lambda model: Dynamics(model, schedule)).gradients
    assert_same_bits(outcome(problem, torch.float64, il(4, 0.3)).gradients, expected)


def test_steps_called_levels_are_as_many_as_the_graph_has(chain):
    model, inputs, _ = chain.build(torch.float64)
    levels = {v.level for v in Graph.from_module(model, inputs).vertices if v.level is not None}
    expected = outcome(chain, torch.float64, il(len(levels), 0.1)).gradients
    assert_same_bits(outcome(chain, torch.float64, il("levels", 0.1)).gradients, expected)


def test_noise_is_the_same_for_every_dtype_and_another_one_each_time(chain):
    """Drawn in float64 whatever the model's type; and a generator goes on where it stopped."""
    schedule = Schedule(sigma=0.1)

    def noisy(dtype, updates):
        model, inputs, targets = chain.build(dtype)
        rule = Dynamics(model, schedule, torch.Generator().manual_seed(0))
        for _ in range(updates):
            model.zero_grad()
            torch.manual_seed(1)
            rule.backward(inputs, targets, chain.loss)
        return gradients_of(model)

    once = noisy(torch.float64, 1)
    assert relative_l2(noisy(torch.float32, 1), once) < 1e-3
    assert relative_l2(noisy(torch.float64, 2), once) > 1e-3
