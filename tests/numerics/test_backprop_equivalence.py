"""Z-IL against backpropagation; oracle: autograd's own gradients, bit by bit, on every network of `problems`.

Aimed at: a contribution added in another order, a −0 for a +0, a BatchNorm statistic advanced twice, a dropout mask
drawn once more, gradients that overwrite or alias each other.
"""

import pytest
import torch
from problems import PROBLEMS, Problem, assert_same_bits, bits, gradients_of, outcome, relative_l2, vectors
from torch import nn

from pcbench import ZIL, Backprop, Dynamics, InferenceLearning, Schedule

# Every way to compute an update, IL and the ablations too: what holds of all of them is tested on all of them.
RULES = {
    "bp": Backprop,
    "zil": ZIL,
    "zil-state-operations": lambda model: Dynamics(model, granularity="operation"),
    "zil-state": Dynamics,
    "il": lambda model: InferenceLearning(model, steps=3),
    "sigma": lambda model: Dynamics(model, Schedule(sigma=0.1), torch.Generator().manual_seed(0)),
}
# With an initial error, BatchNorm sees other inputs, and the loss is another one.
FROM_FORWARD_PASS = [name for name in RULES if name != "sigma"]
rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
GRANULARITIES = pytest.mark.parametrize("granularity", ["layer", "operation"])


def without_gradient(outcome):
    return {name for name, gradient in outcome.gradients.items() if gradient is None}


def test_gradients_and_loss_of_zil_have_the_bits_of_backprop(problem, dtype):
    expected, actual = outcome(problem, dtype, Backprop), outcome(problem, dtype, ZIL)
    assert_same_bits(actual.gradients, expected.gradients)
    assert torch.equal(bits(actual.loss), bits(expected.loss))


@GRANULARITIES
def test_state_form_is_exact_up_to_rounding(problem, granularity):
    expected = outcome(problem, torch.float64, Backprop)
    actual = outcome(problem, torch.float64, lambda model: Dynamics(model, granularity=granularity))
    assert without_gradient(actual) == without_gradient(expected)
    assert relative_l2(actual.gradients, expected.gradients) < 1e-10
    assert torch.equal(bits(actual.loss), bits(expected.loss))


@pytest.mark.parametrize("rule", [RULES[name] for name in FROM_FORWARD_PASS], ids=FROM_FORWARD_PASS)
def test_buffers_and_random_state_afterwards_are_those_of_backprop(problem, dtype, rule):
    expected, actual = outcome(problem, dtype, Backprop), outcome(problem, dtype, rule)
    assert_same_bits(actual.buffers, expected.buffers)
    assert torch.equal(actual.random_state, expected.random_state)
    assert torch.equal(bits(actual.loss), bits(expected.loss))


@rules
def test_batchnorm_statistics_advance_exactly_once_for_each_update(rule):
    (problem,) = (p for p in PROBLEMS if p.name == "residual-batchnorm")
    model, inputs, targets = problem.build(torch.float64)
    rule = rule(model)
    for update in (1, 2, 3):
        rule.backward(inputs, targets, problem.loss)
        counters = [buffer for name, buffer in model.named_buffers() if name.endswith("num_batches_tracked")]
        assert [counter.item() for counter in counters] == [update, update]


@pytest.mark.parametrize("make_optimizer", [torch.optim.SGD, torch.optim.Adam], ids=["sgd", "adam"])
def test_gradients_accumulate_over_calls_and_steps_with_the_bits_of_backprop(problem, dtype, make_optimizer):
    """Two calls before each step, and no `zero_grad` between the steps."""
    models = []
    for make_rule in (Backprop, ZIL):
        model, inputs, targets = problem.build(dtype)
        rule = make_rule(model)
        optimizer = make_optimizer(model.parameters(), lr=0.05)
        torch.manual_seed(2)
        for _ in range(2):
            rule.backward(inputs, targets, problem.loss)
            rule.backward(inputs, targets, problem.loss)
            optimizer.step()
        models.append(model)
    expected, actual = models
    assert_same_bits(gradients_of(actual), gradients_of(expected))
    assert_same_bits(actual.state_dict(), expected.state_dict())


