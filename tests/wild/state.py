"""What a forward keeps from one call to the next: buffers, attributes, helpers, files."""

import copy
import functools
import itertools
from collections import Counter, deque

import torch
from problems import BATCH, classes, vectors
from torch import nn
from torch.nn import functional as F

from wild.entry import Small, Wild

CALLS = {"n": 0}


class EMABatchNorm(nn.BatchNorm1d):
    """timm's kind: super's forward, and buffers of its own, some written, some assigned."""

    def __init__(self, features):
        super().__init__(features)
        self.register_buffer("average", torch.zeros(features))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        self.calls += 1
        if self.training:
            with torch.no_grad():
                self.average.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return F.relu(super().forward(x) + self.average)


class WithEMABatchNorm(Small):
    def __init__(self):
        super().__init__()
        self.norm = EMABatchNorm(4)

    def middle(self, h):
        return self.norm(self.mid(self.norm(h)))


class EMABuffer(Small):
    """A moving average of values, the new buffer assigned; another one indexed by a pointer that is a buffer (MoCo)."""

    def __init__(self):
        super().__init__()
        self.register_buffer("center", torch.zeros(4))
        self.register_buffer("queue", torch.zeros(8, 4))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))

    def middle(self, h):
        self.center = self.center * 0.9 + h.detach().mean(0) * 0.1
        start = int(self.pointer)
        similar = self.mid(h) @ self.queue.clone().t()
        with torch.no_grad():
            self.queue[start : start + BATCH] = h
            self.pointer[0] = (start + BATCH) % 8
        return h - self.center + similar[:, :4]


class MomentumTarget(Small):
    """BYOL: the target network follows through ``.data`` of what ``.parameters()`` gives, inside forward."""

    def __init__(self):
        super().__init__()
        self.target = copy.deepcopy(self.stem).requires_grad_(False)

    def forward(self, x):
        for slow, fast in zip(self.target.parameters(), self.stem.parameters(), strict=True):
            slow.data = slow.data * 0.9 + fast.data * 0.1
        with torch.no_grad():
            goal = torch.tanh(self.target(x))
        h = torch.tanh(self.stem(x))
        return self.readout(F.cosine_similarity(self.mid(h), goal)[:, None] * h)


class CopiedTarget(MomentumTarget):
    """DQN: the target is loaded from the online network every second update; its average is written with no_grad."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        if self.calls % 2 == 0:
            self.target.load_state_dict(self.stem.state_dict())
        self.calls += 1
        with torch.no_grad():
            for slow in self.target.parameters():
                slow.lerp_(torch.ones_like(slow), 0.01)
        h = torch.tanh(self.stem(x))
        return self.readout(self.mid(h) - torch.tanh(self.target(x)).detach())


class Meter:
    """A helper object that is no module."""

    def __init__(self):
        self.total, self.count = 0.0, 0

    def add(self, value):
        self.total += value
        self.count += 1
        return self.count


class Counters(Small):
    """Counts in each place that a program counts in; the numbers enter the values."""

    of_class = 0

    def __init__(self):
        super().__init__()
        self.calls, self.losses, self.meter = 0, [], Meter()
        self.seen, self.last = Counter(), deque(maxlen=2)
        n = 0

        def closure():
            nonlocal n
            n += 1
            return n

        self.closure = closure

    def middle(self, h, default=[0]):  # noqa: B006 (that is the point)
        self.calls += 1
        type(self).of_class += 1
        CALLS["n"] += 1
        default[0] += 1
        self.seen["middle"] += 1
        self.losses.append(h.mean().item())
        self.last.append(h.detach())
        counts = (self.calls, self.meter.add(h.sum().item()), self.closure(), Counters.of_class, CALLS["n"], default[0])
        return self.mid(h) * (1 + 0.1 * sum(counts)) + sum(self.last)

    def state(self):
        counts = self.calls, self.of_class, CALLS["n"], self.middle.__defaults__[0][0], self.seen["middle"]
        return counts, self.losses, list(self.last), (self.meter.total, self.meter.count)


def reset_counters():
    Counters.of_class = CALLS["n"] = Counters.middle.__defaults__[0][0] = 0


class Cycle(Small):
    """An iterator and a generator that move on; neither can be rewound, the generator not even copied."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.cycle = itertools.cycle([0.5, 1.0, 2.0])
        self.generator = (i * i for i in itertools.count(1))
        self.taken = []

    def middle(self, h):
        self.taken += [next(self.cycle), next(self.generator)]
        return self.layers[self.taken[-1] % 3](h) * self.taken[-2]


