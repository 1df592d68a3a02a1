"""In-place writes: to slices, masks, views and whole values, seen or unseen by autograd."""

import torch
from problems import classes, vectors
from torch import nn
from torch.nn import functional as F

from wild.entry import Small, Wild, small


class SliceAssignment(nn.Module):
    """An RNN that fills its output one time step at a time, and reads what it has filled."""

    def __init__(self):
        super().__init__()
        self.cell = nn.RNNCell(3, 4)
        self.readout = nn.Linear(4, 3)

    def forward(self, x):
        out = x.new_zeros(x.shape[0], x.shape[1], 4)
        h = x.new_zeros(x.shape[0], 4)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            out[:, t] = h
        return self.readout(out.mean(1) + out[:, -1])


class CumulativeBuffer(SliceAssignment):
    """Each time step reads the sum of all rows before it, and adds to one running total."""

    def forward(self, x):
        out = x.new_zeros(x.shape[0], x.shape[1] + 1, 4)
        total = x.new_zeros(x.shape[0], 4)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], out[:, : t + 1].sum(1))
            out[:, t + 1] = h
            total += h * h
        return self.readout(out.sum(1) + total)


class MixtureOfExperts(Small):
    """Mixtral's layer: top-k routing, each expert on its own tokens, results added by index."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 3, bias=False)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 4)) for _ in range(3))

    def middle(self, h):
        weights, chosen = torch.topk(F.softmax(self.gate(h), dim=1), 2, dim=-1)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        final = torch.zeros_like(h)
        mask = F.one_hot(chosen, num_classes=3).permute(2, 1, 0)
        for expert, layer in enumerate(self.experts):
            rank, token = torch.where(mask[expert])
            if token.numel() == 0:
                continue
            final.index_add_(0, token, layer(h[token]) * weights[token, rank, None])
        return final


def mask_assignment(net, h):
    out = torch.zeros_like(h)
    mask = torch.arange(4) % 2 == 0
    out[mask] = net.mid(h[mask])
    out[~mask] = h[~mask] * 2
    out[out > 0.5] = 0.25
    return out


def view_writes(net, h):
    y = net.mid(h)
    y.view(2, 8)[1].mul_(0.5)
    y.t()[3].add_(h[:, 0])
    y.diagonal().mul_(h.diagonal())
    y[:, :2].relu_()
    return y


def write_through_a_view_then_read_an_older_view(net, h):
    y = net.mid(h)
    left, rows = y[:, :2], y.view(-1)
    y.mul_(h)
    rows[3:7] = h.reshape(-1)[:4]
    return torch.cat([left, y[:, 2:] * left], dim=1)


def chunk_writes(net, h):
    left, right = net.mid(h).unsafe_chunk(2, dim=1)
    left.sigmoid_()
    right.tanh_()
    first, second = (h * 2).tensor_split(2, dim=1)
    first += second
    return torch.cat([left * right, first], dim=1)


def stale_view(net, h):
    """A view whose history arises anew only when it is read, later than the node that reads it (Longformer, LED)."""
    buffer = torch.zeros(4, h.shape[0])
    w = buffer.t().t().t()
    w[:, 1:] = net.mid(h)[:, 1:]
    w[:, :2] = torch.where(w.new_tensor([True, False]).bool(), torch.zeros(h.shape[0], 2), w[:, :2])
    return w * h


def split_and_unbind_writes(net, h):
    y = net.mid(h)
    with torch.no_grad():  # autograd forbids it otherwise
        first, *_, last = y.unbind(0)
        first.mul_(0.5)
        last.zero_()
        y.split(2, dim=1)[0].add_(1)
    return y * h


def add_residual(net, h):
    y = net.mid(h)
    y.add_(h)
    y += h * h
    y -= 0.1
    return y.div_(2).addcmul_(h, h, value=0.5)


def copies(net, h):
    out = torch.empty_like(h)
    out.copy_(net.mid(h))
    row = h.new_empty(4)
    row.copy_(h.mean(0))
    return out + row


def tensor_indices(net, h):
    rows, columns = torch.tensor([3, 0, 2]), torch.tensor([1, 1, 0])
    out = net.mid(h)
    out[rows] = h[rows.flip(0)]
    out[rows, columns] = h[columns, rows]
    out[..., 0] += h[..., 1]
    out[[0, 1], 2:] = 0
    return out


def scatters(net, h):
    index = torch.tensor([[0, 1], [2, 3], [1, 0], [3, 3]])
    y = net.mid(h)
    y.scatter_(1, index[:, :1], h[:, :1])
    y.scatter_add_(1, index, h[:, :2])
    y.index_copy_(1, torch.tensor([2]), h[:, 3:])
    y.index_fill_(0, torch.tensor([3]), 0.5)
    y.index_put_((index[:, 0], index[:, 1]), h[:, 0], accumulate=True)
    return y.scatter_reduce(1, index, h[:, :2], "amax")


def causal_scores(net, h):
    scores = net.mid(h) @ h.t()
    scores.masked_fill_(torch.ones(4, 4).triu(1).bool(), float("-inf"))
    scores = F.softmax(scores, dim=-1)
    return scores.masked_fill(scores < 0.1, 0.0) @ h


class ScratchSpace(Small):
    """``out=`` into memory that the module keeps, as autograd allows it: on what needs no gradient."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scratch", torch.zeros(4, 5), persistent=False)
        self.norm = None

    def forward(self, x):
        torch.mul(x, 0.5, out=self.scratch)
        h = torch.tanh(self.stem(self.scratch.clone()))
        with torch.no_grad():
            self.norm = torch.empty(4)
            torch.sum(h, dim=1, out=self.norm)
        return self.readout(h * self.norm[:, None])