@rules
def test_accumulation_writes_into_the_tensor_that_is_there(rule):
    """Whoever holds ``param.grad`` (a flattened buffer, a hook) sees the sum, as under autograd."""
    problem = PROBLEMS[0]
    model, inputs, targets = problem.build(torch.float64)
    rule = rule(model)
    rule.backward(inputs, targets, problem.loss)
    held = [p.grad for p in model.parameters()]
    first = [g.clone() for g in held]
    rule.backward(inputs, targets, problem.loss)
    assert all(p.grad is g for p, g in zip(model.parameters(), held, strict=True))
    assert all(not torch.equal(g, f) for g, f in zip(held, first, strict=True))


@rules
def test_no_two_parameters_share_one_gradient_tensor(problem, rule):
    """`clip_grad_norm_` and optimizers write into gradients: shared memory would be scaled twice."""
    gradients = [g for g in outcome(problem, torch.float64, rule).gradients.values() if g is not None]
    assert len({g.untyped_storage().data_ptr() for g in gradients}) == len(gradients)


@rules
def test_a_gradient_can_be_written_to_where_the_loss_broadcasts(rule):
    """The gradient of a sum is one number seen at every place: as a gradient it must have places of its own."""

    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(2, 3))

        def forward(self, x):
            return x + self.shift

    model = Shift()
    for _ in range(2):
        rule(model).backward(torch.ones(2, 3), None, lambda outputs, _: outputs.sum())
    model.shift.grad[0, 0] = 7.0
    assert model.shift.grad.tolist() == [[7.0, 2.0, 2.0], [2.0, 2.0, 2.0]]


@rules
def test_what_the_user_later_does_to_a_gradient_leaves_the_rule_alone(rule):
    problem = PROBLEMS[0]
    model, inputs, targets = problem.build(torch.float64)
    rule = rule(model)
    rule.backward(inputs, targets, problem.loss)
    for p in model.parameters():
        p.grad.zero_()
    loss = rule.backward(inputs, targets, problem.loss)
    assert not loss.requires_grad and loss.dim() == 0
    assert all(not p.grad.requires_grad and p.grad.grad_fn is None for p in model.parameters())


@rules
def test_what_the_loss_cannot_see_gets_no_gradient_rather_than_zeros(rule):
    """An optimizer with momentum or weight decay moves a parameter whose gradient is 0, but not one without."""

    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.unseen = nn.LSTMCell(3, 4)
            self.seen = nn.Linear(4, 2)

        def forward(self, x):
            hidden, memory = self.unseen(x)
            return self.seen(hidden.detach()), self.seen(memory)

    problem = Problem("cut", Cut, vectors(3), lambda outputs, targets: nn.functional.cross_entropy(outputs[0], targets))
    assert without_gradient(outcome(problem, torch.float64, rule)) == {
        f"unseen.{kind}_{gate}" for kind in ("weight", "bias") for gate in ("ih", "hh")
    }


def test_a_view_that_is_older_than_a_write_is_read_as_by_autograd():
    """PyTorch 2.3 looks up such a view's history under a lock, and calls back: this once waited for ever."""

    class OlderView(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            h = torch.tanh(self.first(x))
            y = self.second(h)
            left, row = y[:, :2], y.view(-1)
            y.mul_(h)
            row[3:7] = h.reshape(-1)[:4]
            return torch.cat([left, y[:, 2:] * left], dim=1)

    problem = Problem("older view", OlderView, vectors(4), nn.functional.cross_entropy)
    expected, actual = (outcome(problem, torch.float64, rule).gradients for rule in (Backprop, ZIL))
    assert_same_bits(actual, expected)
