"""Tracing leaves the user's model alone and is repeated when it must be; oracle: the documented contract.

Aimed at: a rule that goes on with the graph of another shape, mode or set of parameters, and a model that is no longer
what the user made.
"""

import copy

import pytest
import torch
from problems import assert_same_bits, gradients_of, relative_l2
from torch import nn
from torch.nn import functional as F

from pcbench import ZIL, Backprop, Dynamics, Graph, UnsupportedModule


def everything_about(model):
    """All that a user could notice: attributes, modes, in-place flags, hooks, the identity and bits of every tensor."""
    attributes = [
        (path, {name: repr(value) for name, value in vars(module).items()}, list(dir(module)))
        for path, module in model.named_modules()
    ]
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return attributes, {name: (id(t), t._version, t.requires_grad, t.grad) for name, t in tensors.items()}


def test_tracing_changes_nothing_of_the_model_and_draws_nothing(problem):
    model, inputs, _ = problem.build(torch.float32)
    before, state, bits = everything_about(model), torch.get_rng_state(), copy.deepcopy(model.state_dict())
    for granularity in ("layer", "operation"):
        Graph.from_module(model, inputs, granularity=granularity).levelled()
    assert everything_about(model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_bits(model.state_dict(), bits)


@pytest.mark.parametrize("make_rule", [ZIL, Dynamics], ids=["zil", "zil-state"])
def test_an_update_adds_no_attribute_and_keeps_modes_and_in_place_flags(problem, make_rule):
    model, inputs, targets = problem.build(torch.float32)
    attributes = {path: sorted(vars(module)) for path, module in model.named_modules()}
    flags = {path: (m.training, getattr(m, "inplace", None)) for path, m in model.named_modules()}
    make_rule(model).backward(inputs, targets, problem.loss)
    assert {path: sorted(vars(module)) for path, module in model.named_modules()} == attributes
    assert {path: (m.training, getattr(m, "inplace", None)) for path, m in model.named_modules()} == flags


def test_the_inputs_are_left_alone(problem):
    model, inputs, targets = problem.build(torch.float32)
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    before = [(x.clone(), x._version, x.requires_grad, x.grad) for x in given]
    ZIL(model).backward(inputs, targets, problem.loss)
    for x, (value, version, requires_grad, grad) in zip(given, before, strict=True):
        assert torch.equal(x, value)
        assert (x._version, x.requires_grad, x.grad) == (version, requires_grad, grad)


class Remembers(nn.Module):
    """Keeps its last activations for whoever wants to look at them."""

    def __init__(self):
        super().__init__()
        self.hidden, self.readout = nn.Linear(3, 4), nn.Linear(4, 2)
        self.seen = None

    def forward(self, x):
        self.seen = torch.tanh(self.hidden(x))
        self.also_seen = self.seen * 2
        return self.readout(self.seen)


def test_no_traced_value_stays_behind_in_an_attribute():
    model = Remembers()
    Graph.from_module(model, torch.zeros(2, 3))
    assert model.seen is None
    assert not hasattr(model, "also_seen")


def test_an_attribute_that_carries_state_from_call_to_call_is_refused():
    model = Remembers()
    model.seen = torch.zeros(2, 4)
    with pytest.raises(UnsupportedModule, match=r"'seen' .*is written by a forward that is traced into"):
        Graph.from_module(model, torch.zeros(2, 3))
    assert torch.equal(model.seen, torch.zeros(2, 4))


class Caches(nn.Module):
    """Builds what it needs when it first needs it, and a list of what it saw anew in every call."""

    def __init__(self):
        super().__init__()
        self.hidden, self.readout = nn.Linear(3, 4), nn.Linear(4, 2)
        self.scales, self.seen = {}, None

    def forward(self, x):
        if len(x) not in self.scales:
            self.scales[len(x)] = torch.linspace(0.5, 1, len(x))[:, None]
        self.seen = [torch.tanh(self.hidden(x))]
        return self.readout(self.seen[0] * self.scales[len(x)])


def test_what_a_model_builds_once_is_no_state():
    model = Caches()
    rule = ZIL(model)
    for size in (4, 3, 4, 4):
        batch = torch.randn(size, 3), torch.randint(0, 2, (size,))
        model.seen = None
        rule.graph((batch[0],))
        assert model.seen is None
        assert_update_equals_backprop(model, rule, *batch)


class CountingLeaf(nn.Module):
    """Keeps numbers and a list, which its vertex advances as its forward does."""

    def __init__(self):
        super().__init__()
        self.linear, self.factors = nn.Linear(3, 3), [1.0]

    def forward(self, x):
        self.factors.append(self.factors[-1] / 2)
        return self.linear(x) * self.factors[-1]


def test_asking_a_leaf_for_its_shape_does_not_advance_it():
    model = nn.Sequential(CountingLeaf(), nn.Linear(3, 2))
    rule = ZIL(model, leaves=(CountingLeaf,))
    for update in (1, 2):
        assert_update_equals_backprop(model, rule, torch.randn(4, 3), torch.randint(0, 2, (4,)))
        assert model[0].factors == [0.5**i for i in range(update + 1)]


def assert_update_equals_backprop(model, rule, inputs, targets):
    """One update of ``rule``, made for ``model`` before, against a fresh `Backprop` on a copy of it."""
    reference = copy.deepcopy(model)
    for m in (model, reference):
        m.zero_grad()
    with torch.random.fork_rng(devices=[]):
        Backprop(reference).backward(inputs, targets, F.cross_entropy)
    with torch.random.fork_rng(devices=[]):
        rule.backward(inputs, targets, F.cross_entropy)
    assert_same_bits(gradients_of(model), gradients_of(reference))
    assert_same_bits(model.state_dict(), reference.state_dict())


class Sequences(nn.Module):
    """As many vertices as time steps; dropout and BatchNorm in between."""

    def __init__(self):
        super().__init__()
        self.cell = nn.RNNCell(3, 4)
        self.norm, self.dropout = nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.readout = nn.Linear(4, 2)

    def forward(self, x):
        state = x.new_zeros(x.shape[0], 4)
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return self.readout(self.dropout(self.norm(state)))


def batch(size, length, dtype=torch.float32):
    return torch.randn(size, length, 3, dtype=dtype), torch.randint(0, 2, (size,))


def test_one_rule_serves_batches_of_any_shape_mode_and_dtype():
    model = Sequences()
    rule = ZIL(model)
    for size, length in ((4, 5), (3, 5), (4, 2), (4, 5)):
        assert_update_equals_backprop(model, rule, *batch(size, length))
    model.eval()
    assert_update_equals_backprop(model, rule, *batch(4, 5))
    model.train()
    model.norm.eval()
    assert_update_equals_backprop(model, rule, *batch(4, 5))
    model.double()
    assert_update_equals_backprop(model, rule, *batch(4, 5, torch.float64))


def test_batchnorm_that_averages_over_all_batches_counts_them():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=None), nn.Tanh(), nn.Linear(4, 2))
    rule = ZIL(model)
    for update in (1, 2, 3):
        assert_update_equals_backprop(model, rule, torch.randn(4, 3), torch.randint(0, 2, (4,)))
        assert model[1].num_batches_tracked == update and model[1].momentum is None