class StatefulRNN(nn.Module):
    """Truncated backpropagation through time: the state is kept, detached."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(3, 4)
        self.readout = nn.Linear(4, 3)
        self.hidden = None

    def forward(self, x):
        h = x.new_zeros(x.shape[0], 4) if self.hidden is None else self.hidden
        for step in x.unbind(1):
            h = self.cell(step, h)
        self.hidden = h.detach()
        return self.readout(h)


class Memory(Small):
    """Attends to what it has seen in earlier updates, a list that grows and is cut."""

    def __init__(self):
        super().__init__()
        self.memory = []

    def middle(self, h):
        past = torch.cat([*self.memory, h.detach()])
        self.memory = [*self.memory, h.detach().clone()][-2:]
        return torch.softmax(self.mid(h) @ past.t(), dim=1) @ past + h


class VectorQuantizer(Small):
    """VQ-VAE with its codebook by moving averages: nearest neighbours, straight through, buffers replaced."""

    def __init__(self):
        super().__init__()
        self.register_buffer("codes", torch.randn(6, 4))
        self.register_buffer("usage", torch.ones(6))
        self.commitment = None

    def middle(self, h):
        h = self.mid(h)
        index = torch.cdist(h, self.codes).argmin(dim=1)
        quantized = self.codes[index]
        if self.training:
            with torch.no_grad():
                chosen = F.one_hot(index, 6).to(h.dtype)
                self.usage.mul_(0.9).add_(chosen.sum(0), alpha=0.1)
                self.codes = torch.where(self.usage[:, None] > 0, self.codes * 0.9 + chosen.t() @ h * 0.1, self.codes)
        self.commitment = F.mse_loss(h, quantized)
        return h + (quantized - h).detach()


class Schedules(Small):
    """A dropout probability and a temperature that forward itself moves; a part put into eval mode and back."""

    def __init__(self):
        super().__init__()
        self.drop, self.norm = nn.Dropout(0.1), nn.BatchNorm1d(4)
        self.temperature = 1.0

    def middle(self, h):
        self.drop.p += 0.1
        self.temperature *= 0.9
        self.norm.eval()
        slow = self.norm(h).detach()
        self.norm.train(self.training)
        return self.drop(self.norm(self.mid(h))) / self.temperature + slow


class Thaws(Small):
    """Layers frozen and thawed from call to call."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        self.stem.requires_grad_(self.calls > 1)
        self.mid.weight.requires_grad_(self.calls != 2)
        return super().forward(x)

    def middle(self, h):
        return torch.relu(self.mid(h))


class Grows(Small):
    """A layer more at every call, drawn from the global generator and registered in forward."""

    def __init__(self):
        super().__init__()
        self.extra = nn.ModuleList()

    def middle(self, h):
        self.extra.append(nn.Linear(4, 4))
        for layer in self.extra:
            h = torch.tanh(layer(h))
        return h


