"""Z-IL on a user's own forward and loss; oracle: the documented contract, and what autograd does in the same place.

Aimed at: a refusal that names nobody, a hook that runs twice or on a part of the gradient, a rule that goes on with
what was true of the last update, and a torch that is another one after a forward has failed.
"""

import copy
import inspect
import re
import threading

import pytest
import torch
from problems import assert_same_bits, gradients_of
from torch import nn
from torch.nn import functional as F
from torch.overrides import _get_current_function_mode

from pcbench import ZIL, Backprop, Dynamics, PCBenchError
from pcbench.errors import UnsupportedModule


class Layer(nn.Module):
    """A module of the user's own, inside a model of the user's own."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)


def around(layer):
    """A model whose module ``inner`` is ``layer``."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(3, 3)
            self.inner = layer

        def forward(self, x):
            return self.inner(self.stem(x))

    return Model()


def line_of(function, text):
    """``file:line`` of the only line of ``function`` with ``text`` in it."""
    lines, first = inspect.getsourcelines(function)
    (found,) = (first + i for i, line in enumerate(lines) if text in line)
    return f"{__file__}:{found}"


class Backward(Layer):
    def forward(self, x):
        x = self.linear(x)
        x.square().sum().backward(retain_graph=True)
        return x


class BackwardByFunction(Layer):
    def forward(self, x):
        x = self.linear(x)
        torch.autograd.backward([x.square().sum()], retain_graph=True)
        return x


alias = torch.autograd.backward


class BackwardByAlias(Layer):
    def forward(self, x):
        x = self.linear(x)
        alias([x.square().sum()], retain_graph=True)
        return x


class GradientsOfEdges(Layer):
    """No tensor is among the arguments that modes look at."""

    def forward(self, x):
        y = self.linear(x)
        edges = [torch.autograd.graph.get_gradient_edge(value) for value in (y, x)]
        (gradient,) = torch.autograd.grad(edges[:1], edges[1:], [torch.ones_like(y)], create_graph=True)
        return y + gradient


class ManyGradientsAtOnce(Layer):
    def forward(self, x):
        x = self.linear(x)
        seeds = torch.ones(2, *x.shape)
        (gradient,) = torch.autograd.grad(x * x, x, seeds, is_grads_batched=True, create_graph=True)
        return x + gradient.sum(0)


@pytest.mark.parametrize(
    ("layer", "line", "words"),
    [
        (Backward, ".backward(", "calls backward() inside forward"),
        (BackwardByFunction, "autograd.backward(", "calls backward() inside forward"),
        (BackwardByAlias, "alias(", "calls backward() inside forward"),
        (GradientsOfEdges, "autograd.grad(", "asks for gradients of edges alone"),
        (ManyGradientsAtOnce, "autograd.grad(", "with is_grads_batched; use torch.func.vmap"),
    ],
)
@pytest.mark.parametrize("make_rule", [ZIL, Dynamics], ids=["zil", "zil-state"])
def test_what_is_refused_names_module_and_line_and_leaves_nothing_behind(make_rule, layer, line, words):
    model = around(layer())
    before = torch.overrides.has_torch_function, torch.autograd.Function.apply, torch.autograd.backward
    with pytest.raises(UnsupportedModule) as caught:
        make_rule(model).backward(torch.randn(2, 3), torch.tensor([0, 1]), F.cross_entropy)
    assert isinstance(caught.value, PCBenchError)
    message = str(caught.value)
    assert f"'inner' ({layer.__name__}), {line_of(layer, line)}," in message
    assert words in message or (make_rule is Dynamics and "calls torch.autograd.grad inside forward" in message)
    after = torch.overrides.has_torch_function, torch.autograd.Function.apply, torch.autograd.backward
    assert before == after and _get_current_function_mode() is None
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_is_refused_in_the_loss_is_the_models_and_names_the_losss_line():
    def loss_fn(outputs, targets):
        outputs.sum().backward()

    with pytest.raises(
        UnsupportedModule, match=rf"'the model' \(Linear\), {re.escape(line_of(loss_fn, '.backward'))},"
    ):
        ZIL(nn.Linear(3, 2)).backward(torch.randn(2, 3), None, loss_fn)


class Fails(Layer):
    def forward(self, x):
        raise ZeroDivisionError("of the user's own")


@pytest.mark.parametrize("make_rule", [ZIL, Dynamics], ids=["zil", "zil-state"])
def test_after_a_forward_that_failed_torch_is_as_it_was(make_rule):
    before = torch.overrides.has_torch_function, vars(torch.autograd.Function)["apply"], torch.autograd.backward
    with pytest.raises(ZeroDivisionError, match="of the user's own"):
        make_rule(around(Fails())).backward(torch.randn(2, 3), None, F.cross_entropy)
    after = torch.overrides.has_torch_function, vars(torch.autograd.Function)["apply"], torch.autograd.backward
    assert all(a is b for a, b in zip(before, after, strict=True)) and _get_current_function_mode() is None


class InAnotherThread(Layer):
    """The thread has numbered its operations from 0, although what they read was made long before."""

    def forward(self, x):
        for _ in range(20):
            x = torch.tanh(self.linear(x))
        results = []
        thread = threading.Thread(target=lambda: results.append(torch.sigmoid(x) + x.sin()))
        thread.start()
        thread.join()
        return results[0]


