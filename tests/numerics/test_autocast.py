"""Mixed precision; oracle: autograd under the same `torch.autocast`, bit by bit.

Aimed at: a vertex that is evaluated outside autocast; a cast of a parameter that vertices share, or one of a value that they
do not.
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


@pytest.mark.parametrize("cache", [True, False], ids=["cached", "not-cached"])
def test_every_network_has_the_bits_of_backprop(problem, cache):
    assert_same_bits(*updates(problem, cache=cache))


def test_a_cached_cast_adds_up_what_a_shared_parameter_gets():
    """In bfloat16, where the cast is read: with and without the cache the gradients are others, for both rules."""
    (problem,) = (problem for problem in PROBLEMS if problem.name == "shared-cell")
    cached, plain = (updates(problem, cache=cache)[0] for cache in (True, False))
    assert 0 < relative_l2(cached, plain) < torch.finfo(torch.bfloat16).eps


def test_autocast_is_really_on():
    model = nn.Linear(3, 2)
    batch = (torch.randn(4, 3), None, lambda outputs, _: outputs.float().square().sum())
    seen = []
    model.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    under_autocast(pcbench.Backprop, cache=True)(model).backward(*batch)
    assert seen == [torch.bfloat16]
