"""No autograd graph spans two vertices; oracle: a walk through every graph that a rule builds or differentiates.

Aimed at: a "predictive coding" that is backpropagation in disguise, so that comparing the two could not fail.
"""

import dataclasses

import pytest
import torch
from problems import PROBLEMS
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from pcbench import ZIL, Backprop, Dynamics, InferenceLearning, Schedule
from pcbench.rules import Rule, _inference
from pcbench.values import Values


def tensors(tree):
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def nodes_behind(roots, known=()):
    """The autograd nodes behind ``roots``, without those of ``known`` and what only they lead to."""
    found, pending = set(), [root.grad_fn for root in roots]
    while pending:
        node = pending.pop()
        if node is not None and node not in found and node not in known:
            found.add(node)
            pending.extend(following for following, _ in node.next_functions)
    return found


def reached_leaves(roots):
    """The ids of every leaf that the autograd graphs behind ``roots`` end at; a root that is a leaf counts itself."""
    found = {id(root) for root in roots if root.grad_fn is None and root.requires_grad}
    return found | {id(node.variable) for node in nodes_behind(roots) if hasattr(node, "variable")}


# Error form: the mode under Z-IL's own, which sees what each operation is really given.


class Watch(TorchFunctionMode):
    """Which operation made which autograd node, and what each operation that joins values was given."""

    def __init__(self):
        super().__init__()
        self.maker, self.joins, self.written = {}, {}, {}
        self.violations, self.joined = [], 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = {id(t): t for t in tensors((args, kwargs)) if t.requires_grad}
        before = {t.grad_fn for t in given.values()}
        destination = args[0].grad_fn if func.__name__.endswith("_") and isinstance(args[0], torch.Tensor) else None
        result = func(*args, **kwargs)
        changed = [t for t in given.values() if t.grad_fn not in before]
        made = nodes_behind(
            [t for t in (*tensors(result), *changed) if t.requires_grad], known=self.maker.keys() | before
        )
        made = {node for node in made if not hasattr(node, "variable")}
        self.maker.update(dict.fromkeys(made, len(self.joins)))
        self.joins[len(self.joins)] = len(given) > 1 and bool(made)
        self.written[len(self.written)] = destination
        return result

    def check(self):
        """Every operation that joins values must have read each of them through a leaf: from its nodes none leads on."""
        self.joined = sum(self.joins.values())
        for node, maker in self.maker.items():
            if not self.joins[maker]:
                continue  # it follows the one value that it reads, and belongs to the vertex that made that
            for following, _ in node.next_functions:
                if following is None or hasattr(following, "variable") or following is self.written[maker]:
                    continue
                if self.maker.get(following) != maker:
                    self.violations.append(f"{node.name()} leads on to {following.name()}")


def watched(problem, make_rule):
    model, inputs, targets = problem.build(torch.float64)
    watch = Watch()
    with watch:
        make_rule(model).backward(inputs, targets, problem.loss)
    watch.check()
    return watch


def test_whoever_joins_values_reads_each_of_them_through_a_leaf(problem):
    watch = watched(problem, ZIL)
    assert watch.joined > 0
    assert not watch.violations


class Uncut(Values):
    """Hands values out as they are."""

    def leaf(self, tensor, kept=()):
        return tensor


MLP = PROBLEMS[0]


def test_the_watch_sees_a_value_that_is_handed_out_uncut(problem, monkeypatch):
    monkeypatch.setattr("pcbench.rules.zil.Values", Uncut)
    if any(isinstance(layer, nn.Module) for layer in problem.model().children()):
        assert watched(problem, ZIL).violations


def test_the_watch_sees_backpropagation():
    assert watched(MLP, Backprop).violations


def test_each_product_is_that_of_one_elementary_function(problem, monkeypatch):
    """The engine, which would go on through a whole graph, is never started."""

    def started(*args, **kwargs):
        raise AssertionError("the engine was started")

    monkeypatch.setattr(torch.autograd, "grad", started)
    monkeypatch.setattr(torch.autograd, "backward", started)
    monkeypatch.setattr(torch.Tensor, "backward", started)
    watched(problem, ZIL)


# State form: every vertex, and every call of the engine, is watched, and really runs.


