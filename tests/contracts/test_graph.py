"""A model as a graph of vertices, made of one run; oracle: the documented contract.

Aimed at: a model that is no longer what the user made, draws that the next update misses, and a vertex that is none.
"""

import copy
import random

import numpy as np
import pytest
import torch
from problems import assert_same_bits
from torch import nn
from torch.nn.utils import parametrize

from pcbench import Graph
from pcbench.errors import InvalidParameters


def everything_about(model):
    """All that a user could notice: attributes, modes, in-place flags, hooks, the identity and bits of every tensor."""
    attributes = [
        (path, {name: repr(value) for name, value in vars(module).items()}, list(dir(module)))
        for path, module in model.named_modules()
    ]
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return attributes, {name: (id(t), t._version, t.requires_grad, t.grad) for name, t in tensors.items()}


def test_making_a_graph_changes_nothing_of_the_model_and_draws_nothing(problem):
    model, inputs, _ = problem.build(torch.float32)
    before, state, bits = everything_about(model), torch.get_rng_state(), copy.deepcopy(model.state_dict())
    for granularity in ("layer", "operation"):
        Graph.from_module(model, inputs, granularity=granularity).levelled()
    assert everything_about(model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_bits(model.state_dict(), bits)


class Counts(nn.Module):
    """Keeps what it has seen, counts, fills a cache, advances a buffer, and draws from three generators."""

    def __init__(self):
        super().__init__()
        self.hidden, self.readout = nn.Linear(3, 4), nn.Linear(4, 2)
        self.register_buffer("mean", torch.zeros(4))
        self.calls, self.cache, self.seen = 0, {}, [torch.ones(4)]

    def forward(self, x):
        self.calls += 1
        self.cache[self.calls] = random.random() + np.random.rand()
        hidden = torch.tanh(self.hidden(x)) + torch.randn(4)
        self.seen.append(hidden)
        self.mean += hidden.detach().mean(0)
        return self.readout(hidden * self.cache[self.calls])


def test_nothing_that_a_forward_leaves_behind_stays_in_the_users_model():
    model = Counts()
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    graph = Graph.from_module(model, torch.zeros(2, 3))
    assert len(graph.vertices) == 3
    assert model.calls == 0 and not model.cache and len(model.seen) == 1 and not model.mean.any()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all() and random.getstate() == states[2]


def test_a_graph_prints_each_vertex_with_its_level():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    lines = [line.split() for line in str(Graph.from_module(model, torch.zeros(2, 3))).splitlines()]
    assert lines == [
        ["level", "vertex", "parents", "parameters"],
        ["input_0"],
        ["1", "0", "input_0", "0.weight,", "0.bias"],
        ["0", "2", "0", "2.weight,", "2.bias"],
    ]


def test_by_operation_every_operation_is_a_vertex():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    graph = Graph.from_module(model, torch.zeros(2, 3), granularity="operation")
    assert [(v.name, v.level) for v in graph.vertices] == [("input_0", None), ("0", 2), ("tanh", 1), ("2", 0)]


def test_an_unknown_granularity_is_named_with_those_that_exist():
    with pytest.raises(InvalidParameters, match="granularity 'node' is none of layer, operation"):
        Graph.from_module(nn.Linear(2, 2), torch.zeros(1, 2), granularity="node")


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_fused_recurrent_network_is_one_vertex(kind):
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.readout = nn.ModuleList([kind(3, 4)]), nn.Linear(4, 2)

        def forward(self, x):
            return self.readout(self.layers[0](x)[0])

    graph = Graph.from_module(Encoder(), torch.zeros(5, 2, 3))
    assert [vertex.name for vertex in graph.vertices] == ["input_0", "layers.0", "readout"]


class Branch(nn.Module):
    """Which vertices there are depends on the values."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        x = self.first(x)
        return self.second(x) if x.sum() > 0 else x * x


def test_the_branch_taken_is_the_graph():
    model = Branch()
    nn.init.zeros_(model.first.weight)
    for bias, names in ((1.0, ["first", "second"]), (-1.0, ["first", "mul"])):
        nn.init.constant_(model.first.bias, bias)
        graph = Graph.from_module(model, torch.zeros(2, 3))
        assert [vertex.name for vertex in graph.vertices if vertex.level is not None] == names


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2


def test_what_depends_on_parameters_alone_belongs_to_the_vertices_that_read_it():
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    parametrize.register_parametrization(model[0], "weight", Halved())
    graph = Graph.from_module(model, torch.zeros(2, 5))
    assert [(v.name, v.level, list(v.parameters)) for v in graph.vertices[1:]] == [
        ("0", 1, ["0.parametrizations.weight.original", "0.bias"]),
        ("2", 0, ["2.weight", "2.bias"]),
    ]
