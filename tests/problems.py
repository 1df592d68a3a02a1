"""Small named networks with data and a loss, one for each thing that a graph of local functions can get wrong.

Every rule and every oracle runs on all of them, so that a network added here tests everything.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

BATCH = 4


@dataclass(frozen=True)
class Problem:
    """One weight update's worth of a learning problem.

    Attributes:
        name: what the network has that others have not.
        model: makes the module, initialised from torch's global generator.
        data: makes ``(inputs, targets)`` from torch's global generator, in float32.
        loss: maps ``(outputs, targets)`` to a 0-d tensor.
        chain: whether the vertices form a chain with at least two hidden ones, as theory about IL supposes.
        skips: whether an edge between two vertices that learn skips a level.
    """

    name: str
    model: Callable[[], nn.Module]
    data: Callable[[], tuple]
    loss: Callable = F.cross_entropy
    chain: bool = False
    skips: bool = False

    def build(self, dtype):
        """Return ``(model, inputs, targets)``, always the same for a dtype; the global generator is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.model()
            inputs, targets = self.data()

        def cast(leaf):
            return leaf.to(dtype) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf

        return model.to(dtype), pytree.tree_map(cast, inputs), pytree.tree_map(cast, targets)


@dataclass(frozen=True)
class Outcome:
    """Everything that a weight update's gradient computation leaves behind."""

    loss: torch.Tensor
    gradients: dict[str, torch.Tensor | None]
    buffers: dict[str, torch.Tensor]
    random_state: torch.Tensor


def outcome(problem, dtype, make_rule, seed=1):
    """Run ``make_rule(model).backward`` once on a new instance of ``problem``, dropout masks drawn from ``seed``."""
    model, inputs, targets = problem.build(dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loss = make_rule(model).backward(inputs, targets, problem.loss)
        state = torch.get_rng_state()
    return Outcome(loss, gradients_of(model), copy.deepcopy(dict(model.named_buffers())), state)


def gradients_of(model):
    """The gradients by name; None where there is none."""
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def bits(tensor):
    """The tensor's bits as integers: unlike ``==``, they tell −0 from +0 and NaN from NaN."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    tensor = tensor.detach().contiguous()
    return tensor.view(integers[tensor.element_size()]) if tensor.is_floating_point() else tensor


def assert_same_bits(actual, expected):
    """Both are dicts of tensors (or None) by name; every bit must agree."""
    assert list(actual) == list(expected)
    for name, b in expected.items():
        a = actual[name]
        assert (a is None) == (b is None), f"{name}: {a} against {b}"
        if b is not None:
            assert a.dtype == b.dtype and a.shape == b.shape, name
            assert torch.equal(bits(a), bits(b)), f"{name} differs by up to {(a - b).abs().max()}"


def relative_l2(actual, expected):
    """The norm of all differences over the norm of what is expected; a missing gradient counts as zero."""
    pairs = [(actual[name], b) for name, b in expected.items()]
    zero = torch.zeros(1)
    differences = [(zero if a is None else a) - (zero if b is None else b) for a, b in pairs]
    norm = torch.stack([b.double().norm() for _, b in pairs if b is not None]).norm()
    return (torch.stack([d.double().norm() for d in differences]).norm() / norm).item()


def classes(count=3):
    return torch.randint(0, count, (BATCH,))


def vectors(*shape):
    return lambda: (torch.randn(BATCH, *shape), classes())


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3, padding=1)
        self.conv2 = nn.Conv2d(3, 4, 3)
        self.readout = nn.Linear(16, 3)

    def forward(self, images):
        x = F.max_pool2d(torch.relu(self.conv1(images)), 2)
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2)
        return self.readout(torch.flatten(x, 1))


class ResidualBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


def residual_net():
    block = ResidualBlock(3)
    return nn.Sequential(nn.Conv2d(1, 3, 3), block, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3))


class ManyToOneRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.RNNCell(3, 5)
        self.readout = nn.Linear(5, 3)

    def forward(self, sequences):
        state = sequences.new_zeros(sequences.shape[0], 5)
        for row in sequences.unbind(1):
            state = self.cell(row, state)
        return self.readout(state)


class ManyToOneLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)
        self.readout = nn.Linear(4, 3)

    def forward(self, sequences):
        hidden, memory = self.cell(sequences[:, 0])
        for t in range(1, sequences.shape[1]):
            hidden, memory = self.cell(sequences[:, t], (hidden, memory))
        return self.readout(hidden + memory)


class Branches(nn.Module):
    """Three branches of different depths, merged by add, multiply and concatenate."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(5, 4)
        self.short = nn.Linear(4, 4)
        self.long = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4), nn.Sigmoid())
        self.gate = nn.Linear(4, 4)
        self.readout = nn.Linear(12, 3)

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        short, long = self.short(x), self.long(x)
        merged = torch.cat([short + long, torch.sigmoid(self.gate(x)) * long, x], dim=1)
        return self.readout(merged)


class LongSkips(nn.Module):
    """Each layer reads the sum of all values before it: skips of one to four levels."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(5))

    def forward(self, x):
        values = [x]
        for layer in self.layers:
            values.append(torch.tanh(layer(sum(values[1:], values[0]))))
        return values[-1] + values[1]


class TiedWeights(nn.Module):
    """The embedding of integer tokens is the readout's weight, too."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 4, padding_idx=0)
        self.hidden = nn.Linear(4, 4)
        self.readout = nn.Linear(4, 6, bias=False)
        self.readout.weight = self.embedding.weight

    def forward(self, tokens):
        return self.readout(torch.tanh(self.hidden(self.embedding(tokens).mean(1))))


