"""What goes in and comes out: dataclasses, dicts with attributes, graphs, packed and nested sequences, complex numbers."""

import types
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, fields

import torch
from problems import classes, vectors
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

import pcbench
from wild.entry import Small, Wild, small


@dataclass
class ModelOutput(OrderedDict):
    """As Hugging Face has it: a dict and a dataclass in one, that leaves out what is None."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple | None = None

    def __post_init__(self):
        for field in fields(self):
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)


@dataclass
class Config:
    width: int = 4
    return_hidden: bool = True


class LanguageModel(nn.Module):
    """Computes its own loss from labels among its inputs; parts of the output are views of its inputs' embeddings."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(7, config.width)
        self.hidden = nn.Linear(config.width, config.width)
        self.head = nn.Linear(config.width, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, input_ids, attention_mask=None, labels=None, **kwargs):
        embedded = self.embedding(input_ids)
        h = torch.tanh(self.hidden(embedded))
        if attention_mask is not None:
            h = h * attention_mask[..., None]
        logits = self.head(h)
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, 7), labels[:, 1:].reshape(-1), ignore_index=-100)
        return ModelOutput(loss, logits, (embedded, h) if self.config.return_hidden else None)


def tokens():
    ids = torch.randint(7, (4, 5))
    return (ids, (torch.rand(4, 5) < 0.8).to(torch.get_default_dtype()), ids.clone()), None


@dataclass(frozen=True)
class Prediction:
    logits: torch.Tensor
    auxiliary: list
    note: str = "as a dataclass"


class Dataclassed(Small):
    def forward(self, x):
        h = torch.tanh(self.stem(x))
        return Prediction(self.readout(h), [self.mid(h), {"name": types.SimpleNamespace(h=h)}])


def of_prediction(outputs, targets):
    middle, named = outputs.auxiliary
    return F.cross_entropy(outputs.logits, targets) + (middle * named["name"].h).mean()


class Data:
    """As PyG has it: tensors as attributes of an object that is no container."""

    def __init__(self, **attributes):
        vars(self).update(attributes)

    @property
    def num_nodes(self):
        return self.x.shape[0]


class GraphConvolution(nn.Module):
    """Messages gathered by edge, added up by index, normalised by degree; graphs pooled by number."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.readout = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def propagate(self, x, edges, nodes):
        source, target = edges
        degree = x.new_zeros(nodes).index_add_(0, target, x.new_ones(edges.shape[1])).clamp(min=1)
        messages = x.index_select(0, source) * degree[source, None].rsqrt()
        return torch.zeros_like(x).scatter_add_(0, target[:, None].expand_as(messages), messages)

    def forward(self, data):
        x = torch.relu(self.propagate(self.first(data.x), data.edge_index, data.num_nodes))
        x = self.propagate(self.second(x), data.edge_index, data.num_nodes) + x
        data.embedding = x.detach()
        pooled = x.new_zeros(data.graphs, 4).index_reduce_(0, data.batch, x, "mean", include_self=False)
        return self.readout(pooled)


def graphs():
    edges = torch.randint(8, (2, 12 + int(torch.randint(4, ()))))
    return Data(x=torch.randn(8, 3), edge_index=edges, batch=torch.arange(8) // 4, graphs=2), torch.randint(3, (2,))


Pair = namedtuple("Pair", "first second")


class Structures(Small):
    """Named tuples, None, text and numbers in; a list with one value twice out."""

    def forward(self, pair, scale, mode, nothing, by_name):
        h = torch.tanh(self.stem(pair.first)) * scale + self.mid(by_name["extra"])
        h = h.relu() if mode == "relu" and nothing is None else h
        out = self.readout(h)
        return [out, out, Pair(h, None)]


def structured():
    pair = Pair(torch.randn(4, 5), torch.randn(2))
    return (pair, 0.5, "relu", None, {"extra": torch.randn(4, 4)}), classes()


def of_structures(outputs, targets):
    first, second, pair = outputs
    assert first is second
    return F.cross_entropy(first, targets) + second.square().mean() + pair.first.mean()


class ReturnsItsInput(Small):
    """One output is the input, one a view of it, one a parameter, one a constant."""

    def forward(self, x):
        h = torch.tanh(self.stem(x))
        return x, x[:, :3], h, h[:, :3], self.readout.bias, torch.ones(3), self.readout(h)


def of_all(outputs, targets):
    x, part, h, view, bias, ones, out = outputs
    return F.cross_entropy(out + part + view + bias + ones, targets) + (x.mean() + h.mean()) ** 2


class LeavesSomething(Small):
    """The loss reads what forward left on the module."""

    def middle(self, h):
        self.activations = {"mid": torch.tanh(self.mid(h))}
        self.penalties = [self.activations["mid"].abs().mean(), self.mid.weight.square().sum()]
        return self.activations["mid"]


class LearnedLoss(nn.Module):
    """Uncertainty weighting and class centres: the loss has parameters, and a buffer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.log_variance = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.centers = nn.Embedding(3, 3, dtype=torch.float64)
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, outputs, targets):
        self.calls += 1
        center = F.mse_loss(outputs, self.centers(targets).to(outputs.dtype))
        weights = self.log_variance.to(outputs.dtype)
        return (
            F.cross_entropy(outputs, targets) * torch.exp(-weights[0]) + center * torch.exp(-weights[1]) + weights.sum()
        )