def writes_without_grad(net, h):
    y = net.mid(h)
    with torch.no_grad():
        y.clamp_(-0.3, 0.3)  # the value is clipped, the gradient is not
        y[:, 0] *= 2
    return y * h


def writes_through_data(net, h):
    y = net.mid(h)
    y.data.clamp_(-0.3, 0.3)  # no version counter sees it
    y.data[:, 0] = 0.5
    return y * h


def zeroes(net, h):
    y = net.mid(h)
    y[1].zero_()
    z = h * 3
    z.zero_()
    z.add_(y)
    return z.fill_diagonal_(0.5)


def other_shape_in_place(net, h):
    y = net.mid(h)
    y.unsqueeze_(1)
    y.transpose_(0, 2)
    y.squeeze_(1)
    return y.t_() * h


def overlapping(net, h):
    y = net.mid(h)
    y[:, 1:] = y[:, 1:] + y[:, :-1]
    y[:, :-1] *= y[:, 1:].clone()
    return y


def activations_in_place(net, h):
    y = F.relu_(net.mid(h)) + F.leaky_relu_(h * 2)
    y = F.dropout(F.elu_(y - 1) + h, 0.3, training=True, inplace=True)
    return (F.hardtanh(y, inplace=True) + h).sigmoid_()


def detached_in_place(net, h):
    y = torch.relu(net.mid(h))
    y.detach_()
    return y * h + net.mid(y)


def foreach(net, h):
    parts = [net.mid(h), h * 2]
    torch._foreach_mul_(parts, 0.5)
    return sum(torch._foreach_add(parts, [h, h]))


class MasksItsInput(Small):
    """Masked language models overwrite the batch that they are given."""

    def forward(self, x):
        x[:, 0] = 0
        x.masked_fill_(x > 1, -1)
        return super().forward(x)


class KeyValueCache(nn.Module):
    """Keys and values of all steps in one preallocated tensor, written and read step by step."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(3, 12)
        self.readout = nn.Linear(4, 3)

    def forward(self, x):
        keys = x.new_zeros(x.shape[0], x.shape[1], 4)
        values = torch.zeros_like(keys)
        for t in range(x.shape[1]):
            q, keys[:, t], values[:, t] = self.qkv(x[:, t]).chunk(3, dim=-1)
            weights = torch.softmax((keys[:, : t + 1].clone() @ q[:, :, None]) / 2, dim=1)
            out = (weights * values[:, : t + 1].clone()).sum(1)
        return self.readout(out)


PAST_THE_GRADIENT = "a value written past its gradient is no function of the values before it"

WRITES = (
    Wild("slice-assignment", SliceAssignment, "out[:, t] = h: a write to a fresh tensor's part", vectors(4, 3)),
    Wild("cumulative-buffer", CumulativeBuffer, "parts read between writes to the same tensor", vectors(4, 3)),
    Wild(
        "mixture-of-experts",
        MixtureOfExperts,
        "index_add_ into zeros, experts on as many tokens as the router gives them",
    ),
    Wild(
        "mask-assignment",
        small(mask_assignment),
        "out[mask] = h, the mask given or computed",
    ),
    Wild(
        "view-writes", small(view_writes), "the base's history changes with a write to a view: slice, view, t, diagonal"
    ),
    Wild(
        "older-views",
        small(write_through_a_view_then_read_an_older_view),
        "views made before a write are other values after it",
    ),
    Wild("stale-view", small(stale_view), "the order in which nodes were made is not the order of what they depend on"),
    Wild("chunk-writes", small(chunk_writes), "in place on what unsafe_chunk and tensor_split give"),
    Wild(
        "unbind-writes",
        small(split_and_unbind_writes),
        "in place on one of several views of one operation, without grad",
        fixed=PAST_THE_GRADIENT,
    ),
    Wild("residual-in-place", small(add_residual), "y.add_(h), +=, -=, div_, addcmul_: both operands are values"),
    Wild("copy_", small(copies), "a fresh tensor becomes a value by copy_"),
    Wild("setitem-by-tensor", small(tensor_indices), "setitem with tensors, lists and an ellipsis for an index"),
    Wild("scatter_", small(scatters), "scatter_, scatter_add_, index_copy_, index_fill_, index_put_, scatter_reduce"),
    Wild(
        "masked_fill_",
        small(causal_scores),
        "minus infinity in attention scores: an error of zero times infinity is NaN",
    ),
    Wild("out=", ScratchSpace, "out= into a buffer and into an attribute", counters=lambda m: m.norm),
    Wild(
        "no-grad-writes",
        small(writes_without_grad),
        "a value written under no_grad keeps its history",
        fixed=PAST_THE_GRADIENT,
    ),
    Wild(
        "data-writes",
        small(writes_through_data),
        "a value written through .data, past the version counter",
        fixed=PAST_THE_GRADIENT,
    ),
    Wild("zero_", small(zeroes), "a value zeroed in part or whole loses its history, or gets another"),
    Wild(
        "metadata-in-place", small(other_shape_in_place), "unsqueeze_, transpose_, squeeze_, t_ make the object a view"
    ),
    Wild("overlapping-writes", small(overlapping), "a slice written from a slice that overlaps it"),
    Wild("activations-in-place", small(activations_in_place), "relu_ and its like on fresh values, after one another"),
    Wild("detach_", small(detached_in_place), "detach_ on a value that was computed"),
    Wild("foreach", small(foreach), "torch._foreach_*: lists of tensors written and read at once"),
    Wild("writes-its-input", MasksItsInput, "the batch itself is overwritten: a second run would read another one"),
    Wild(
        "key-value-cache",
        KeyValueCache,
        "tuple assignment of chunks to slices of caches that are read on",
        lambda: (torch.randn(4, 3, 3), classes()),
    ),
)
