"""Layers with several kernels, modes or results."""

import torch
from problems import classes, vectors
from torch import nn
from torch.nn import functional as F

from wild.entry import Wild


class Head(nn.Module):
    """A body, flattened, and a readout of its first 4 numbers."""

    def __init__(self, body):
        super().__init__()
        self.body = body
        self.readout = nn.Linear(4, 3)

    def forward(self, x):
        return self.readout(self.body(x).flatten(1)[:, :4])


class Decoder(nn.Module):
    """Down and up again in each way that images are enlarged."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.mix = nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")

    def forward(self, x):
        h = torch.relu(self.down(x))
        y = self.up(h).mean(1, keepdim=True) + F.pixel_shuffle(h, 2)
        y = y + F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)[:, :1]
        y = y + F.interpolate(h, size=(8, 8), mode="nearest")[:, 1:2]
        return self.mix(F.pixel_shuffle(F.pixel_unshuffle(y, 2), 2)).mean((2, 3)).expand(-1, 4)


class SpatialTransformer(nn.Module):
    """An affine grid from a learned localisation, an image sampled on it."""

    def __init__(self):
        super().__init__()
        self.localise = nn.Linear(64, 6)
        nn.init.zeros_(self.localise.weight)
        self.localise.bias.data.copy_(torch.tensor([1, 0, 0, 0, 1, 0.0]) + 0.05)
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x):
        grid = F.affine_grid(self.localise(x.flatten(1)).view(-1, 2, 3), list(x.shape), align_corners=False)
        return torch.relu(self.conv(F.grid_sample(x, grid, align_corners=False))).mean((2, 3))


class Pooling(nn.Module):
    """Pooling with indices and its inverse, adaptive and power pooling, im2col, local normalisation."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, groups=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)

    def forward(self, x):
        h = F.local_response_norm(torch.relu(self.conv(x)), 2)
        pooled, index = F.max_pool2d(h, 2, return_indices=True)
        h = F.max_unpool2d(pooled, index, 2) + self.depthwise(h)
        h = F.fold(F.unfold(h, 3, padding=1), (8, 8), 3, padding=1) / 9
        h = F.adaptive_max_pool2d(h, 4) + F.lp_pool2d(h, 2, 2) + F.avg_pool2d(h, 2)
        return F.adaptive_avg_pool2d(h, 1) + F.fractional_max_pool2d(h, 2, output_size=1)


class Norms(nn.Module):
    """Every normalisation, in training and with tracked statistics."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norms = nn.Sequential(
            nn.BatchNorm2d(4, momentum=None),
            nn.GroupNorm(2, 4),
            nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
            nn.BatchNorm2d(4, affine=False, track_running_stats=False),
            nn.PReLU(4),
            nn.LayerNorm([4, 6, 6]),
        )

    def forward(self, x):
        return self.norms(self.conv(x)).mean((2, 3))


class SelfAttention(nn.Module):
    """nn.MultiheadAttention with weights as a result, with masks, on other keys, batch first or not."""

    def __init__(self):
        super().__init__()
        self.first = nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True)
        self.second = nn.MultiheadAttention(8, 2, kdim=3, vdim=3, add_bias_kv=True, add_zero_attn=True)

    def forward(self, x):
        h, weights = self.first(x, x, x, need_weights=True, average_attn_weights=False)
        padding = torch.tensor([[False, False, False, True]]).expand(4, -1)
        h = h + self.first(h, x, x, need_weights=False, key_padding_mask=padding)[0]
        keys = x[..., :3].transpose(0, 1)
        h = h.transpose(0, 1) + self.second(h.transpose(0, 1), keys, keys, need_weights=False)[0]
        return h.mean(0) + weights.sum((1, 2, 3))[:, None] * h[0]


class Encoder(nn.Module):
    """torch's encoder; frozen and in eval mode it has a kernel of its own, which asks about modes and types first."""

    def __init__(self, frozen):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.2, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.frozen = frozen
        if frozen:
            self.encoder.requires_grad_(False).eval()
        self.project = nn.Linear(8, 8)

    def forward(self, x):
        h = self.encoder(x)
        if self.frozen:
            with torch.no_grad():
                h = h + self.encoder(x * 2)
        return self.project(h).mean(1)


