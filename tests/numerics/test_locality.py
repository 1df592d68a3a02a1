"""No autograd graph spans two vertices; oracle: a walk through every graph that a rule builds or differentiates.

Aimed at: a "predictive coding" that is backpropagation in disguise, so that comparing the two could not fail.
"""

import dataclasses

import pytest
import torch
from problems import PROBLEMS
from torch.utils import _pytree as pytree

from pcbench import ZIL, Backprop, Dynamics, Graph, InferenceLearning, Schedule
from pcbench.rules import Rule


def tensors(tree):
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def reached_leaves(roots):
    """The ids of every leaf that the autograd graphs behind ``roots`` end at; a root that is a leaf counts itself."""
    found = {id(root) for root in roots if root.grad_fn is None and root.requires_grad}
    pending, seen = [root.grad_fn for root in roots], set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        pending.extend(following for following, _ in node.next_functions)
    return found


class Watch:
    """Records which leaves each local function was given, and what reaches further."""

    def __init__(self):
        self.allowed, self.violations, self.graphs = [], [], 0
        self._kept_alive = []  # an id stands for its tensor only as long as that lives

    def local(self, name, function, parameters=()):
        """Wrap a local function: its result may reach its own arguments and ``parameters``, nothing else."""

        def watched(*arguments):
            given = tensors(arguments)
            self._kept_alive.append(given)
            self.violations += [f"{name} was given a value that is not detached" for x in given if not x.is_leaf]
            own = {id(x) for x in (*given, *parameters)}
            result = function(*arguments)
            self._kept_alive.append(result)
            self.check(f"the prediction of {name}", tensors(result), [own])
            self.allowed.append(own)
            return result

        return watched

    def check(self, what, roots, allowed):
        self.graphs += 1
        reached = reached_leaves(roots)
        if not any(reached <= own for own in allowed):
            self.violations.append(f"{what} reaches {len(reached)} leaves of more than one vertex")


@pytest.fixture
def watch(monkeypatch):
    """Every vertex, every call of `torch.autograd.grad` and of `backward` is watched, and really runs."""
    watch = Watch()
    from_module, grad = Graph.from_module, torch.autograd.grad

    def watched_graph(model, *args, **kwargs):
        graph = from_module(model, *args, **kwargs)
        vertices = (
            v
            if v.predict is None
            else dataclasses.replace(v, predict=watch.local(v.name, v.predict, v.parameters.values()))
            for v in graph.vertices
        )
        return dataclasses.replace(graph, vertices=tuple(vertices))

    def watched_grad(outputs, inputs, *args, **kwargs):
        roots = tensors(outputs)
        # A root that is a leaf is its own graph: the error that has arrived there, or an identity vertex.
        trivial = [{id(root)} for root in roots if root.is_leaf]
        computed = [root for root in roots if not root.is_leaf]
        watch.check("torch.autograd.grad", computed or roots, watch.allowed + trivial)
        return grad(outputs, inputs, *args, **kwargs)

    def watched_backward(backward):
        def run(*args, **kwargs):
            watch.violations.append(f"{backward.__qualname__} was called")
            return backward(*args, **kwargs)

        return run

    monkeypatch.setattr(Graph, "from_module", watched_graph)
    monkeypatch.setattr(torch.autograd, "grad", watched_grad)
    monkeypatch.setattr(torch.autograd, "backward", watched_backward(torch.autograd.backward))
    monkeypatch.setattr(torch.Tensor, "backward", watched_backward(torch.Tensor.backward))
    return watch


def run(watch, problem, make_rule):
    model, inputs, targets = problem.build(torch.float64)

    def loss(outputs, targets):
        return watch.local("the loss", lambda *leaves: problem.loss(outputs, targets))(*tensors(outputs))

    make_rule(model).backward(inputs, targets, loss)
    assert watch.graphs > 0


LOCAL = {
    "zil": ZIL,
    "zil-state": Dynamics,
    "zil-state-not-levelled": lambda model: Dynamics(model, Schedule(levelled=False)),
    "sigma": lambda model: Dynamics(model, Schedule(sigma=0.1), torch.Generator().manual_seed(0)),
    "il": lambda model: InferenceLearning(model, steps=3),
}


@pytest.mark.parametrize("make_rule", LOCAL.values(), ids=LOCAL)
def test_no_autograd_graph_spans_two_vertices(watch, problem, make_rule):
    run(watch, problem, make_rule)
    assert not watch.violations


class ThroughTheWholeModel(Rule):
    """Backpropagation that claims to be Z-IL."""

    def backward(self, inputs, targets, loss_fn):
        graph = Graph.from_module(self.model, inputs)
        values = list(inputs if isinstance(inputs, tuple) else (inputs,))
        for vertex in graph.vertices[graph.inputs :]:
            values.append(vertex.predict(*(values[p] for p in vertex.parents)))
        loss = loss_fn(graph.assemble([values[i] for i in graph.outputs]), targets)
        self.differentiate(loss)
        return loss.detach()

    def differentiate(self, loss):
        loss.backward()


class ByAutogradGrad(ThroughTheWholeModel):
    def differentiate(self, loss):
        parameters = list(self.model.parameters())
        torch.autograd.grad(loss, parameters, allow_unused=True)


MLP = PROBLEMS[0]


def test_the_watch_sees_a_zil_that_calls_backward_on_the_whole_model(watch):
    run(watch, MLP, ThroughTheWholeModel)
    assert "Tensor.backward was called" in watch.violations
    assert any("not detached" in violation for violation in watch.violations)


def test_the_watch_sees_a_zil_that_differentiates_the_whole_model_otherwise(watch):
    run(watch, MLP, ByAutogradGrad)
    assert any("the prediction of" in violation for violation in watch.violations)
    assert any("torch.autograd.grad reaches" in violation for violation in watch.violations)


def test_the_watch_sees_backpropagation(watch):
    run(watch, MLP, Backprop)
    assert "Tensor.backward was called" in watch.violations
