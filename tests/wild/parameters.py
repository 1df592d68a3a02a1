"""How parameters are reached: through views, lists, parametrizations, functions; and modules that are nobody's."""

import torch
from problems import BATCH, classes, vectors
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from wild.entry import Small, Wild, small


class Views(nn.Module):
    """Parameters read in part, transposed, chunked and expanded."""

    def __init__(self):
        super().__init__()
        self.in_projection = nn.Parameter(torch.randn(12, 5) / 2)
        self.in_bias = nn.Parameter(torch.randn(12))
        self.class_token = nn.Parameter(torch.randn(1, 1, 4))
        self.weight = nn.Parameter(torch.randn(4, 3) / 2)

    def forward(self, x):
        w_q, w_k, w_v = self.in_projection.chunk(3)
        b_q, b_k, b_v = self.in_bias.chunk(3)
        q, k, v = F.linear(x, w_q, b_q), F.linear(x, w_k, b_k), F.linear(x, w_v, b_v)
        h = torch.softmax(q @ k.t(), dim=-1) @ v
        h = torch.cat([self.class_token.expand(x.shape[0], -1, -1), h[:, None]], dim=1).mean(1)
        return h @ self.weight + F.linear(h[:, :2], self.weight.T[:, :2]) + h @ self.weight.t().t()


class Containers(nn.Module):
    """Parameters and modules in lists, dicts and plain Python containers; found by iteration."""

    def __init__(self):
        super().__init__()
        self.list = nn.ParameterList([torch.randn(4, 5) / 2, torch.randn(4)])
        self.dict = nn.ParameterDict({"scale": torch.randn(4), "shift": torch.randn(4)})
        self.layers = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 3)})
        self.plain = [self.layers["a"], {"weight": self.layers["b"].weight}]

    def forward(self, x):
        h = torch.tanh(F.linear(x, *self.list)) * self.dict["scale"] + self.dict["shift"]
        h = torch.tanh(self.plain[0](h)) + next(self.parameters()).mean(1)
        for _, layer in self.layers.items():
            h = layer(h)
        decay = torch.cat([p.flatten() for p in self.parameters()]).square().mean()
        return h + F.linear(torch.ones(4), self.plain[1]["weight"]) * decay


class WeightNorms(Small):
    """Weights computed before each forward by hooks: the old weight_norm, spectral_norm and pruning."""

    def __init__(self):
        super().__init__()
        self.stem = weight_norm(self.stem)
        self.mid = spectral_norm(self.mid)
        prune.l1_unstructured(self.readout, "weight", amount=0.3)

    def middle(self, h):
        return torch.relu(self.mid(h))


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)


class Parametrized(Small):
    """torch.nn.utils.parametrizations; with ``cached`` the weight of two readers is one value."""

    def __init__(self, cached):
        super().__init__()
        self.cached = cached
        parametrizations.weight_norm(self.stem)
        parametrizations.spectral_norm(self.readout)
        parametrize.register_parametrization(self.mid, "weight", Symmetric())

    def middle(self, h):
        return torch.tanh(self.mid(torch.tanh(self.mid(h))))

    def forward(self, x):
        if not self.cached:
            return super().forward(x)
        with parametrize.cached():
            return super().forward(x) + super().forward(-x)


class Orthogonal(Small):
    def __init__(self):
        super().__init__()
        parametrizations.orthogonal(self.mid)

    def middle(self, h):
        return self.mid(h)


class Tied(nn.Module):
    """One parameter under three names; one module at two places; one module twice in a row."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.layer = nn.Linear(4, 4)
        self.again = self.layer
        self.third = nn.Linear(4, 4)
        self.third.weight = self.layer.weight
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        h = self.embedding(tokens).sum(1)
        return self.head(self.third(torch.tanh(self.again(torch.tanh(self.layer(self.layer(h)))))))


class HyperNetwork(Small):
    """Weights that another network computes, one matrix a sample; an expert mixture of stacked weights."""

    def __init__(self):
        super().__init__()
        self.generate = nn.Linear(4, 16)
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def middle(self, h):
        weights = self.generate(h).view(-1, 4, 4)
        stacked = torch.stack([expert.weight for expert in self.experts])
        mixed = torch.einsum("be,eij->bij", torch.softmax(h[:, :2], dim=1), stacked)
        return torch.bmm(weights + mixed, h[:, :, None]).squeeze(2)


class LowRank(Small):
    """LoRA on a frozen layer, a weight rounded straight through, weight standardisation."""

    def __init__(self):
        super().__init__()
        self.mid.requires_grad_(False)
        self.down, self.up = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.zeros(4, 2))

    def forward(self, x):
        weight = self.stem.weight
        weight = (weight - weight.mean(1, keepdim=True)) / (weight.std(1, keepdim=True) + 1e-5)
        h = torch.tanh(F.linear(x, weight, self.stem.bias))
        h = torch.relu(self.mid(h) + (h @ self.down.t()) @ self.up.t() * 0.5)
        rounded = self.readout.weight + (torch.sign(self.readout.weight) - self.readout.weight).detach()
        return F.linear(h, rounded, self.readout.bias)


class Unregistered(Small):
    """Modules made in forward, and one hidden in a list: nobody's children."""

    def __init__(self):
        super().__init__()
        self.hidden = [nn.Dropout(0.3), nn.LayerNorm(4, elementwise_affine=False)]

    def middle(self, h):
        h = nn.Dropout(0.4)(nn.GELU()(self.mid(h)))
        h = nn.Sequential(nn.Softmax(dim=-1), nn.Identity())(h)
        for module in self.hidden:
            h = module(h)
        return h


class SparseEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 4, sparse=True)
        self.counted = nn.Embedding(6, 4, scale_grad_by_freq=True)
        self.readout = nn.Linear(4, 3)

    def forward(self, tokens):
        return self.readout(torch.tanh(self.embedding(tokens).mean(1) + self.counted(tokens.flip(0)).mean(1)))


class Bags(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4))
        self.bag = nn.EmbeddingBag(6, 4, mode="mean", include_last_offset=True)
        self.readout = nn.Linear(4, 3)

    def forward(self, tokens, offsets):
        summed = F.embedding_bag(tokens, self.weight, offsets, mode="max")
        return self.readout(summed * self.bag(tokens, torch.cat([offsets, torch.tensor([len(tokens)])])))


def bags():
    return (torch.randint(6, (10,)), torch.tensor([0, 2, 3, 7])), classes()


def token_ids():
    return torch.randint(6, (BATCH, 3)), classes()


class Deep(nn.Module):
    """200 layers, and a sum that reads every tenth of them."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(200))
        self.readout = nn.Linear(4, 3)

    def forward(self, x):
        total = 0
        for i, layer in enumerate(self.layers):
            x = x + 0.1 * torch.tanh(layer(x))
            total = total + x if i % 10 == 0 else total
        return self.readout(x + 0.05 * total)


class ReadsFields(Small):
    """A parameter replaced on the way by an attribute of the same use; state read by name."""

    def middle(self, h):
        weight = getattr(self.mid, "weight")  # noqa: B009 (as generic code does)
        parameters = dict(self.named_parameters())
        frozen = self.state_dict()["mid.weight"]
        return h @ weight * parameters["readout.bias"].sum() + F.linear(h, frozen, self.get_parameter("mid.bias"))


PARAMETERS = (
    Wild("parameter-views", Views, "chunked in-projection, .T, weight[:, :2], expand of a token"),
    Wild("parameter-containers", Containers, "lists, dicts, next(self.parameters()), all parameters in one sum"),
    Wild(
        "weight-hooks",
        WeightNorms,
        "weight_norm, spectral_norm and pruning by hooks",
        warns=("ignore:.*weight_norm.*deprecated",),
    ),
    Wild(
        "parametrized", lambda: Parametrized(False), "parametrizations of weight and spectral norm, a symmetric matrix"
    ),
    Wild("parametrize-cached", lambda: Parametrized(True), "parametrize.cached in forward: one weight for all readers"),
    Wild("orthogonal", Orthogonal, "the matrix exponential's parametrization"),
    Wild(
        "tied",
        Tied,
        "one parameter under three names, one module at several places",
        lambda: (torch.randint(6, (4, 3)), classes(6)),
    ),
    Wild("hyper-network", HyperNetwork, "weights that are values; parameters stacked"),
    Wild("low-rank", LowRank, "frozen weights, weights rounded straight through or standardised"),
    Wild("unregistered", Unregistered, "modules made in forward, modules in a list"),
    Wild("sparse-embedding", SparseEmbedding, "a sparse gradient", token_ids),
    Wild("embedding-bag", Bags, "embedding_bag in two modes, with offsets", bags),
    Wild(
        "deep",
        Deep,
        "200 layers: no recursion, and order of sums",
        vectors(4),
        fixed="400 steps of 800 vertices take minutes",
    ),
    Wild("parameters-by-name", ReadsFields, "named_parameters, get_parameter, a detached state_dict"),
    Wild(
        "double-use",
        small(lambda net, h: net.mid(net.mid(h)) + net.mid(h)),
        "one module three times, once on one value twice",
    ),
)
