"""What a forward did, repeated at other values or refused; oracle: the documented messages, autograd on the same network.

Aimed at: an operation that is repeated with constants, masks or casts that are no longer those of the forward, and a
value, a write or a hook that is left out without a word.
"""

import inspect

import pytest
import torch
from problems import gradients_of, relative_l2
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from pcbench import Backprop, Dynamics, Graph, InferenceLearning
from pcbench.errors import UnsupportedModule


class Model(nn.Module):
    """5 → 4, then ``inner``, a module with a function of its own, then 4 → 3."""

    def __init__(self, function):
        super().__init__()
        self.stem, self.inner, self.readout = nn.Linear(5, 4), Inner(function), nn.Linear(4, 3)

    def forward(self, x):
        return self.readout(self.inner(torch.tanh(self.stem(x))))


class Inner(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(4, 4), function

    def forward(self, h):
        return self.function(self.linear, h)


def update(make_rule, function):
    torch.manual_seed(0)
    model = Model(function).double()
    make_rule(model).backward(torch.randn(6, 5).double(), torch.randint(3, (6,)), F.cross_entropy)
    return gradients_of(model)


# Refused, by name, module and line.


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2


class Viewed(Doubled):
    """Its result is a view of its argument; its derivative is not that of a view."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)


class Fills(torch.autograd.Function):
    """Writes into its first argument, which needs no gradient before."""

    @staticmethod
    def forward(ctx, out, x):
        ctx.mark_dirty(out)
        return out.copy_(x)

    @staticmethod
    def backward(ctx, gradient):
        return None, gradient


doubled, viewed = Doubled.apply, Viewed.apply


def alias(linear, h):
    y = doubled(linear(h))
    return y + h  # here


def alias_that_returns_a_view(linear, h):
    y = viewed(linear(h))
    return y + h  # here


def mapped(linear, h):
    y = torch.func.vmap(lambda row: torch.tanh(linear(row)))(h)
    return y + h  # here


def scripted(linear, h):
    y = SCRIPT(linear(h), 2.0)
    return y + h  # here


def compiled(linear, h):
    y = COMPILED(linear(h))
    return y + h  # here


SCRIPT = None
COMPILED = torch.compile(lambda x: torch.sin(x) * x, backend="eager")


def _scale(x, factor: float):
    return torch.tanh(x * factor)


def written_without_grad(linear, h):
    y = linear(h)
    with torch.no_grad():
        y.clamp_(-0.1, 0.1)  # here
    return y * h


def a_view_written_without_grad(linear, h):
    y = linear(h)
    with torch.no_grad():
        first = y.unbind(0)[0]
        first.mul_(0.5)  # here
    return y * h


def gradient_inside(linear, h):
    y = linear(h)
    (gradient,) = torch.autograd.grad(y.square().sum(), h, create_graph=True)  # here
    return y + gradient


def fresh_memory_filled_by_a_function(linear, h):
    out = torch.zeros_like(h)
    return Fills.apply(out, linear(h)) + out  # here


def hooked(linear, h):
    y = linear(h)
    y.register_hook(lambda gradient: gradient * 2)  # here
    return y * h


def retained(linear, h):
    y = linear(h)
    y.retain_grad()  # here
    return y * h


def module_hooked(linear, h):
    linear.register_full_backward_hook(lambda module, inputs, outputs: None)
    return linear(h) * h  # here


def saved_otherwise(linear, h):
    y = linear(h)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x.float(), lambda x: x.double()):  # here
        return torch.tanh(y) * h


UNSEEN = "made unseen (a compiled part, an alias"
REFUSED = {
    alias: f"reads a value that DoubledBackward {UNSEEN}",
    alias_that_returns_a_view: f"reads a value that ViewedBackward {UNSEEN}",
    mapped: f"reads a value that TanhBackward0 {UNSEEN}",
    scripted: UNSEEN,
    compiled: f"reads a value that MulBackward0 {UNSEEN}",
    written_without_grad: "writes into a value under no_grad, past its gradient",
    a_view_written_without_grad: "writes into a value under no_grad, past its gradient",
    gradient_inside: "calls torch.autograd.grad inside forward",
    fresh_memory_filled_by_a_function: "writes in place by Fills",
    hooked: "hooks gradients",
    retained: "hooks gradients",
    module_hooked: "hooks gradients",
    saved_otherwise: "hooks gradients",
}


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit.*deprecated", "ignore:The .grad attribute of a Tensor that is not a leaf"
)
@pytest.mark.parametrize(("function", "words"), REFUSED.items(), ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("make_rule", [Dynamics, InferenceLearning], ids=["zil-state", "il"])
def test_what_cannot_be_repeated_names_module_line_and_what_can_learn_it(make_rule, function, words, monkeypatch):
    if function is scripted:
        monkeypatch.setitem(globals(), "SCRIPT", torch.jit.script(_scale))
    lines, first = inspect.getsourcelines(function)
    (line,) = (first + i for i, text in enumerate(lines) if "# here" in text)
    with pytest.raises(UnsupportedModule) as caught:
        update(make_rule, function)
    message = str(caught.value)
    assert f"'inner{'.linear' * (function is module_hooked)}' (" in message
    assert f"{__file__}:{line}," in message
    assert words in message
    assert "Z-IL in error form" in message or "use an out-of-place operation" in message


def written_through_data(linear, h):
    y = linear(h)
    y.data.clamp_(-0.1, 0.1)
    return y * h


def test_a_write_that_nothing_sees_shows_in_the_loss():
    with pytest.raises(UnsupportedModule, match=r"the operations of the forward pass give a loss of .* through .data"):
        update(Dynamics, written_through_data)


def factorised(linear, h):
    return linear(h) @ torch.linalg.cholesky(h.t() @ h + 0.01 * torch.eye(4).double())


def test_an_operation_that_fails_at_other_values_is_named():
    with pytest.raises(
        UnsupportedModule, match=r"linalg_cholesky fails at the values of a later time step .*LinAlgError"
    ):
        update(lambda model: InferenceLearning(model, steps=50, gamma=5.0), factorised)


# Repeated, as it was.


def constants_that_forward_overwrites(linear, h):
    shift = torch.ones_like(h)
    shift[:, 0] = 0
    y = torch.tanh(linear(h) + shift)
    shift.fill_(7.0)
    return torch.sin(y + shift)


def draws(linear, h):
    noisy = F.dropout(linear(h), 0.5) + torch.randn_like(h)
    return noisy * F.dropout(h, 0.5) + torch.bernoulli(torch.full_like(h, 0.5))


def a_function_by_its_class(linear, h):
    return Doubled.apply(linear(h)) + Viewed.apply(h)


def lists_written_at_once(linear, h):
    parts = [linear(h), h * 2]
    torch._foreach_mul_(parts, [h, h.sin()])
    rows = parts[0].unbind(0)
    torch._foreach_add_([parts[1][0], parts[1][2]], [rows[1], rows[2]])
    return parts[0] * parts[1]


def parts_of_one_value_written_from_others(linear, h):
    y = linear(h)
    y[0].mul_(y[1].clone())
    y[2].add_(y[1])
    y[:, 2:].copy_(y[:, :2].clone().sin() * h[:, 2:])
    y.unsqueeze_(1).transpose_(0, 2)
    return y.squeeze(1).t()


def three_dimensional_in_place(linear, h):
    y = linear(h.view(2, 3, 4))
    y.relu_()
    return F.relu(y - 0.1, True).view(6, 4)


REPEATED = [
    constants_that_forward_overwrites,
    draws,
    a_function_by_its_class,
    lists_written_at_once,
    parts_of_one_value_written_from_others,
    three_dimensional_in_place,
]


@pytest.mark.parametrize("granularity", ["layer", "operation"])
@pytest.mark.parametrize("function", REPEATED, ids=lambda function: function.__name__)
def test_what_is_repeated_is_what_forward_did(function, granularity):
    expected, state = update(Backprop, function), torch.get_rng_state()
    actual = update(lambda model: Dynamics(model, granularity=granularity), function)
    assert relative_l2(actual, expected) < 1e-10
    assert torch.equal(torch.get_rng_state(), state)


def test_what_was_computed_under_autocast_is_so_at_every_time_step():
    """And what was not, is not, whatever the mode is when it is repeated."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                x = self.first(x)
            return self.second(x.float())

    graph = Graph.from_module(Mixed(), torch.randn(2, 3), granularity="operation")
    for inside in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            values = [()]
            for vertex in graph.vertices[1:]:
                values.append(vertex.predict(*(values[p] for p in vertex.parents)))
        assert [value.dtype for (value,) in values[1:]] == [torch.bfloat16, torch.float32, torch.float32]


def test_spectral_norm_is_one_function_throughout_an_update():
    found = []
    for make_rule in (Backprop, Dynamics):
        torch.manual_seed(0)
        model = nn.Sequential(spectral_norm(nn.Linear(5, 6)), nn.Tanh(), nn.Linear(6, 3)).double()
        make_rule(model).backward(torch.randn(4, 5).double(), torch.randn(4, 3).double(), F.mse_loss)
        found.append(model)
    expected, actual = found
    assert relative_l2(gradients_of(actual), gradients_of(expected)) < 1e-11
    for a, b in zip(actual.buffers(), expected.buffers(), strict=True):
        assert torch.equal(a, b)
