"""Python that looks at values: if, while, item, masks, routing, recursion, logging, identity."""

import logging
import math

import torch
import torchvision
from problems import classes, vectors
from torch import nn
from torch.nn import functional as F

from wild.entry import Small, Wild, small


class EarlyExit(Small):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
        self.depths = []

    def middle(self, h):
        for depth, layer in enumerate(self.layers, 1):  # noqa: B007 (read after the loop)
            h = torch.tanh(layer(h))
            if h.abs().max() < 0.6 or bool((h.mean() > 0.1).item()):
                break
        self.depths.append(depth)
        return h


class Halting(Small):
    """Adaptive computation time: a while loop until each sample's halting probabilities sum to one."""

    def __init__(self):
        super().__init__()
        self.halt = nn.Linear(4, 1)
        self.steps = []

    def middle(self, h):
        total, out, n = torch.zeros(4, 1), torch.zeros_like(h), 0
        while (total < 0.9).any() and n < 6:
            p = torch.sigmoid(self.halt(h)) * (1 - total)
            h = torch.tanh(self.mid(h))
            out, total, n = out + p * h, total + p, n + 1
        self.steps.append(n)
        return out


class Logs(Small):
    """Everything that reports a value: item, float, int, tolist, numpy, f-strings, print's repr, asserts, a logger."""

    def __init__(self):
        super().__init__()
        self.log = []

    def middle(self, h):
        y = self.mid(h)
        norm = y.norm()
        self.log += [norm.item(), float(norm), int(norm * 10), y.detach().numpy().sum().item(), y[0].tolist()]
        self.log += [
            f"{norm:.3f}",
            repr(y.shape),
            str(norm.detach()),
            bool(norm > 0),
            len(y),
            y.size(1),
            norm.item() ** 2,
        ]
        logging.getLogger(__name__).debug("norm %s", norm)
        assert torch.isfinite(y).all() and not torch.isnan(y).any()
        torch._assert(y.shape[0] == 4, "batch")
        return y / max(norm.item(), 1.0) + math.log(1 + abs(norm.item()))


def boolean_masks(net, h):
    positive = h[:, 0] > 0
    total = net.mid(h[positive]).sum() + h[h > 0.3].sum() + torch.masked_select(h, h < 0).mean()
    rows, columns = (h > 0.2).nonzero(as_tuple=True)
    return h * total + h[rows, columns].mean() + h[torch.nonzero(positive).squeeze(1)].sum(0)


def selected(net, h):
    y = net.mid(h)
    values, index = y.topk(2, dim=1)
    ordered, _ = torch.sort(h, dim=1, descending=True)
    best = int(y.sum(0).argmax())
    middle = y.kthvalue(2, dim=1).values + y.median(dim=1).values
    return torch.cat([values * torch.gather(h, 1, index), ordered[:, :1], h[:, best : best + 1]], 1) + middle[:, None]


def zero_dimensional(net, h):
    scale = h.abs().mean()
    copy = torch.tensor(scale)  # detaches; answered wrongly, it ends the interpreter
    table = torch.tensor([scale.item(), float(scale)])
    return net.mid(h) * copy + torch.as_tensor(scale) * table.sum() + torch.as_tensor(h)


class Tree(nn.Module):
    """A recursive network on nested tuples, whose shape changes from update to update."""

    def __init__(self):
        super().__init__()
        self.leaf, self.merge, self.readout = nn.Linear(3, 4), nn.Linear(8, 4), nn.Linear(4, 3)

    def embed(self, node):
        if isinstance(node, torch.Tensor):
            return torch.tanh(self.leaf(node))
        return torch.tanh(self.merge(torch.cat([self.embed(child) for child in node])))

    def forward(self, tree):
        return self.readout(self.embed(tree["root"]))[None]


def random_tree():
    def grow(depth):
        if depth == 0 or torch.rand(()) < 0.2:
            return torch.randn(3)
        return [grow(depth - 1), grow(depth - 1)]

    return {"root": [grow(2), grow(3)]}, torch.randint(3, (1,))


class Introspects(Small):
    """Asks tensors what they are: all answers must be those that plain training gives."""

    def __init__(self):
        super().__init__()
        self.answers = []

    def middle(self, h):
        y = self.mid(h)
        z = y
        self.answers.append(
            (y.requires_grad, y.is_leaf, y.grad_fn is None, z is y, y.dtype == h.dtype, torch.is_grad_enabled())
        )
        self.answers.append(
            (type(y) is torch.Tensor, isinstance(y, nn.Parameter), y.is_contiguous(), y.stride(), h.ndim)
        )
        self.answers.append((y.data_ptr() == z.data_ptr(), y._version, y.t()._is_view(), {y: 1}[z], y.grad is None))
        try:
            y = y @ torch.ones(3, 3)
        except RuntimeError:
            y = y * 2 if y.requires_grad else y
        return y