class Recurrent(nn.Module):
    """A recurrent module on padded or packed sequences; packed, the order is sorted and put back."""

    def __init__(self, kind, packed, **options):
        super().__init__()
        self.rnn = kind(3, 4, batch_first=True, **options)
        self.readout = nn.Linear(4 * (2 if self.rnn.bidirectional else 1), 3)
        self.packed = packed

    def forward(self, x, lengths):
        if not self.packed:
            output, hidden = self.rnn(x)
            return self.readout(output[:, -1]) + (hidden[0] if isinstance(hidden, tuple) else hidden).mean()
        output, _ = self.rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        output, lengths = pad_packed_sequence(output, batch_first=True)
        return self.readout(output.sum(1) / lengths[:, None])


def sequences():
    return (torch.randn(4, 5, 3), torch.randint(1, 6, (4,))), classes()


class PackedInput(nn.Module):
    """A PackedSequence is the input itself; a layer on its data alone."""

    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.readout = nn.Linear(3, 4), nn.GRU(4, 4), nn.Linear(4, 3)

    def forward(self, packed):
        packed = packed._replace(data=torch.tanh(self.embed(packed.data)))
        return self.readout(self.rnn(packed)[1][0])


def packed():
    return pack_sequence([torch.randn(n, 3) for n in (5, 3, 3, 1)]), classes()


class Nested(nn.Module):
    """Sequences of different lengths without padding."""

    def __init__(self, layout):
        super().__init__()
        self.layout, self.hidden, self.readout = layout, nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, *sequences):
        nested = torch.nested.as_nested_tensor(list(sequences), layout=self.layout)
        h = torch.nested.to_padded_tensor(torch.relu(self.hidden(nested)), 0.0)
        return self.readout(h.sum(1))


def ragged():
    return tuple(torch.randn(int(n), 3) for n in torch.randint(1, 5, (4,))), classes()


class Spectral(Small):
    """Complex numbers: a complex parameter between two Fourier transforms, polar forms, real and imaginary parts."""

    def __init__(self):
        super().__init__()
        self.filter = nn.Parameter(torch.randn(3, dtype=torch.get_default_dtype().to_complex()))

    def middle(self, h):
        z = torch.fft.rfft(h) * self.filter
        h = torch.fft.irfft(z, n=4)
        z = torch.polar(torch.exp(h), self.mid(h))
        z = torch.view_as_complex(torch.view_as_real(z * z.conj().roll(1, 0)))
        out = torch.zeros_like(z)
        out.real, out.imag = z.imag * h, z.real
        return torch.view_as_real(out).sum(-1) + z.abs() + z.angle()


