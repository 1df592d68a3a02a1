"""Operations whose arguments, results or kernels are unlike the usual ones."""

import torch
from torch import nn
from torch.nn import functional as F

from wild.entry import Wild, small

CASES = {}


def case(aim, **more):
    """Register a middle under its name, with more fields of its entry."""

    def register(function):
        CASES[function.__name__.replace("_", "-")] = (function, aim, more)
        return function

    return register


@case("torch.pow(h, 2), and every other spelling of a power")
def power(net, h):
    h = torch.pow(h, 2) + h**2 + torch.pow(2, h) + 2**h
    h = torch.tanh(h)
    return torch.float_power(h.abs() + 1, 0.5).to(h.dtype) + (h.abs() + 1) ** net.mid(h) + h.square()


@case("torch.where(c, h, 0.0) with numbers on either side")
def where(net, h):
    c = h > 0
    return torch.where(c, h, 0.0) + torch.where(c, 1.0, net.mid(h)) + torch.where(c, h, -h) + h.where(~c, 0.5)


@case("reflected operators, numbers, sum() from zero, Python's builtins")
def operators(net, h):
    y = 1 - net.mid(h)
    y = 1 / (2 + y.abs()) + (-y) + abs(h) + 3 * h % 2
    return sum([y, h, y]) + max(1, 2) * (y @ h) + round(h.mean().item(), 3) * 0


@case("one value as both operands: the order of two contributions")
def einsum(net, h):
    y = net.mid(h)
    return torch.einsum("ij,kj->ik", y, y) + torch.einsum("bi,bj,bk->bi", h, y, h) + y @ y.t() + torch.matmul(h, h)


@case("reductions along a dimension, with and without indices")
def reductions(net, h):
    y = net.mid(h)
    out = torch.cumsum(y, 1) + torch.logsumexp(y, 1, keepdim=True) + y.amax(1, keepdim=True) + y.cumprod(0)
    best = y.max(dim=1)
    out = out + best.values[:, None] + torch.min(y, h) + y.norm(p=3, dim=0) + torch.logcumsumexp(h, 0)
    return out + torch.var_mean(y, dim=1)[0][:, None] + y.prod(1, keepdim=True)


@case("one operation with two values, both read", needs=not torch.__version__.startswith("2.3."))  # no derivative there
def aminmax(net, h):
    low, high = torch.aminmax(net.mid(h), dim=0)
    return torch.tanh(h - low) * high


@case("ties in max and amax: who gets how much of the gradient")
def ties(net, h):
    y = net.mid(h)
    y = torch.cat([y, y.flip(1)], dim=1)
    return y.amax(1, keepdim=True) + y.max(dim=1).values + torch.maximum(y, y.flip(1))[:, :4] + y.max() + y.median() + h


@case("values taken apart and put together again")
def taken_apart(net, h):
    first, *rest = net.mid(h).unbind(1)
    y = torch.stack([first, *rest[::-1]], dim=1).unflatten(1, (2, 2))
    a, b = y.permute(2, 0, 1).contiguous().split(1)
    y = torch.cat([a.squeeze(0), b.movedim(0, -1).reshape(4, 2)], dim=1)
    y = y.roll(1, 1).flip(0).repeat(1, 2)[:, ::2].expand(4, 4).tile(1, 1).swapaxes(0, 1)
    a, b = torch.broadcast_tensors(y[:, :1], h)
    return a * b + torch.atleast_2d(y).narrow(1, 0, 4).select(0, 1) + y.repeat_interleave(2, dim=1)[:, :4]


@case("operations that may return their argument")
def returns_its_argument(net, h):
    y = net.mid(h).contiguous().to(h.dtype).to("cpu").reshape(4, 4).expand(4, 4)
    y = F.dropout(y, 0.5, training=False).type_as(h).view_as(h).cpu().flatten(1).squeeze().requires_grad_()
    z = torch.ravel(y).view(4, 4).broadcast_to(4, 4).clone().positive().real.resolve_conj()
    return z * y + y.view(h.dtype) + torch.atleast_1d(z) + F.pad(h, (0, 0)) + z[...] + nn.Identity()(z)


@case("as_strided and unfold: overlapping views")
def overlapping_views(net, h):
    y = net.mid(h)
    return y.as_strided((4, 4), (2, 1)) + y.unfold(1, 2, 1).sum(-1).repeat(1, 2)[:, :4] + y.diagonal()


