"""What cannot be a graph of local functions is refused; oracle: the documented messages, which name place and remedy.

Aimed at: a branch, a random draw or a buffer that is frozen into the graph silently, so that the next update is wrong.
"""

import inspect
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from pcbench import ZIL, Graph, PCBenchError
from pcbench.errors import InvalidParameters, UnsupportedModule


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


def refused(layer):
    """The message with which a model around ``layer`` is refused."""
    with pytest.raises(UnsupportedModule) as caught:
        Graph.from_module(around(layer), torch.zeros(2, 3))
    assert isinstance(caught.value, PCBenchError)
    return str(caught.value)


def line_of(layer, text):
    """``file:line`` of the only line of ``layer``'s class with ``text`` in it."""
    lines, first = inspect.getsourcelines(type(layer))
    (found,) = (first + i for i, line in enumerate(lines) if text in line)
    return f"{__file__}:{found}"


class IfOnValues(Layer):
    def forward(self, x):
        if x.sum() > 0:
            return self.linear(x)
        return x


class LoopOnValues(Layer):
    def forward(self, x):
        for _ in range(int(x.sum())):
            x = self.linear(x)
        return x


class Item(Layer):
    def forward(self, x):
        return self.linear(x) * x.max().item()


class MaskAsIndex(Layer):
    def forward(self, x):
        return self.linear(x)[x > 0]


class Nonzero(Layer):
    def forward(self, x):
        return self.linear(x)[torch.nonzero(x[0])]


@pytest.mark.parametrize(
    ("layer", "line"),
    [
        (IfOnValues, "if x.sum()"),
        (LoopOnValues, "for _ in range"),
        (Item, ".item()"),
        (MaskAsIndex, "[x > 0]"),
        (Nonzero, "torch.nonzero"),
    ],
)
def test_control_flow_that_depends_on_data_names_module_and_line(layer, line):
    layer = layer()
    message = refused(layer)
    assert f"'inner' ({type(layer).__name__}), {line_of(layer, line)}, depends on the values of a tensor" in message
    assert "torch.where" in message and "torch.fx.wrap" in message


class WrongShape(Layer):
    def forward(self, x):
        return F.linear(x, self.linear.weight[:, :2])


class ToNumpy(Layer):
    def forward(self, x):
        return self.linear(x) + torch.from_numpy(x.detach().numpy())


@pytest.mark.parametrize(("layer", "line"), [(WrongShape, "F.linear"), (ToNumpy, "from_numpy")])
def test_whatever_else_stops_the_tracing_names_module_and_line(layer, line):
    layer = layer()
    assert f"'inner' ({type(layer).__name__}), {line_of(layer, line)}," in refused(layer)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_fused_recurrent_network_is_named_with_its_counterpart(kind):
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([kind(3, 4)])

        def forward(self, x):
            return self.layers[0](x)[0]

    message = refused(Encoder())
    assert f"'inner.layers.0' (nn.{kind.__name__}) is fused" in message
    assert f"use pcbench.nn.{kind.__name__}" in message


class Noise(Layer):
    def forward(self, x):
        return self.linear(x) + torch.randn(3)


def test_a_random_draw_that_no_input_reaches_is_refused():
    model = around(Noise())
    state = torch.get_rng_state()
    with pytest.raises(UnsupportedModule, match=r"draws random numbers that no input reaches.*use nn.Dropout"):
        Graph.from_module(model, torch.zeros(2, 3))
    assert torch.equal(torch.get_rng_state(), state)


class Counter(Layer):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.ones(()))

    def forward(self, x):
        self.calls += 1
        return self.linear(x)


class RunningMean(Layer):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.ones(3))

    def forward(self, x):
        self.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
        return self.linear(x - self.mean)


class Replaced(Layer):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.ones(3))

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return self.linear(x - self.mean)


@pytest.mark.parametrize(("layer", "name"), [(Counter, "calls"), (RunningMean, "mean"), (Replaced, "mean")])
def test_a_buffer_that_would_not_advance_is_named(layer, name):
    layer = layer()
    before = layer.state_dict()[name].clone()
    message = refused(layer)
    assert f"buffer 'inner.{name}'" in message
    assert "`leaves`" in message
    assert torch.equal(layer.state_dict()[name], before)


def test_the_remedy_for_a_buffer_works():
    layer = Counter()
    rule = ZIL(nn.Sequential(layer, nn.Linear(3, 2)), leaves=(Counter,))
    for _ in range(2):
        rule.backward(torch.randn(2, 3), torch.tensor([0, 1]), F.cross_entropy)
    assert layer.calls == 3


class Forked(Layer):
    def forward(self, x):
        with torch.random.fork_rng(devices=[]):
            x = F.dropout(self.linear(x))
        return x


class Reseeded(Layer):
    def forward(self, x):
        torch.manual_seed(0)
        return F.dropout(self.linear(x))


@pytest.mark.parametrize(("layer", "line"), [(Forked, "with torch.random"), (Reseeded, "manual_seed")])
def test_setting_the_random_state_in_forward_is_refused(layer, line):
    """The graph has the draw, but not the state that it was made from."""
    model = around(layer())
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with pytest.raises(UnsupportedModule, match=r"sets torch's random state .*do it around the rule") as caught:
        Graph.from_module(model, torch.zeros(2, 3))
    assert f"'inner' ({layer.__name__}), {line_of(model.inner, line)}," in str(caught.value)
    assert torch.equal(torch.get_rng_state(), state)