class SparseAdjacency(Small):
    """A constant sparse matrix times values, and a sparse one with learned entries."""

    def __init__(self):
        super().__init__()
        self.entries = nn.Parameter(torch.randn(5))
        self.register_buffer("places", torch.tensor([[0, 1, 2, 3, 3], [1, 0, 3, 2, 0]]))

    def middle(self, h):
        fixed = torch.sparse_coo_tensor(self.places, torch.ones(5), (4, 4))
        learned = torch.sparse_coo_tensor(self.places, self.entries, (4, 4))
        return torch.sparse.mm(fixed, self.mid(h)) + torch.sparse.mm(learned, h)


NESTED = ("ignore:The PyTorch API of nested tensors",)

OBJECTS = (
    Wild(
        "model-output",
        lambda: LanguageModel(Config()),
        "a dict that is a dataclass, the loss in it",
        tokens,
        lambda o, t: o.loss + o["hidden_states"][1].square().mean(),
        counters=lambda m: vars(m.config),
    ),
    Wild(
        "dataclass-output",
        Dataclassed,
        "a frozen dataclass, with lists, dicts and namespaces in it",
        loss=of_prediction,
    ),
    Wild(
        "graph-data",
        GraphConvolution,
        "an object with tensors for attributes; index_add_, scatter_add_, index_reduce_",
        graphs,
        warns=("ignore:index_reduce",),
    ),
    Wild(
        "structures", Structures, "named tuples, None, text, dicts in; one value twice out", structured, of_structures
    ),
    Wild(
        "returns-its-input",
        ReturnsItsInput,
        "outputs that are an input, its view, a parameter, a constant",
        loss=of_all,
    ),
    Wild(
        "loss-reads-the-module",
        LeavesSomething,
        "values left in attributes, read by the loss",
        bind=lambda model: (
            lambda o, t: F.cross_entropy(o, t) + 0.1 * sum(model.penalties) + model.activations["mid"].mean()
        ),
    ),
    Wild(
        "loss-with-parameters",
        small(lambda net, h: torch.relu(net.mid(h))),
        "a loss that learns and counts",
        loss=LearnedLoss(),
    ),
    *(
        Wild(
            f"{kind.__module__.split('.')[0]}-{kind.__name__.lower()}-{'packed' if is_packed else 'padded'}",
            lambda kind=kind, is_packed=is_packed, options=options: Recurrent(kind, is_packed, **options),
            f"{kind.__name__} on {'packed' if is_packed else 'padded'} sequences",
            sequences,
        )
        for kind, options in (
            (nn.LSTM, {"num_layers": 2, "dropout": 0.4}),
            (nn.GRU, {"bidirectional": True}),
            (nn.RNN, {}),
            (pcbench.nn.LSTM, {"bidirectional": True}),
        )
        for is_packed in (False, True)
    ),
    Wild("packed-input", PackedInput, "a PackedSequence as the input, its data replaced", packed),
    Wild(
        "nested-strided",
        lambda: Nested(torch.strided),
        "nested tensors, made, mapped and padded",
        ragged,
        warns=NESTED,
        fixed="values without a shape",
    ),
    Wild(
        "nested-jagged",
        lambda: Nested(torch.jagged),
        "nested tensors in jagged layout",
        ragged,
        warns=NESTED,
        needs=hasattr(torch.nested, "masked_select"),
        fixed="values without a shape",
    ),
    Wild(
        "complex",
        Spectral,
        "a complex parameter, rfft, polar, conj, writes to .real and .imag",
        fixed="a write to .real is not seen",
    ),
    Wild("sparse-adjacency", SparseAdjacency, "sparse matrices, constant and learned", warns=("ignore:.*[Ss]parse",)),
    Wild(
        "sum-of-losses",
        small(lambda net, h: net.mid(h)),
        "a loss that is no mean: sum, and a number added",
        vectors(5),
        lambda o, t: F.cross_entropy(o, t, reduction="sum") + 1.0,
    ),
)