def test_operations_of_another_thread_are_exact_or_refused():
    model = around(InAnotherThread())
    batch = torch.randn(2, 3), torch.tensor([0, 1])
    reference = copy.deepcopy(model)
    Backprop(reference).backward(*batch, F.cross_entropy)
    try:
        ZIL(model).backward(*batch, F.cross_entropy)
    except UnsupportedModule as error:
        assert "part of the forward ran in another thread" in str(error)
    else:
        assert_same_bits(gradients_of(model), gradients_of(reference))


# Hooks: once, on the whole gradient, as under autograd.


class Hooked(nn.Module):
    """Every kind of hook that sees a gradient, on values that several operations read; some change what they see."""

    def __init__(self):
        super().__init__()
        self.stem, self.mid, self.readout = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.seen, self.kept = {}, []
        self.mid.register_full_backward_pre_hook(lambda module, outputs: self._see("module, before", outputs[0]))
        self.mid.register_full_backward_hook(lambda module, inputs, outputs: self._see("module", *inputs, *outputs))
        self.readout.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] * 3,))
        self.mid.weight.register_hook(lambda gradient: self._see("parameter", gradient))
        self.mid.bias.register_hook(lambda gradient: gradient * 2)
        self.mid.bias.register_hook(lambda gradient: gradient + 1)
        self.stem.weight.register_post_accumulate_grad_hook(lambda parameter: self._see("accumulated", parameter.grad))
        self.readout.bias.register_post_accumulate_grad_hook(lambda parameter: self._double(parameter))

    def _see(self, name, *gradients):
        self.seen.setdefault(name, []).extend(gradient.clone() for gradient in gradients)

    def _double(self, parameter):
        parameter.grad.mul_(2)

    def forward(self, x):
        h = torch.tanh(self.stem(x))
        h.register_hook(lambda gradient: self._see("value", gradient))
        h.register_hook(lambda gradient: gradient * 0.5)
        h.register_hook(lambda gradient: gradient + 0.1)
        h.register_hook(lambda gradient: gradient * 100).remove()
        h.retain_grad()
        y = self.mid(h) * h + h.sum(1, keepdim=True)
        y.retain_grad()
        y.grad_fn.register_hook(lambda inputs, outputs: self._see("node", *inputs, *outputs))
        y.grad_fn.register_prehook(lambda outputs: self._see("node, before", *outputs))
        z = torch.sigmoid(y)
        z.grad_fn.register_prehook(lambda outputs: (outputs[0] * 0.3,))
        z.grad_fn.register_hook(lambda inputs, outputs: (inputs[0] * 0.7,))
        a, b = z.chunk(2, dim=1)
        a.register_hook(lambda gradient: self._see("view", gradient))
        b.mul(2).register_hook(lambda gradient: self._see("nobody reads it", gradient))
        z = torch.cat([a * b, z[:, :2]], dim=1)
        self.kept = [h, y]
        return self.readout(z)

    def received(self):
        named = {f"{name} {i}": g for name in sorted(self.seen) for i, g in enumerate(self.seen[name])}
        return named | {f"kept {i}": value.grad for i, value in enumerate(self.kept)}


def test_hooks_run_once_on_the_whole_gradient():
    model = Hooked()
    # What modules own is called by the object that they were registered on: no copy, but one after the other.
    found = []
    for rule in (Backprop(model), ZIL(model)):
        for update in range(2):
            torch.manual_seed(update)
            model.zero_grad()
            model.seen = {}
            rule.backward(torch.randn(4, 5), torch.randint(3, (4,)), F.cross_entropy)
            found.append({**gradients_of(model), **model.received()})
            found[-1] = {name: gradient.clone() for name, gradient in found[-1].items()}
    kinds = ["accumulated", "module", "module, before", "node", "node, before", "parameter", "value", "view"]
    assert sorted(model.seen) == kinds
    assert_same_bits(found[2], found[0])
    assert_same_bits(found[3], found[1])


def test_a_hook_that_fails_is_the_users_own_error():
    class Model(nn.Linear):
        def forward(self, x):
            x = super().forward(x)
            x.register_hook(lambda gradient: 1 / 0)
            return x

    with pytest.raises(ZeroDivisionError):
        ZIL(Model(3, 2)).backward(torch.randn(2, 3), torch.tensor([0, 1]), F.cross_entropy)


# The user's objects.


@pytest.mark.parametrize("make_rule", [ZIL, Dynamics], ids=["zil", "zil-state"])
def test_an_update_adds_no_attribute_and_keeps_modes_and_in_place_flags(problem, make_rule):
    model, inputs, targets = problem.build(torch.float32)
    attributes = {path: sorted(vars(module)) for path, module in model.named_modules()}
    flags = {path: (m.training, getattr(m, "inplace", None)) for path, m in model.named_modules()}
    make_rule(model).backward(inputs, targets, problem.loss)
    assert {path: sorted(vars(module)) for path, module in model.named_modules()} == attributes
    assert {path: (m.training, getattr(m, "inplace", None)) for path, m in model.named_modules()} == flags


@pytest.mark.parametrize("make_rule", [ZIL, Dynamics], ids=["zil", "zil-state"])
def test_the_inputs_are_left_alone(problem, make_rule):
    model, inputs, targets = problem.build(torch.float32)
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    before = [(x.clone(), x._version, x.requires_grad, x.grad) for x in given]
    make_rule(model).backward(inputs, targets, problem.loss)
    for x, (value, version, requires_grad, grad) in zip(given, before, strict=True):
        assert torch.equal(x, value)
        assert (x._version, x.requires_grad, x.grad) == (version, requires_grad, grad)


# One rule, whatever has changed since its last update.


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