@case("matrix functions", fixed="a matrix moved to other values is positive definite no more")
def linear_algebra(net, h):
    a = h @ h.t() + 2 * torch.eye(4)
    y = torch.linalg.solve(a, net.mid(h)) + torch.linalg.cholesky(a) + torch.linalg.inv(a)
    y = y + torch.logdet(a) + torch.linalg.eigvalsh(a) + torch.linalg.svdvals(a)
    q, r = torch.linalg.qr(a)
    y = torch.tanh(y)
    return y + q @ r + torch.matrix_exp(0.1 * h) + torch.linalg.vector_norm(y, dim=0) + torch.cdist(h, y)


@case("special functions, and those with kinks and poles")
def special(net, h):
    y = net.mid(h)
    y = torch.special.expit(y) + torch.erf(h) + torch.lgamma(y.abs() + 1) + torch.special.i0e(h) + torch.sinc(y)
    y = (
        y
        + torch.xlogy(h.abs(), y.abs() + 1)
        + torch.hypot(h, y)
        + torch.atan2(h, y.abs() + 1)
        + torch.special.entr(h.abs())
    )
    return y + torch.digamma(y.abs() + 1) + torch.log1p(y.abs()) + h.frac() + h.clamp(-0.5, 0.5) + h.lerp(y, 0.3)


@case("rounding and comparing: no gradient, or a zero one")
def steps(net, h):
    y = net.mid(h)
    y = (
        y
        + torch.floor(y)
        + y.sign()
        + (y > h).to(h.dtype)
        + torch.heaviside(h.detach(), torch.tensor(0.5))
        + y.ceil() * h
    )
    return y + torch.bucketize(h.detach(), torch.tensor([-0.5, 0.5])) + torch.isclose(y, h).to(h.dtype) + y.trunc()


@case("embeddings of integers made from values")
def integers(net, h):
    index = (net.mid(h).sigmoid() * 3).long().clamp(0, 3)
    return net.mid.weight[index].mean(1) + h.gather(1, index) + F.one_hot(index, 4).to(h.dtype).sum(1) * h


@case("other dtypes on the way: bfloat16, float64", rounding=1e-2)
def dtypes(net, h):
    low = net.mid(h).bfloat16().tanh()
    high = h.double().exp().sum(1, keepdim=True)
    return (low * 2).to(h.dtype) + high.to(h.dtype) * h + (h * torch.ones(4, dtype=torch.float64)).to(h.dtype)


@case("functions with many tensors: lists, tuples, keywords")
def many(net, h):
    y = torch.addmm(net.mid.bias, h, net.mid.weight, beta=0.5, alpha=2.0)
    y = torch.block_diag(y[:2, :2], h[2:, 2:]) + torch.baddbmm(h[None], y[None], h[None])[0]
    y = torch.tanh(y)
    a, b = torch.meshgrid(y[0], h[1], indexing="ij")
    y = (
        torch.linalg.multi_dot([y, h, torch.tanh(a)])
        + torch.stack((b, a)).sum(0)
        + torch.addcdiv(input=h, tensor1=y, tensor2=2 + b.abs())
    )
    return (
        torch.cartesian_prod(y[0, :2], h[0, :2]).repeat(1, 2)
        + torch.hstack([y[:, :2], h[:, :2]])
        + torch.kron(y[:2, :2], h[:2, :2])
    )


@case("distances and losses inside forward, their sum among the values")
def losses_inside(net, h):
    y = net.mid(h)
    loss = (
        F.triplet_margin_loss(h, y, h.flip(0))
        + F.cosine_embedding_loss(h, y, torch.ones(4))
        + F.huber_loss(y, h.detach())
    )
    loss = loss + F.kl_div(F.log_softmax(y, 1), F.softmax(h, 1), reduction="batchmean")
    loss = loss + F.ctc_loss(F.log_softmax(y[:, None], 2), torch.tensor([[1, 2]]), torch.tensor([4]), torch.tensor([2]))
    return y * loss + F.normalize(h) + F.cosine_similarity(y, h)[:, None] + F.pairwise_distance(y, h)[:, None]


@case("a chain of numbers only: 0-d values, item assignment, iteration over a 1-d value")
def scalars(net, h):
    total = h.new_tensor(0.0)
    for value in net.mid(h).mean(0):
        total = total * 0.5 + value.sin() * total.cos() + value
    total[...] = total * 2
    return h * total + torch.stack([total, total**2, total, total])


OPERATIONS = tuple(
    Wild(name, small(function), aim, warns=("ignore:Converting a tensor with requires_grad",), **more)
    for name, (function, aim, more) in CASES.items()
)
