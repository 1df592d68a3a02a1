"""diffusers: U-nets, autoencoders and transformers of its pipelines, each with a few channels."""

from functools import partial

import diffusers
import torch
from building import by_keywords

T = {"timestep": lambda: torch.randint(1000, (2,))}


def drawn(*shape):
    return lambda: torch.randn(shape)


def build(kind, options, inputs, constants=None):
    """One model.

    Args:
        kind: the class's name.
        options: its configuration.
        inputs: ``{keyword: function that draws the tensor}``.
        constants: further keywords.
    """
    model = getattr(diffusers, kind)(**options)
    return by_keywords(model, lambda: {name: draw() for name, draw in inputs.items()}, **(constants or {}))


BLOCKS = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 4}
UNET = BLOCKS | {"sample_size": 16, "down_block_types": ("DownBlock2D", "AttnDownBlock2D")}
UNET |= {"up_block_types": ("AttnUpBlock2D", "UpBlock2D"), "attention_head_dim": 8, "dropout": 0.1}
CONDITION = BLOCKS | {"cross_attention_dim": 16, "attention_head_dim": 4, "sample_size": 16}
CONDITION |= {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
DECODED = {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "dropout": 0.1}
CODER = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
LATENT = T | {"sample": drawn(2, 4, 16, 16), "encoder_hidden_states": drawn(2, 5, 16)}
TRANSFORMER = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2}
IMAGE = {"hidden_states": drawn(2, 4, 8, 8)}
TEXT = {"encoder_hidden_states": drawn(2, 5, 16)}
PICTURE = {"sample": drawn(2, 3, 16, 16)}
VIDEO = {"hidden_states": drawn(1, 4, 2, 8, 8)}