class Tokens(nn.Module):
    """Makes a tensor of the type that its embedding has at the time."""

    def __init__(self):
        super().__init__()
        self.embedding, self.readout = nn.Embedding(5, 4), nn.Linear(4, 2)

    def forward(self, tokens):
        x = self.embedding(tokens)
        return self.readout(torch.ones(4, dtype=x.dtype) / 3 + x)


def test_the_models_own_dtype_counts_where_the_inputs_are_integers():
    model, tokens, targets = Tokens(), torch.tensor([0, 3, 3]), torch.tensor([0, 1, 1])
    rule = ZIL(model)
    assert_update_equals_backprop(model, rule, tokens, targets)
    model.double()
    assert_update_equals_backprop(model, rule, tokens, targets)


def test_the_graph_is_traced_once_for_each_signature():
    model = Sequences()
    rule = ZIL(model)
    first = rule.graph((batch(4, 5)[0],))
    assert rule.graph((batch(4, 5)[0],)) is first
    others = [rule.graph((batch(3, 5)[0],)), rule.graph((batch(4, 2)[0],)), rule.graph((batch(4, 5)[0].double(),))]
    model.eval()
    others.append(rule.graph((batch(4, 5)[0],)))
    assert len({id(graph) for graph in (first, *others)}) == 5


def test_parameters_may_be_frozen_and_thawed_between_updates():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    rule, (inputs, targets) = ZIL(model), (torch.randn(4, 3), torch.randint(0, 2, (4,)))
    for frozen in ([], [model[0]], [model[0], model[2]], [model[2]], []):
        for module in model:
            module.requires_grad_(module not in frozen)
        assert_update_equals_backprop(model, rule, inputs, targets)


def test_parameters_and_modules_may_be_replaced_between_updates():
    """As `load_state_dict(assign=True)` does, and whoever puts a new head on a trained network."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    rule, (inputs, targets) = ZIL(model), (torch.randn(4, 3), torch.randint(0, 2, (4,)))
    assert_update_equals_backprop(model, rule, inputs, targets)
    model.load_state_dict({name: torch.randn_like(value) for name, value in model.state_dict().items()}, assign=True)
    assert_update_equals_backprop(model, rule, inputs, targets)
    model[2].weight = nn.Parameter(torch.randn(4, 4))
    assert_update_equals_backprop(model, rule, inputs, targets)
    model[4] = nn.Linear(4, 3)
    assert_update_equals_backprop(model, rule, inputs, targets)


class Clipped(torch.autograd.Function):
    """The identity, with a backward that is not the derivative of its forward."""

    @staticmethod
    def forward(ctx, x, limit):
        ctx.limit = limit
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.clamp(-ctx.limit, ctx.limit), None


class UsesClipped(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.readout = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.readout(Clipped.apply(torch.tanh(self.hidden(x)), 0.01))


def test_a_custom_autograd_function_keeps_its_own_backward():
    model = UsesClipped().double()
    inputs, targets = torch.randn(4, 3, dtype=torch.float64), torch.randint(0, 2, (4,))
    for make_rule in (ZIL, lambda model: ZIL(model, granularity="operation")):
        assert_update_equals_backprop(model, make_rule(model), inputs, targets)
    expected = {name: g.clone() for name, g in gradients_of(model).items()}
    model.zero_grad()
    Dynamics(model).backward(inputs, targets, F.cross_entropy)
    assert relative_l2(gradients_of(model), expected) < 1e-10


def test_a_graph_prints_each_vertex_with_its_level():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    lines = [line.split() for line in str(Graph.from_module(model, torch.zeros(2, 3))).splitlines()]
    assert lines == [
        ["level", "vertex", "parents", "parameters"],
        ["input_0"],
        ["1", "0", "input_0", "0.weight,", "0.bias"],
        ["0", "2", "0", "2.weight,", "2.bias"],
    ]