class LocalFunctions:
    """Records which leaves each local function was given, and what reaches further."""

    def __init__(self):
        self.allowed, self.violations, self.graphs = [], [], 0
        self._kept_alive = []  # an id stands for its tensor only as long as that lives

    def local(self, name, function, parameters=()):
        """Wrap a local function: its result may reach its own arguments and ``parameters``, nothing else."""

        def run(*arguments):
            given = tensors(arguments)
            self._kept_alive.append(given)
            self.violations += [f"{name} was given a value that is not detached" for x in given if not x.is_leaf]
            own = {id(x) for x in (*given, *parameters)}
            result = function(*arguments)
            self._kept_alive.append(result)
            self.check(f"the prediction of {name}", tensors(result), [own])
            self.allowed.append(own)
            return result

        return run

    def check(self, what, roots, allowed):
        self.graphs += 1
        reached = reached_leaves(roots)
        if not any(reached <= own for own in allowed):
            self.violations.append(f"{what} reaches {len(reached)} leaves of more than one vertex")


@pytest.fixture
def functions(monkeypatch):
    functions = LocalFunctions()
    grad = torch.autograd.grad

    class WatchedRun(_inference.Run):
        def __init__(self, *args):
            super().__init__(*args)
            vertices = (
                v if v.predict is None else dataclasses.replace(v, predict=self.watched(v)) for v in self.graph.vertices
            )
            self.graph = dataclasses.replace(self.graph, vertices=tuple(vertices))

        def watched(self, vertex):
            return functions.local(vertex.name, vertex.predict, vertex.parameters.values())

        def loss(self, outputs):
            return functions.local("the loss", super().loss)(outputs)

    def watched_grad(outputs, inputs, *args, **kwargs):
        roots = tensors(outputs)
        # A root that is a leaf is its own graph: the error that has arrived there, or an identity vertex.
        trivial = [{id(root)} for root in roots if root.is_leaf]
        computed = [root for root in roots if not root.is_leaf]
        functions.check("torch.autograd.grad", computed or roots, functions.allowed + trivial)
        return grad(outputs, inputs, *args, **kwargs)

    def watched_backward(backward):
        def run(*args, **kwargs):
            functions.violations.append(f"{backward.__qualname__} was called")
            return backward(*args, **kwargs)

        return run

    monkeypatch.setattr(_inference, "Run", WatchedRun)
    monkeypatch.setattr(torch.autograd, "grad", watched_grad)
    monkeypatch.setattr(torch.autograd, "backward", watched_backward(torch.autograd.backward))
    monkeypatch.setattr(torch.Tensor, "backward", watched_backward(torch.Tensor.backward))
    return functions


def run(problem, make_rule):
    model, inputs, targets = problem.build(torch.float64)
    make_rule(model).backward(inputs, targets, problem.loss)


STATE_FORM = {
    "zil-state": Dynamics,
    "zil-state-not-levelled": lambda model: Dynamics(model, Schedule(levelled=False)),
    "sigma": lambda model: Dynamics(model, Schedule(sigma=0.1), torch.Generator().manual_seed(0)),
    "il": lambda model: InferenceLearning(model, steps=3),
}


@pytest.mark.parametrize("make_rule", STATE_FORM.values(), ids=STATE_FORM)
def test_no_autograd_graph_spans_two_vertices(functions, problem, make_rule):
    run(problem, make_rule)
    assert functions.graphs > 0
    assert not functions.violations


class ThroughTheWholeModel(Rule):
    """Backpropagation that claims to be predictive coding in state form."""

    def gradients(self, inputs, targets, loss_fn):
        recorded, loss = Dynamics(self.model)._run(self._arguments(inputs), targets, loss_fn)
        values = []
        for vertex in recorded.graph.vertices:
            values.append(() if vertex.predict is None else vertex.predict(*(values[p] for p in vertex.parents)))
        self.differentiate(recorded.loss([values[i] for i in recorded.graph.outputs]))
        return loss, {}

    def differentiate(self, loss):
        loss.backward()


class ByAutogradGrad(ThroughTheWholeModel):
    def differentiate(self, loss):
        torch.autograd.grad(loss, list(self.model.parameters()), allow_unused=True)


def test_the_watch_sees_a_state_form_that_calls_backward_on_the_whole_model(functions):
    run(MLP, ThroughTheWholeModel)
    assert "Tensor.backward was called" in functions.violations
    assert any("not detached" in violation for violation in functions.violations)


def test_the_watch_sees_a_state_form_that_differentiates_the_whole_model_otherwise(functions):
    run(MLP, ByAutogradGrad)
    assert any("the prediction of" in violation for violation in functions.violations)
    assert any("torch.autograd.grad reaches" in violation for violation in functions.violations)
