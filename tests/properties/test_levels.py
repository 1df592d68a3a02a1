"""Levels and levelling; oracles: every path to an output, followed one by one, and the model itself.

Aimed at: a level off by one, a shortest path for a longest, an identity vertex too few, a levelled graph that computes
something else.
"""

import itertools

import pytest
import torch
from hypothesis import given
from networks import Network, chains, programs, widths
from torch.utils import _pytree as pytree

from pcbench import Graph


def every_path_length(graph):
    """For each vertex the lengths of all its paths to outputs, clamped ends left out: brute force."""
    children = [[j for j, v in enumerate(graph.vertices) if i in v.parents] for i in range(len(graph.vertices))]

    def lengths(i):
        if graph.vertices[i].clamped:
            return []
        here = [0] if i in graph.outputs else []
        return here + [1 + length for j in set(children[i]) for length in lengths(j)]

    return [lengths(i) for i in range(len(graph.vertices))]


def assert_levels_are_longest_paths(graph):
    for vertex, lengths in zip(graph.vertices, every_path_length(graph), strict=True):
        assert vertex.level == max(lengths, default=None), vertex


def assert_levelled(graph):
    for vertex in graph.vertices:
        for parent in (graph.vertices[p] for p in vertex.parents):
            if vertex.level is not None and not parent.clamped:
                assert parent.level == vertex.level + 1, f"{parent} -> {vertex}"
    assert {graph.vertices[i].level for i in graph.outputs} == {0}


def run(graph):
    values = [()] * graph.inputs
    for vertex in graph.vertices[graph.inputs :]:
        values.append(vertex.predict(*(values[p] for p in vertex.parents)))
    return [tensor for i in graph.outputs for tensor in values[i]]


@pytest.fixture(params=["layer", "operation"])
def graph_of(request):
    return lambda model, inputs: Graph.from_module(model, inputs, granularity=request.param)


def test_levels_of_every_problem_are_longest_paths(problem, graph_of):
    model, inputs, _ = problem.build(torch.float32)
    graph = graph_of(model, inputs)
    assert_levels_are_longest_paths(graph)
    assert_levelled(graph.levelled())
    assert_levels_are_longest_paths(graph.levelled())


def test_the_graph_computes_what_the_model_computes(problem, graph_of):
    model, inputs, _ = problem.build(torch.float64)
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    torch.manual_seed(3)
    graph = graph_of(model, inputs)
    expected = pytree.tree_leaves(model(*inputs))
    for same in (graph, graph.levelled()):
        torch.manual_seed(4)  # what was drawn once is drawn again as it was
        assert all(torch.equal(a, b) for a, b in zip(run(same), expected, strict=True))


@given(program=programs, width=widths)
@pytest.mark.parametrize("granularity", ["layer", "operation"])
def test_levels_of_random_networks_are_longest_paths(granularity, program, width):
    graph = Graph.from_module(Network(program, width), torch.zeros(2, width), granularity=granularity)
    assert_levels_are_longest_paths(graph)
    assert_levelled(graph.levelled())
    assert graph.depth == graph.levelled().depth == max(v.level for v in graph.vertices if v.level is not None)


@given(program=programs, width=widths)
def test_levelling_adds_identities_only_and_no_more_than_the_skips_need(program, width):
    """One chain of them for each value, as long as its longest skip: readers at several levels share it."""
    graph = Graph.from_module(Network(program, width), torch.zeros(2, width))
    needed = 0
    for i, vertex in enumerate(graph.vertices):
        readers = [v.level for v in graph.vertices if i in v.parents and v.level is not None]
        if vertex.level is not None and readers:
            needed += vertex.level - 1 - min(readers)
    levelled = graph.levelled()
    assert len(levelled.vertices) == len(graph.vertices) + needed
    assert [v.name for v in levelled.vertices if "@" not in v.name] == [v.name for v in graph.vertices]
    assert all(not v.parameters for v in levelled.vertices if "@" in v.name)


@given(program=chains(), width=widths)
def test_in_a_chain_a_layer_and_its_activation_are_one_vertex_and_the_level_counts_layers(program, width):
    graph = Graph.from_module(Network(program, width), torch.zeros(2, width))
    assert [v.level for v in graph.vertices if not v.clamped] == list(reversed(range(len(program))))
    for i, vertex in enumerate(graph.vertices[graph.inputs :]):
        assert set(vertex.parameters) == {f"layers.layer{i}.weight", f"layers.layer{i}.bias"}


@given(program=programs, width=widths)
def test_parents_come_before_children_and_every_parameter_has_its_vertex(program, width):
    model = Network(program, width)
    for graph in (g := Graph.from_module(model, torch.zeros(2, width)), g.levelled()):
        assert all(p < i for i, v in enumerate(graph.vertices) for p in v.parents)
        owned = set(itertools.chain.from_iterable(v.parameters for v in graph.vertices))
        assert owned == {name for name, _ in model.named_parameters()}