class CausalDecoder(nn.Module):
    """Causal attention by each of its spellings."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(8, 2, 12, dropout=0.0, batch_first=True, norm_first=True)
        self.query = nn.Linear(8, 8)

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        h = self.layer(x, x, tgt_mask=mask, tgt_is_causal=True)
        q = self.query(h).view(4, -1, 2, 4).transpose(1, 2)
        h = F.scaled_dot_product_attention(q, q, q, is_causal=True, dropout_p=0.1)
        h = h + F.scaled_dot_product_attention(q, q, q, attn_mask=mask)
        return h.transpose(1, 2).flatten(2).mean(1)


class Cells(nn.Module):
    """A stack of cells by hand, with zoneout, bilinear merges and a 1-d convolution over time."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(8, 4, 2)
        self.lstm, self.gru = nn.LSTMCell(4, 4), nn.GRUCell(4, 4)
        self.merge = nn.Bilinear(4, 4, 4)

    def forward(self, x):
        steps = F.glu(torch.cat([self.conv(x.transpose(1, 2))] * 2, dim=1), dim=1).permute(2, 0, 1)
        (h, c), g = (torch.zeros(4, 4), torch.zeros(4, 4)), torch.zeros(4, 4)
        for step in steps:
            kept = torch.bernoulli(torch.full((4, 1), 0.8))
            new_h, c = self.lstm(step, (h, c))
            h = kept * new_h + (1 - kept) * h
            g = self.gru(h, g)
        return self.merge(h, g)


class Quantized(nn.Module):
    """Quantisation-aware training: observers that watch ranges, values rounded with their own derivative."""

    def __init__(self):
        super().__init__()
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(0.0))
        self.linear = nn.Linear(8, 4)

    def forward(self, x):
        h = self.linear(x.mean(1))
        with torch.no_grad():
            self.low.copy_(torch.minimum(self.low, h.min()))
            self.high.copy_(torch.maximum(self.high, h.max()))
        scale = float((self.high - self.low).clamp(min=1e-3) / 15)
        return torch.fake_quantize_per_tensor_affine(h, scale, 8, 0, 15)


def head(body):
    return lambda: Head(body())


IMAGES, SEQUENCES = vectors(1, 8, 8), vectors(4, 8)

LAYERS = (
    Wild("decoder", head(Decoder), "conv_transpose, pixel_shuffle, interpolate, reflected padding", IMAGES),
    Wild("spatial-transformer", head(SpatialTransformer), "affine_grid, grid_sample", IMAGES),
    Wild("pooling", head(Pooling), "indices as a second result, fold, fractional pooling's own draw", IMAGES),
    Wild("norms", head(Norms), "batch, group, instance and layer norm; cumulative averages", IMAGES),
    Wild("multihead-attention", head(SelfAttention), "attention weights as a result, masks, other keys", SEQUENCES),
    Wild("encoder-train", head(lambda: Encoder(False)), "a transformer encoder with dropout", SEQUENCES),
    Wild("encoder-eval", lambda: Head(Encoder(False)).eval(), "the same in eval mode, learning", SEQUENCES),
    Wild(
        "encoder-fast-path",
        head(lambda: Encoder(True)),
        "frozen and in eval mode: a mode in force must not change the kernel",
        SEQUENCES,
    ),
    Wild("causal-decoder", head(CausalDecoder), "causal masks by flag and by matrix, dropout in attention", SEQUENCES),
    Wild("cells", head(Cells), "cells with zoneout, glu, a bilinear merge", lambda: (torch.randn(4, 4, 8), classes())),
    Wild(
        "quantized",
        head(Quantized),
        "fake quantisation with a scale read as a number",
        SEQUENCES,
    ),
)