MODELS = {
    "UNet2DModel": partial(build, "UNet2DModel", UNET, T | PICTURE),
    "UNet2DConditionModel": partial(build, "UNet2DConditionModel", CONDITION | DECODED, LATENT),
    "UNet1DModel": partial(
        build,
        "UNet1DModel",
        {
            "block_out_channels": (32, 64),
            "sample_size": 32,
            "in_channels": 2,
            "out_channels": 2,
            "extra_in_channels": 64,
        }
        | {
            "down_block_types": ("DownBlock1DNoSkip", "AttnDownBlock1D"),
            "up_block_types": ("AttnUpBlock1D", "UpBlock1DNoSkip"),
        },
        {"timestep": lambda: torch.tensor([7]), "sample": drawn(2, 2, 32)},
    ),
    "UNet3DConditionModel": partial(
        build,
        "UNet3DConditionModel",
        CONDITION
        | {"down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D")}
        | {"up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D")},
        LATENT | {"sample": drawn(2, 4, 2, 16, 16)},
    ),
    "ControlNetModel": partial(
        build,
        "ControlNetModel",
        {k: v for k, v in CONDITION.items() if k != "sample_size"} | {"conditioning_embedding_out_channels": (8, 16)},
        LATENT | {"controlnet_cond": drawn(2, 3, 32, 32)},
    ),
    "AutoencoderKL": partial(build, "AutoencoderKL", BLOCKS | CODER, PICTURE, {"sample_posterior": True}),
    "AutoencoderTiny": partial(
        build,
        "AutoencoderTiny",
        {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
        | {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)},
        PICTURE,
    ),
    "AsymmetricAutoencoderKL": partial(
        build,
        "AsymmetricAutoencoderKL",
        CODER | {"down_block_out_channels": (16, 32), "up_block_out_channels": (16, 32), "norm_num_groups": 4},
        PICTURE,
        {"sample_posterior": True},
    ),
    "VQModel": partial(build, "VQModel", BLOCKS | CODER | {"num_vq_embeddings": 32}, PICTURE),
    "Transformer2DModel": partial(
        build,
        "Transformer2DModel",
        TRANSFORMER | {"in_channels": 16, "norm_num_groups": 4, "cross_attention_dim": 16, "dropout": 0.1},
        {"hidden_states": drawn(2, 16, 8, 8)} | TEXT,
    ),
    "DiTTransformer2DModel": partial(
        build,
        "DiTTransformer2DModel",
        TRANSFORMER | {"in_channels": 4, "out_channels": 4, "sample_size": 8, "norm_num_groups": 4, "dropout": 0.1},
        T | IMAGE | {"class_labels": lambda: torch.randint(1000, (2,))},
    ),
    "PixArtTransformer2DModel": partial(
        build,
        "PixArtTransformer2DModel",
        TRANSFORMER
        | {"in_channels": 4, "out_channels": 8, "sample_size": 8, "cross_attention_dim": 16}
        | {"caption_channels": 16},
        T | IMAGE | TEXT,
        {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}},
    ),
    "SD3Transformer2DModel": partial(
        build,
        "SD3Transformer2DModel",
        TRANSFORMER
        | {"sample_size": 8, "in_channels": 4, "out_channels": 4, "joint_attention_dim": 16}
        | {"caption_projection_dim": 16, "pooled_projection_dim": 8, "pos_embed_max_size": 8},
        T | IMAGE | TEXT | {"pooled_projections": drawn(2, 8)},
    ),
    "FluxTransformer2DModel": partial(
        build,
        "FluxTransformer2DModel",
        TRANSFORMER
        | {"in_channels": 4, "num_single_layers": 1, "joint_attention_dim": 16, "pooled_projection_dim": 8}
        | {"axes_dims_rope": (2, 2, 4), "num_layers": 1, "guidance_embeds": False},
        {"timestep": lambda: torch.rand(2), "hidden_states": drawn(2, 16, 4), "pooled_projections": drawn(2, 8)}
        | {"img_ids": lambda: torch.arange(48.0).view(16, 3), "txt_ids": lambda: torch.zeros(5, 3)}
        | TEXT,
    ),
    "AuraFlowTransformer2DModel": partial(
        build,
        "AuraFlowTransformer2DModel",
        {"sample_size": 8, "in_channels": 4, "out_channels": 4, "num_mmdit_layers": 1, "num_single_dit_layers": 1}
        | {"attention_head_dim": 8, "num_attention_heads": 2, "joint_attention_dim": 16, "caption_projection_dim": 16}
        | {"pos_embed_max_size": 16},
        T | IMAGE | TEXT,
    ),
    "SanaTransformer2DModel": partial(
        build,
        "SanaTransformer2DModel",
        TRANSFORMER
        | {"in_channels": 4, "out_channels": 4, "num_cross_attention_heads": 2, "sample_size": 8}
        | {"cross_attention_head_dim": 8, "cross_attention_dim": 16, "caption_channels": 16},
        T | IMAGE | TEXT,
    ),
    "WanTransformer3DModel": partial(
        build,
        "WanTransformer3DModel",
        TRANSFORMER
        | {"in_channels": 4, "out_channels": 4, "text_dim": 16, "freq_dim": 16, "ffn_dim": 32}
        | {"attention_head_dim": 12, "rope_max_seq_len": 32},
        {"timestep": lambda: torch.randint(1000, (1,)), "encoder_hidden_states": drawn(1, 5, 16)} | VIDEO,
    ),
    "CogVideoXTransformer3DModel": partial(
        build,
        "CogVideoXTransformer3DModel",
        TRANSFORMER
        | {"in_channels": 4, "out_channels": 4, "time_embed_dim": 8, "text_embed_dim": 16, "dropout": 0.1}
        | {"sample_width": 8, "sample_height": 8, "sample_frames": 9, "max_text_seq_length": 5},
        {"timestep": lambda: torch.randint(1000, (1,)), "encoder_hidden_states": drawn(1, 5, 16)}
        | {"hidden_states": drawn(1, 2, 4, 8, 8)},
    ),
    "PriorTransformer": partial(
        build,
        "PriorTransformer",
        TRANSFORMER | {"embedding_dim": 8, "num_embeddings": 5, "additional_embeddings": 4, "dropout": 0.1},
        T | {"hidden_states": drawn(2, 8), "proj_embedding": drawn(2, 8), "encoder_hidden_states": drawn(2, 5, 8)},
    ),
}