class DirectParameters(nn.Module):
    """Parameters read by functions rather than modules; two of them receive the very same gradient."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 5) / 2)
        self.bias = nn.Parameter(torch.randn(4))
        self.scale = nn.Parameter(torch.randn(4))
        self.shift = nn.Parameter(torch.randn(BATCH, 3))
        self.offset = nn.Parameter(torch.randn(BATCH, 3))
        self.readout = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.tanh(F.linear(x, self.weight, self.bias)) + self.bias
        return self.readout(x * self.scale) + self.shift + self.offset


def frozen():
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    model[0].weight.requires_grad_(False)
    model[2].requires_grad_(False)
    return model


class UnusedParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(5, 4)
        self.forgotten = nn.Linear(4, 4)
        self.readout = nn.Linear(4, 3)

    def forward(self, x):
        return self.readout(torch.tanh(self.hidden(x)))


class TwoHeads(nn.Module):
    """A dict of outputs at different depths; one of them is read by no loss."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(5, 4)
        self.hidden = nn.Linear(4, 4)
        self.classify = nn.Linear(4, 3)
        self.regress = nn.Linear(4, 2)
        self.ignored = nn.Linear(4, 2)

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        deep = torch.tanh(self.hidden(x))
        return {"class": self.classify(deep), "value": self.regress(x), "ignored": self.ignored(deep)}


def two_losses(outputs, targets):
    label, value = targets
    return F.cross_entropy(outputs["class"], label) + 0.5 * F.mse_loss(outputs["value"], value)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = nn.Linear(5, 4)
        self.right = nn.Linear(3, 4)
        self.readout = nn.Linear(4, 3)

    def forward(self, left, right):
        return self.readout(torch.tanh(self.left(left)) * torch.tanh(self.right(right * right)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.project = nn.Linear(8, 8)
        self.norm2 = nn.LayerNorm(8)
        self.feedforward = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
        self.readout = nn.Linear(8, 3)

    def forward(self, x):
        batch, length, width = x.shape
        heads = self.qkv(self.norm1(x)).view(batch, length, 2, 3 * width // 2).transpose(1, 2)
        query, key, value = heads.chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.project(mixed.transpose(1, 2).reshape(batch, length, width))
        x = x + self.feedforward(self.norm2(x))
        return self.readout(x.mean(1))


class OutputReadInside(nn.Module):
    """The first output feeds the second one."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(5, 4)
        self.first = nn.Linear(4, 3)
        self.second = nn.Linear(3, 3)

    def forward(self, x):
        first = self.first(torch.tanh(self.hidden(x)))
        return first, self.second(torch.tanh(first))


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.second = nn.Linear(4, 4)
        self.readout = nn.Linear(4, 3)

    def forward(self, x):
        x = self.first(x)
        x.tanh_()
        y = self.second(x)
        y += x
        y *= 0.5
        y.relu_()
        return self.readout(F.relu(y - 0.1, inplace=True))


class ReadTwice(nn.Module):
    """One value is both operands of one operation, and one module runs at several depths."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, 4)
        self.readout = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.tanh(self.hidden(x))
        x = self.hidden(x * x)
        x = torch.tanh(self.hidden(x + x))
        return self.readout(torch.cat([x, x], dim=1))


def mlp(activation):
    return lambda: nn.Sequential(
        nn.Linear(5, 6), activation(), nn.Linear(6, 5), activation(), nn.Linear(5, 4), activation(), nn.Linear(4, 3)
    )


def squared_error(reduction):
    return lambda outputs, targets: 0.5 * F.mse_loss(outputs, targets, reduction=reduction)


def regression():
    return torch.randn(BATCH, 5), torch.randn(BATCH, 3)


PROBLEMS = (
    Problem("mlp", mlp(nn.Tanh), vectors(5), chain=True),
    Problem("sum-of-squares", mlp(nn.Sigmoid), regression, squared_error("sum"), chain=True),
    Problem("mean-of-squares", mlp(nn.Identity), regression, squared_error("mean"), chain=True),
    Problem("convolutions", ConvNet, vectors(1, 12, 12), chain=True),
    Problem("residual-batchnorm", residual_net, vectors(1, 8, 8), skips=True),
    Problem(
        "dropout",
        lambda: nn.Sequential(
            nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 3)
        ),
        vectors(5),
        chain=True,
    ),
    Problem("shared-cell", ManyToOneRNN, vectors(4, 3)),
    Problem("lstm-cell", ManyToOneLSTM, vectors(4, 3)),
    Problem("branches", Branches, vectors(5), skips=True),
    Problem("long-skips", LongSkips, lambda: (torch.randn(BATCH, 4), torch.randn(BATCH, 4)), F.mse_loss, skips=True),
    Problem("tied-weights", TiedWeights, lambda: (torch.randint(0, 6, (BATCH, 3)), classes(6))),
    Problem("direct-parameters", DirectParameters, vectors(5)),
    Problem("frozen", frozen, vectors(5)),
    Problem("unused-parameter", UnusedParameter, vectors(5)),
    Problem("two-heads", TwoHeads, lambda: (torch.randn(BATCH, 5), (classes(), torch.randn(BATCH, 2))), two_losses),
    Problem("two-inputs", TwoInputs, lambda: ((torch.randn(BATCH, 5), torch.randn(BATCH, 3)), classes())),
    Problem("attention", Attention, vectors(5, 8), skips=True),
    Problem(
        "output-read-inside",
        OutputReadInside,
        vectors(5),
        lambda outputs, targets: sum(F.cross_entropy(output, targets) for output in outputs),
    ),
    Problem("in-place", InPlace, vectors(5)),
    Problem("read-twice", ReadTwice, vectors(4)),
)
