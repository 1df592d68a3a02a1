"""Mixed precision; oracle: autograd under the same `torch.autocast`, bit by bit.

Aimed at: a vertex that is evaluated outside autocast, or a cast that two vertices share and that sums for them.
"""

import pytest
import torch
from problems import PROBLEMS, assert_same_bits, relative_l2
from torch import nn

import pcbench
from pcbench.measure.divergence import weight_update


def under_autocast(rule, *, cache):
    def make(model):
        made = rule(model)
        plain = made.backward

        def backward(*batch):
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=cache):
                return plain(*batch)

        made.backward = backward
        return made

    return make


def updates(problem, *, cache):
    model, *batch = problem.build(torch.float32)
    rules = (under_autocast(rule, cache=cache) for rule in (pcbench.ZIL, pcbench.Backprop))
    return [weight_update(model, rule, *batch, problem.loss).gradients for rule in rules]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_without_the_cache_of_casts_every_network_has_the_bits_of_backprop(problem):
    assert_same_bits(*updates(problem, cache=False))


@pytest.mark.parametrize("name", ["mlp", "convolutions", "residual-batchnorm", "branches"])
def test_with_the_cache_too_where_every_parameter_belongs_to_one_vertex(name):
    (problem,) = (problem for problem in PROBLEMS if problem.name == name)
    assert_same_bits(*updates(problem, cache=True))


def test_with_the_cache_a_shared_parameter_differs_by_the_rounding_of_bfloat16():
    """Autograd adds the contributions in bfloat16, where the cached cast is read; local rules in the parameter's dtype."""
    (problem,) = (problem for problem in PROBLEMS if problem.name == "shared-cell")
    actual, expected = updates(problem, cache=True)
    assert 0 < relative_l2(actual, expected) < torch.finfo(torch.bfloat16).eps


def test_autocast_is_really_on():
    model = nn.Linear(3, 2)
    batch = (torch.randn(4, 3), None, lambda outputs, _: outputs.float().square().sum())
    seen = []
    model.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    under_autocast(pcbench.Backprop, cache=True)(model).backward(*batch)
    assert seen == [torch.bfloat16]
