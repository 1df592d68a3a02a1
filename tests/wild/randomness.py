"""Random draws: torch's, Python's, NumPy's, global and owned; of anything's shape; in anyone's name."""

import random

import numpy as np
import torch
from problems import vectors
from torch import nn
from torch.distributions import Categorical, Normal, kl_divergence
from torch.nn import functional as F

from wild.entry import Small, Wild, small

FILE_NUMPY = np.random.default_rng(7)
FILE_TORCH = torch.Generator()
FILE_RANDOM = random.Random(7)


def reset():
    FILE_NUMPY.bit_generator.state = np.random.default_rng(7).bit_generator.state
    FILE_TORCH.manual_seed(7)
    FILE_RANDOM.seed(7)


def drop_path_bernoulli(net, h):
    mask = h.new_empty((h.shape[0],) + (1,) * (h.ndim - 1)).bernoulli_(0.6)
    mask.div_(0.6)
    return h + net.mid(h) * mask


def drop_path_floor(net, h):
    mask = 0.6 + torch.rand((h.shape[0], 1), dtype=h.dtype, device=h.device)
    mask.floor_()
    return h + net.mid(h).div(0.6) * mask


def rand_that_no_input_reaches(net, h):
    keep = torch.rand(4, 4).argsort(dim=1)[:, :2]
    h = torch.gather(net.mid(h), 1, keep)
    return torch.cat([h, torch.zeros(4, 2) + torch.rand(2)], dim=1)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(5, 6)
        self.decode = nn.Linear(3, 5)

    def forward(self, x):
        mean, log_variance = self.encode(x).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape)
        return self.decode(torch.tanh(z + 0.1 * torch.randn_like(z))), mean, log_variance


def evidence(outputs, targets):
    x, mean, log_variance = outputs
    return F.mse_loss(x, targets) - 0.05 * (1 + log_variance - mean**2 - log_variance.exp()).mean()


def self_supervised():
    x = torch.randn(4, 5)
    return x, x.clone()


class Diffusion(Small):
    """Time steps, noise and its prediction, all inside forward; the loss is an output."""

    def forward(self, x):
        t = torch.randint(1, 10, (x.shape[0], 1))
        noise = torch.randn_like(x)
        alpha = (1 - t / 10).to(x.dtype)
        h = torch.tanh(self.stem(alpha.sqrt() * x + (1 - alpha).sqrt() * noise) + torch.sin(t.to(x.dtype)))
        return (self.readout(h + self.mid(h)) - noise[:, :3]).square().mean()


class Policy(Small):
    """REINFORCE: an action is sampled, and its log-probability is learned from."""

    def middle(self, h):
        actions = Categorical(logits=self.mid(h))
        action = actions.sample()
        return h * actions.log_prob(action)[:, None] + actions.entropy()[:, None] * F.one_hot(action, 4)


def reparametrised(net, h):
    posterior = Normal(net.mid(h), F.softplus(h) + 0.1)
    prior = Normal(torch.zeros_like(h), torch.ones_like(h))
    return posterior.rsample() + kl_divergence(posterior, prior).mean(1, keepdim=True)


class OwnGenerator(Small):
    """A generator that the module owns, of one of four kinds."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.generator = {
            "numpy": lambda: np.random.default_rng(3),
            "legacy": lambda: np.random.RandomState(3),
            "random": lambda: random.Random(3),
            "torch": lambda: torch.Generator().manual_seed(3),
        }[kind]()

    def middle(self, h):
        if self.kind == "torch":
            noise = torch.randn(4, generator=self.generator, dtype=h.dtype)
        elif self.kind == "random":
            noise = torch.tensor([self.generator.gauss(0, 1) for _ in range(4)], dtype=h.dtype)
        else:
            noise = torch.from_numpy(np.asarray(self.generator.normal(size=4))).to(h.dtype)
        return self.mid(h) * noise

    def state(self):
        states = {
            "numpy": lambda g: g.bit_generator.state["state"]["state"],
            "legacy": lambda g: torch.from_numpy(g.get_state()[1].astype(np.int64)),
            "random": lambda g: g.getstate()[1],
            "torch": lambda g: g.get_state(),
        }
        return states[self.kind](self.generator)


def file_generators(net, h):
    noise = torch.randn(4, generator=FILE_TORCH, dtype=h.dtype) * float(FILE_NUMPY.uniform()) + FILE_RANDOM.random()
    return net.mid(h) * noise


def file_state(model):
    return FILE_NUMPY.bit_generator.state["state"]["state"], FILE_TORCH.get_state(), FILE_RANDOM.getstate()[1]


def global_numpy(net, h):
    keep = np.random.binomial(1, 0.5, size=h.shape)
    order = np.random.permutation(4)
    return net.mid(h)[:, order] * torch.from_numpy(keep).to(h.dtype) + float(np.random.rand())


class LayerDrop(Small):
    """Layers left out, chosen and shuffled by Python's global generator: another graph at every update."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(5))

    def middle(self, h):
        layers = [layer for layer in self.layers if random.random() > 0.4]
        random.shuffle(layers)
        for layer in layers:
            h = torch.tanh(layer(h))
        return h + random.choice(list(self.layers))(h)