class OwnGenerator(Layer):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x):
        return self.linear(x) + torch.randn(3, generator=self.generator)


class OwnMask(OwnGenerator):
    def forward(self, x):
        return self.linear(x) * torch.bernoulli(torch.full_like(x, 0.5), generator=self.generator)


@pytest.mark.parametrize("layer", [OwnGenerator, OwnMask])
def test_a_draw_from_a_generator_of_the_models_own_is_refused(layer):
    layer = layer()
    assert re.search(r"inner.*torch\.Generator.*draw from torch's global", refused(layer))
    assert torch.equal(layer.generator.get_state(), torch.Generator().manual_seed(0).get_state())


class Cached(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = parametrize.register_parametrization(nn.Linear(3, 3), "weight", nn.Softplus())

    def forward(self, x):
        with parametrize.cached():
            return self.linear(self.linear(x))


def test_a_weight_shared_by_parametrize_cached_is_refused():
    """Backpropagation adds up the weight's gradients before it goes on through the parametrization: other bits."""
    layer = Cached()
    assert f"{line_of(layer, 'return self.linear')}, enters torch.nn.utils.parametrize.cached" in refused(layer)
    with parametrize.cached(), pytest.raises(UnsupportedModule, match="call the rule outside of it"):
        ZIL(layer.linear).backward(torch.zeros(2, 3), torch.tensor([0, 1]), F.cross_entropy)


class Keeps(Layer):
    def __init__(self):
        super().__init__()
        self.kept = self.first()


class Tensor(Keeps):
    def first(self):
        return torch.ones(3)

    def forward(self, x):
        self.kept = self.kept * 1.5
        return self.linear(x) * self.kept


class TensorInPlace(Tensor):
    def forward(self, x):
        self.kept.mul_(1.5)
        return self.linear(x) * self.kept


class TensorInPlaceFromInput(Tensor):
    def forward(self, x):
        self.kept.add_(x.mean(0))
        return self.linear(x) * self.kept


class Numbers(Keeps):
    def first(self):
        return [1.0]

    def forward(self, x):
        self.kept.append(self.kept[-1] * 1.5)
        return self.linear(x) * self.kept[-1]


class Nested(Keeps):
    def first(self):
        return {"scales": [torch.ones(3)]}

    def forward(self, x):
        self.kept["scales"][0] = self.kept["scales"][0] * 1.5
        return self.linear(x) * self.kept["scales"][0]


class Previous(Keeps):
    def first(self):
        return None

    def forward(self, x):
        x = self.linear(x)
        x = x if self.kept is None else x + self.kept
        self.kept = x.detach()
        return x


@pytest.mark.parametrize("layer", [Tensor, TensorInPlace, TensorInPlaceFromInput, Numbers, Nested, Previous])
def test_what_one_call_leaves_to_the_next_is_refused_and_left_alone(layer):
    """The first update would be right, and every later one would begin with what the first one found."""
    layer = layer()
    message = refused(layer)
    assert "inner" in message and "would not advance" in message and "`leaves`" in message
    torch.testing.assert_close(layer.kept, layer.first(), rtol=0, atol=0)


class ReluOfView(nn.Module):
    def forward(self, x):
        return F.relu(x.flatten(1), inplace=True)


@pytest.mark.parametrize("first", [nn.ReLU(inplace=True), ReluOfView()], ids=["input", "view"])
def test_writing_into_the_callers_input_is_refused(first):
    """Backpropagation would change it, so that a second update on the same batch would see another one."""
    with pytest.raises(UnsupportedModule, match=r"writes in place into an input of .*or clone the input first"):
        Graph.from_module(nn.Sequential(first, nn.Linear(3, 3)), torch.zeros(2, 3))


class ThroughView(Layer):
    def forward(self, x):
        x = self.linear(x)
        x.view(-1).mul_(2.0)
        return x


class ThroughBase(Layer):
    def forward(self, x):
        x = self.linear(x)
        flat = x.view(-1)
        x.mul_(2.0)
        return flat.view(2, 3)


class IntoSlice(Layer):
    def forward(self, x):
        x = self.linear(x)
        x[:, 0].mul_(2.0)
        return x


@pytest.mark.parametrize("layer", [ThroughView, ThroughBase, IntoSlice])
def test_writing_through_memory_that_is_read_later_is_refused(layer):
    message = refused(layer())
    assert re.search(r"writes in place into '\w+', which shares its memory with '\w+', and that is read after", message)
    assert "use the out-of-place operation" in message


class Zero(Layer):
    def forward(self, x):
        x = self.linear(x)
        return x + x[:, :1].clone().zero_()


def test_an_in_place_operation_without_a_counterpart_is_named():
    assert "zero_ writes in place and has no out-of-place counterpart" in refused(Zero())


class SetItem(Layer):
    def forward(self, x):
        x = self.linear(x)
        x[:, 0] = 0.0
        return x


def test_assignment_to_a_slice_is_refused():
    layer = SetItem()
    assert f"'inner' (SetItem), {line_of(layer, 'x[:, 0] = 0.0')}," in refused(layer)


def test_an_unknown_granularity_is_named_with_those_that_exist():
    with pytest.raises(InvalidParameters, match="granularity 'node' is none of layer, operation"):
        Graph.from_module(nn.Linear(2, 2), torch.zeros(1, 2), granularity="node")