def generated(net, h):
    """A Python generator and a comprehension between operations, a try that fails in the middle."""

    def steps(value):
        for i in range(3):
            value = torch.tanh(net.mid(value)) * (i + 1)
            yield value

    return sum(steps(h)) + torch.stack([row * row for row in h]).cumsum(0)


class Detector(nn.Module):
    """Proposals from a convolution's own scores, non-maximum suppression, pooled regions; a dict of losses in training."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Conv2d(1, 4, 3, padding=1)
        self.score, self.box = nn.Conv2d(4, 1, 1), nn.Conv2d(4, 4, 1)
        self.classify = nn.Linear(4 * 4, 3)

    def forward(self, images, targets=None):
        features = torch.relu(self.backbone(images))
        scores, deltas = self.score(features), self.box(features)
        rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
        anchors = torch.stack([columns - 2, rows - 2, columns + 2, rows + 2], dim=-1).reshape(-1, 4).to(images.dtype)
        losses = {"objectness": [], "box": [], "class": []}
        for i, target in enumerate(targets):
            boxes = anchors + deltas[i].permute(1, 2, 0).reshape(-1, 4)
            logits = scores[i].reshape(-1)
            overlap = torchvision.ops.box_iou(boxes.detach(), target["boxes"]).max(dim=1)
            positive = overlap.values > 0.3
            losses["objectness"].append(F.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype)))
            losses["box"].append(F.smooth_l1_loss(boxes[positive], target["boxes"][overlap.indices[positive]]))
            with torch.no_grad():
                clipped = torchvision.ops.clip_boxes_to_image(boxes, (8, 8))
                keep = torchvision.ops.remove_small_boxes(clipped, 0.5)
                keep = keep[torchvision.ops.nms(clipped[keep], logits[keep], 0.5)][:5]
            regions = torchvision.ops.roi_align(features[i : i + 1], [clipped[keep]], output_size=2)
            labels = target["labels"][overlap.indices[keep]]
            losses["class"].append(F.cross_entropy(self.classify(regions.flatten(1)), labels))
        return {name: torch.stack(values).mean() for name, values in losses.items()}


def images_with_boxes():
    corners = torch.rand(2, 2, 2) * 4
    boxes = torch.cat([corners, corners + 2 + 2 * torch.rand(2, 2, 2)], dim=2)
    targets = [{"boxes": b, "labels": torch.randint(3, (2,))} for b in boxes]
    return (torch.randn(2, 1, 8, 8), targets), None


class BeamSearch(Small):
    """Python's own sort over floats decides what is read on."""

    def middle(self, h):
        beams = [(0.0, h.mean(0))]
        for _ in range(3):
            grown = [
                (score + s.item(), torch.tanh(self.mid(v) * s)) for score, v in beams for s in torch.softmax(v, 0)[:2]
            ]
            beams = sorted(grown, key=lambda beam: -beam[0])[:2]
        return h + sum(v for _, v in beams)


def routed_by_gather(net, h):
    """Token choice: the strongest two tokens are processed, and put back where they were."""
    scores = net.mid(h).sum(1)
    chosen = scores.topk(2).indices.sort().values
    processed = torch.tanh(net.mid(h[chosen])) * scores[chosen].sigmoid()[:, None]
    return h.index_add(0, chosen, processed)


CONTROL = (
    Wild("early-exit", EarlyExit, "if on a value", counters=lambda m: m.depths),
    Wild(
        "halting",
        Halting,
        "while on values: another number of steps at each update",
        counters=lambda m: m.steps,
    ),
    Wild(
        "logging",
        Logs,
        "item, float, int, tolist, numpy, format, repr, assert, a logger: each answers as in plain training",
        counters=lambda m: m.log,
        warns=("ignore:Converting a tensor with requires_grad",),
    ),
    Wild("boolean-masks", small(boolean_masks), "masks, masked_select, nonzero: shapes by value"),
    Wild("top-k", small(selected), "topk, sort, kthvalue, median, argmax as a Python index"),
    Wild(
        "tensor-of-a-tensor",
        small(zero_dimensional),
        "torch.tensor and as_tensor of a 0-d value",
        warns=("ignore:To copy construct from a tensor", "ignore:Converting a tensor with requires_grad"),
    ),
    Wild("tree", Tree, "recursion over nested lists, other shapes at each update", random_tree),
    Wild(
        "introspection",
        Introspects,
        "requires_grad, is_leaf, grad_fn, is, stride, _version",
        counters=lambda m: m.answers,
        warns=("ignore:The .grad attribute of a Tensor that is not a leaf",),
    ),
    Wild("generators", small(generated), "operations inside Python generators, iteration over a tensor"),
    Wild(
        "detector",
        Detector,
        "nms, roi_align, box_iou; losses in forward",
        images_with_boxes,
        lambda o, t: sum(o.values()),
    ),
    Wild("beam-search", BeamSearch, "sorted() by item()", vectors(5)),
    Wild(
        "token-choice",
        small(routed_by_gather),
        "top-k tokens processed and added back",
        lambda: (torch.randn(4, 5), classes()),
    ),
)
