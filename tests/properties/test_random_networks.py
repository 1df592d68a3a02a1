"""Z-IL on random networks; oracles: autograd bit by bit, and the state form.

Aimed at: whatever wiring the named problems do not have.
"""

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from networks import SMOOTH, Instruction, Network, chains, dags, data, programs, widths
from problems import assert_same_bits, gradients_of, relative_l2
from torch.nn import functional as F

from pcbench import ZIL, Backprop, Dynamics, Graph, InferenceLearning, Schedule

seeds = st.integers(0, 2**16)


def gradients(program, width, seed, make_rule, dtype=torch.float64):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Network(program, width).to(dtype)
        inputs, targets = data(width, dtype)
    make_rule(model).backward(inputs, targets, F.mse_loss)
    return gradients_of(model)


# The pass at which autograd's order of additions matters: three contributions to one value, from near and far.
FAN_OUT = (
    Instruction("layer", (0,), 0, "tanh"),
    Instruction("layer", (1,), 1, "tanh"),
    Instruction("multiply", (2, 1)),
    Instruction("concatenate", (1, 3), 0),
    Instruction("multiply", (1, 4)),
)


@given(program=programs, width=widths, seed=seeds, dtype=st.sampled_from([torch.float32, torch.float64]))
@example(program=FAN_OUT, width=4, seed=0, dtype=torch.float32)
def test_zil_has_the_bits_of_backprop(program, width, seed, dtype):
    actual = gradients(program, width, seed, ZIL, dtype)
    assert_same_bits(actual, gradients(program, width, seed, Backprop, dtype))


@given(program=programs, width=widths, seed=seeds)
@example(program=FAN_OUT, width=4, seed=0)
@pytest.mark.parametrize("granularity", ["layer", "operation"])
def test_the_state_form_equals_backprop_to_rounding(granularity, program, width, seed):
    expected = gradients(program, width, seed, Backprop)
    assume(any(g.any() for g in expected.values()))  # a dead ReLU: nothing to be relative to
    actual = gradients(program, width, seed, lambda model: Dynamics(model, granularity=granularity))
    assert relative_l2(actual, expected) < 1e-10


broken = st.one_of(
    st.just(lambda model: Dynamics(model, Schedule(layer_dependent=False))),
    st.floats(0.1, 0.9).map(lambda gamma: lambda model: Dynamics(model, Schedule(gamma=gamma))),
    st.floats(0.01, 1).map(
        lambda sigma: lambda model: Dynamics(model, Schedule(sigma=sigma), torch.Generator().manual_seed(0))
    ),
    st.integers(1, 10).map(lambda steps: lambda model: InferenceLearning(model, steps=steps)),
)


@given(program=chains(min_depth=2, activations=SMOOTH), width=widths, seed=seeds, rule=broken)
def test_a_chain_with_one_condition_broken_does_not_equal_backprop(program, width, seed, rule):
    """One layer alone has no hidden vertex, and every condition holds of itself; behind a ReLU the error may die."""
    expected = gradients(program, width, seed, Backprop)
    assert relative_l2(gradients(program, width, seed, rule), expected) > 1e-6


@given(program=dags(), width=widths, seed=seeds, gamma=st.floats(0.1, 0.9))
def test_a_random_network_with_gamma_below_one_does_not_equal_backprop(program, width, seed, gamma):
    """Unless its error ends before any parametrised vertex below the output: there γ has nothing to scale."""
    expected = gradients(program, width, seed, Backprop)
    graph = Graph.from_module(Network(program, width), torch.zeros(3, width))
    at_output = {name for v in graph.vertices if v.level == 0 for name in v.parameters}
    hidden = [g.norm() for name, g in expected.items() if name not in at_output]
    total = torch.stack([g.norm() for g in expected.values()]).norm()
    assume(hidden and torch.stack(hidden).norm() > 1e-3 * total)
    actual = gradients(program, width, seed, lambda model: Dynamics(model, Schedule(gamma=gamma)))
    assert relative_l2(actual, expected) > 1e-6


@given(program=dags(), width=widths, seed=seeds)
def test_two_updates_add_up_to_the_bits_of_backprop(program, width, seed):
    def twice(make_rule):
        class Twice:
            def __init__(self, model):
                self.rule = make_rule(model)

            def backward(self, *arguments):
                self.rule.backward(*arguments)
                self.rule.backward(*arguments)

        return gradients(program, width, seed, Twice)

    assert_same_bits(twice(ZIL), twice(Backprop))