def gumbel(net, h):
    soft = F.gumbel_softmax(net.mid(h), tau=0.7)
    hard = F.gumbel_softmax(h, hard=True)
    return soft * h + hard


def other_dropouts(net, h):
    h = F.alpha_dropout(net.mid(h), 0.3, training=True) + F.rrelu(h, training=True)
    h = F.feature_alpha_dropout(h[:, :, None], 0.2, training=True)[:, :, 0]
    return F.dropout1d(h[:, :, None], 0.3, training=True)[:, :, 0]


class DropConnect(Small):
    def middle(self, h):
        weight = F.dropout(self.mid.weight, 0.4, self.training)
        return F.linear(h, weight, self.mid.bias + torch.empty(4).uniform_(-0.1, 0.1))


def permuted_batch(net, h):
    """Mixup: each sample is mixed with another one, by a share from a Beta distribution."""
    share = float(np.random.beta(0.4, 0.4))
    order = torch.randperm(h.shape[0])
    return net.mid(share * h + (1 - share) * h[order])


def forked(net, h):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        h = h + torch.randn_like(h)
    return net.mid(F.dropout(h, 0.5))


RANDOMNESS = (
    Wild(
        "drop-path-bernoulli", small(drop_path_bernoulli), "timm's drop path: new_empty of a value's shape, bernoulli_"
    ),
    Wild("drop-path-floor", small(drop_path_floor), "the older drop path: keep + rand, then floor_"),
    Wild(
        "rand-from-nothing", small(rand_that_no_input_reaches), "random numbers that no input reaches, by literal shape"
    ),
    Wild("vae", VAE, "torch.randn of a value's shape, in the middle", self_supervised, evidence),
    Wild(
        "diffusion", Diffusion, "random time steps and noise; the loss computed in forward", vectors(5), lambda o, t: o
    ),
    Wild("policy", Policy, "torch.distributions: sampling, validation by value, log_prob, entropy"),
    Wild("reparametrised", small(reparametrised), "rsample, and a KL divergence by dispatch on types"),
    *(
        Wild(
            f"own-{kind}-generator",
            lambda kind=kind: OwnGenerator(kind),
            f"the module's own generator ({kind}) advances once an update",
            counters=OwnGenerator.state,
        )
        for kind in ("numpy", "legacy", "random", "torch")
    ),
    Wild("file-generators", small(file_generators), "generators that the file owns", counters=file_state, reset=reset),
    Wild("global-numpy", small(global_numpy), "NumPy's global generator: a mask, a permutation, a number"),
    Wild("layer-drop", LayerDrop, "Python's global generator decides which layers run, in which order"),
    Wild("gumbel-softmax", small(gumbel), "an exponential_ draw; the hard one scatters ones and goes straight through"),
    Wild("other-dropouts", small(other_dropouts), "alpha, feature and channel dropout, randomised ReLU"),
    Wild("drop-connect", DropConnect, "dropout on a parameter, noise made by uniform_ on empty memory"),
    Wild("mixup", small(permuted_batch), "randperm and a NumPy Beta"),
    Wild("forked-generator", small(forked), "the global generator seeded inside, and put back"),
)