class Lazy(nn.Module):
    """Parameters that the first call makes."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.LazyLinear(6), nn.LazyBatchNorm1d(), nn.Tanh(), nn.LazyLinear(3))

    def forward(self, x):
        return self.net(x)


class BuiltOnFirstCall(Small):
    """A layer and a buffer that the first forward registers by the shape that it sees."""

    def __init__(self):
        super().__init__()
        self.project = None

    def middle(self, h):
        if self.project is None:
            self.project = nn.Linear(h.shape[1], 4)
            self.register_buffer("positions", torch.arange(4.0).to(h.dtype), persistent=False)
        return torch.tanh(self.project(h) + self.positions)


@functools.lru_cache(maxsize=4)
def rotary(length, dtype):
    angles = torch.outer(torch.arange(length, dtype=dtype), torch.tensor([1.0, 0.1], dtype=dtype))
    return angles.cos(), angles.sin()


class Rotary(nn.Module):
    """Rotary positions out of a function's cache: made at the first call, read at all others."""

    def __init__(self):
        super().__init__()
        self.query, self.readout = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x):
        cos, sin = rotary(x.shape[1], x.dtype)
        even, odd = self.query(x)[..., ::2], self.query(x)[..., 1::2]
        return self.readout(torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(2).mean(1))


class WeightClipping(Small):
    """A critic that clips its own weights before it reads them."""

    def middle(self, h):
        for parameter in self.mid.parameters():
            parameter.data.clamp_(-0.2, 0.2)
        with torch.no_grad():
            self.mid.weight.div_(self.mid.weight.norm(dim=1, keepdim=True).clamp(min=0.3))
        return self.mid(h)


class MaxNormEmbedding(nn.Module):
    """An embedding that rescales its rows when it looks them up."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 4, max_norm=0.9, padding_idx=0)
        self.readout = nn.Linear(4, 3)

    def forward(self, tokens):
        return self.readout(torch.tanh(self.embedding(tokens)).mean(1))


STATE = (
    Wild(
        "batchnorm-subclass", WithEMABatchNorm, "a subclass of BatchNorm with buffers of its own, run twice a forward"
    ),
    Wild("ema-buffer", EMABuffer, "a buffer assigned anew; a queue with a pointer read as an int"),
    Wild("momentum-target", MomentumTarget, "a target network written through .data of what .parameters() gives"),
    Wild("copied-target", CopiedTarget, "load_state_dict in forward, lerp_ under no_grad", counters=lambda m: m.calls),
    Wild(
        "counters",
        Counters,
        "attribute, class, global, default argument, closure, helper object, list, Counter, deque: each once a call",
        counters=Counters.state,
        reset=reset_counters,
    ),
    Wild("next-of-cycle", Cycle, "iterators that move on and cannot be copied", counters=lambda m: m.taken),
    Wild("stateful-rnn", StatefulRNN, "the last call's state, detached", vectors(3, 3), counters=lambda m: m.hidden),
    Wild("memory", Memory, "a list of earlier values: other shapes at each update", counters=lambda m: m.memory),
    Wild(
        "vector-quantizer",
        VectorQuantizer,
        "straight through, a codebook replaced in forward, a loss read from an attribute",
        bind=lambda model: lambda o, t: F.cross_entropy(o, t) + 0.25 * model.commitment,
    ),
    Wild(
        "schedules",
        Schedules,
        "forward moves a module's p; eval() and train() inside",
        counters=lambda m: m.temperature,
    ),
    Wild("thaws", Thaws, "requires_grad switched in forward", counters=lambda m: m.calls),
    Wild("grows", Grows, "a layer more at every update, registered in forward"),
    Wild("lazy-modules", Lazy, "LazyLinear and LazyBatchNorm build at the first call", warns=("ignore:Lazy modules",)),
    Wild("built-on-first-call", BuiltOnFirstCall, "a layer and a buffer registered by the first forward"),
    Wild("cached-function", Rotary, "lru_cache on a function of shapes", vectors(3, 3), reset=rotary.cache_clear),
    Wild("weight-clipping", WeightClipping, "parameters written in forward before they are read"),
    Wild(
        "max-norm", MaxNormEmbedding, "a lookup that writes its weight", lambda: (torch.randint(6, (4, 3)), classes())
    ),
)
