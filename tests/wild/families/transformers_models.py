"""transformers: its architectures from small configurations, with eager and with fused ("sdpa") attention."""

import inspect
from functools import partial

import torch
import transformers
from building import by_keywords, tokens

VOCABULARY, LENGTH = 99, 16
# What most configurations of text models call the same things.
WORDS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TINY = WORDS | {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "attention_dropout": 0.1,
    "use_cache": False,
}
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
EXPERTS = GROUPED | {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
EXPERTS |= {"shared_expert_intermediate_size": 16, "decoder_sparse_step": 1, "output_router_logits": True}
LATENT = EXPERTS | {"n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "kv_lora_rank": 8}
LATENT |= {"q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8, "n_group": 2}
LATENT |= {"topk_group": 1, "topk_method": "group_limited_greedy", "num_key_value_heads": 4, "head_dim": 4}
SEQ2SEQ = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4}
SEQ2SEQ |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "decoder_start_token_id": 1}
SEQ2SEQ |= {"forced_eos_token_id": None, "activation_dropout": 0.1}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
VIT = LAYERS | {"image_size": 32, "patch_size": 8, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
VIT |= {"attention_dropout": 0.1}
STAGES = {"image_size": 32, "hidden_sizes": [16, 32, 32, 32], "depths": [1, 1, 1, 1], "drop_path_rate": 0.1}
SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 2], "num_heads": [2, 4], "window_size": 4}
SWIN |= {"drop_path_rate": 0.1}
SPEECH = LAYERS | {"conv_dim": (16, 16), "conv_kernel": (8, 4), "conv_stride": (4, 2), "num_feat_extract_layers": 2}
SPEECH |= {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "feat_extract_norm": "layer"}
SPEECH |= {"do_stable_layer_norm": True, "layerdrop": 0.0, "hidden_dropout": 0.1, "mask_time_length": 2}
SPEECH |= {"mask_time_prob": 0.3, "mask_time_min_masks": 1}

# Causal language models: class before ForCausalLM, and what the configuration needs beside TINY.
CAUSAL = {
    "Llama": GROUPED,
    "Mistral": GROUPED | {"sliding_window": 8},
    "Mixtral": EXPERTS,
    "Qwen2": GROUPED,
    "Qwen2Moe": EXPERTS,
    "Qwen3": GROUPED,
    "Qwen3Moe": EXPERTS,
    "Qwen3Next": EXPERTS
    | {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8}
    | {"linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"]},
    "DeepseekV2": LATENT,
    "DeepseekV3": LATENT,
    "Gemma": GROUPED,
    "Gemma2": GROUPED | {"sliding_window": 8},
    "Gemma3": GROUPED | {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "Phi": {"resid_pdrop": 0.1, "embd_pdrop": 0.1},
    "Phi3": GROUPED | {"resid_pdrop": 0.1},
    "Phimoe": EXPERTS,
    "GPTJ": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4},
    "GPTNeo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 8},
    "GPTNeoX": {"hidden_dropout": 0.1},
    "GPTBigCode": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "CodeGen": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_ctx": 64, "rotary_dim": 4},
    "OPT": {"ffn_dim": 64, "word_embed_proj_dim": 16, "layerdrop": 0.1},
    "Bloom": {"n_layer": 2, "n_head": 4, "hidden_dropout": 0.1},
    "Falcon": {"alibi": False, "hidden_dropout": 0.1},
    "Mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64},
    "StableLm": {"num_key_value_heads": 4, "hidden_dropout": 0.1, "qk_layernorm": True, "use_parallel_residual": True},
    "Cohere": GROUPED | {"use_qk_norm": True},
    "Cohere2": GROUPED | {"sliding_window": 8},
    "Olmo": GROUPED | {"clip_qkv": 0.5},
    "Olmo2": GROUPED,
    "Olmoe": EXPERTS,
    "Granite": GROUPED,
    "GraniteMoe": EXPERTS,
    "Starcoder2": GROUPED | {"residual_dropout": 0.1},
    "Persimmon": {"hidden_dropout": 0.1},
    "Nemotron": GROUPED,
    "GptOss": EXPERTS | {"sliding_window": 8},
    "Glm": GROUPED,
    "Helium": GROUPED,
    "SmolLM3": GROUPED,
    "Ernie4_5": GROUPED,
    "Exaone4": GROUPED,
    "DiffLlama": GROUPED | {"attention_dropout": 0.0},
    "JetMoe": EXPERTS | {"kv_channels": 8},
    "Dbrx": {
        "d_model": 32,
        "n_heads": 4,
        "n_layers": 2,
        "max_seq_len": 64,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
    }
    | {"ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2}},
    "RecurrentGemma": GROUPED | {"lru_width": 32, "attention_window_size": 8, "num_hidden_layers": 3},
    "Mamba": {"state_size": 4},
    "Mamba2": {"state_size": 4, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 4},
    "FalconMamba": {"state_size": 4},
    "Jamba": EXPERTS
    | {"attn_layer_offset": 1, "attn_layer_period": 2, "expert_layer_period": 2, "mamba_d_state": 4}
    | {"expert_layer_offset": 1, "use_mamba_kernels": False},
    "Bamba": GROUPED
    | {"attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 4}
    | {"mamba_n_groups": 2, "mamba_chunk_size": 4},
    "Zamba2": GROUPED
    | {"mamba_d_state": 4, "n_mamba_heads": 8, "mamba_headdim": 8, "mamba_ngroups": 2}
    | {"chunk_size": 4, "layers_block_type": ["mamba", "hybrid"], "num_mem_blocks": 1, "use_mamba_kernels": False},
    "Rwkv": {"attention_hidden_size": 32},
    "xLSTM": {"num_heads": 4, "embedding_dim": 32, "num_blocks": 2, "chunk_size": 8},
    "MiniMax": EXPERTS | {"block_size": 8, "layer_types": ["linear_attention", "full_attention"]},
    "Lfm2": GROUPED | {"layer_types": ["conv", "full_attention"]},
    "XGLM": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64, "layerdrop": 0.1},
    "BioGpt": {"layerdrop": 0.1},
    "NanoChat": GROUPED,
    "BitNet": GROUPED,
}
# The same with other names of their classes.
TEXT = {
    "GPT2LMHeadModel": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "OpenAIGPTLMHeadModel": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "CTRLLMHeadModel": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "dff": 64},
    "XLNetLMHeadModel": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
    "ReformerModelWithLMHead": {
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": [4, 4],
        "axial_pos_embds_dim": [16, 16],
    }
    | {"feed_forward_size": 64, "attention_head_size": 8, "is_decoder": True, "hash_seed": None, "num_buckets": 4}
    | {"local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4},
    "BertForMaskedLM": {},
    "AlbertForMaskedLM": {"embedding_size": 16, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "RobertaForMaskedLM": {},
    "XLMRobertaXLForMaskedLM": {},
    "DistilBertForMaskedLM": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "DebertaForMaskedLM": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "DebertaV2ForMaskedLM": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "conv_kernel_size": 3},
    "ElectraForMaskedLM": {"embedding_size": 16},
    "BigBirdForMaskedLM": {"block_size": 2, "num_random_blocks": 1, "attention_type": "block_sparse"},
    "LongformerForMaskedLM": {"attention_window": 4},
    "FunnelForMaskedLM": {"block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 32, "n_head": 4, "d_head": 8}
    | {"d_inner": 64},
    "FNetForMaskedLM": {"tpu_short_seq_length": LENGTH},
    "MobileBertForMaskedLM": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "MPNetForMaskedLM": {},
    "ConvBertForMaskedLM": {"embedding_size": 16, "conv_kernel_size": 3, "head_ratio": 2},
    "SqueezeBertForMaskedLM": {"embedding_size": 32},
    "XLMWithLMHeadModel": {"emb_dim": 32, "n_layers": 2, "n_heads": 4},
    "FlaubertWithLMHeadModel": {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "layerdrop": 0.1},
    "ModernBertForMaskedLM": {"local_attention": 8, "global_attn_every_n_layers": 2, "embedding_dropout": 0.1},
    "NystromformerForMaskedLM": {"segment_means_seq_len": LENGTH, "num_landmarks": 4, "conv_kernel_size": 3},
    "YosoForMaskedLM": {"use_expectation": True},
    "PerceiverForMaskedLM": {"max_position_embeddings": LENGTH}
    | {
        "d_model": 16,
        "d_latents": 16,
        "num_latents": 8,
        "num_blocks": 2,
        "num_self_attends_per_block": 1,
    }
    | {"num_self_attention_heads": 4, "num_cross_attention_heads": 4, "qk_channels": 16, "v_channels": 16},
    "RoFormerForMaskedLM": {"embedding_size": 32},
    "IBertForMaskedLM": {"quant_mode": True},
    "MegatronBertForMaskedLM": {},
    "EsmForMaskedLM": {"mask_token_id": 3, "position_embedding_type": "rotary", "token_dropout": True},
    "XmodForMaskedLM": {"languages": ["en_XX"], "default_language": "en_XX"},
    "CanineModel": {"num_hash_buckets": 16, "local_transformer_stride": 4, "downsampling_rate": 4},
    "DPRQuestionEncoder": {},
}
# An encoder, a decoder, and labels.
TRANSLATORS = {
    "T5ForConditionalGeneration": T5,
    "UMT5ForConditionalGeneration": T5 | {"feed_forward_proj": "gated-gelu"},
    "LongT5ForConditionalGeneration": T5
    | {"encoder_attention_type": "transient-global", "local_radius": 3}
    | {"global_block_size": 4},
    "SwitchTransformersForConditionalGeneration": T5
    | {"num_experts": 4, "expert_capacity": 8, "num_sparse_encoder_layers": 1}
    | {"num_sparse_decoder_layers": 1, "num_decoder_layers": 2, "router_jitter_noise": 0.1},
    "BartForConditionalGeneration": SEQ2SEQ | {"encoder_layerdrop": 0.1},
    "MBartForConditionalGeneration": SEQ2SEQ,
    "PegasusForConditionalGeneration": SEQ2SEQ,
    "PegasusXForConditionalGeneration": SEQ2SEQ | {"num_global_tokens": 4, "block_size": 4},
    "BigBirdPegasusForConditionalGeneration": SEQ2SEQ | {"block_size": 2, "num_random_blocks": 1},
    "M2M100ForConditionalGeneration": SEQ2SEQ | {"encoder_layerdrop": 0.1, "decoder_layerdrop": 0.1},
    "NllbMoeForConditionalGeneration": SEQ2SEQ
    | {"num_experts": 4, "encoder_sparse_step": 2, "decoder_sparse_step": 2}
    | {"expert_capacity": 8},
    "MarianMTModel": SEQ2SEQ,
    "BlenderbotForConditionalGeneration": SEQ2SEQ,
    "PLBartForConditionalGeneration": SEQ2SEQ,
    "LEDForConditionalGeneration": SEQ2SEQ | {"attention_window": 4},
    "ProphetNetForConditionalGeneration": {"num_encoder_layers": 2, "num_decoder_layers": 2, "ngram": 2}
    | {"num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    | {"decoder_start_token_id": 1},
}
# Models of one image.
IMAGES = {
    "ViTForImageClassification": VIT,
    "DeiTForImageClassification": VIT,
    "BeitForImageClassification": VIT | {"drop_path_rate": 0.1, "use_relative_position_bias": True},
    "Data2VecVisionForImageClassification": VIT | {"drop_path_rate": 0.1, "use_shared_relative_position_bias": True},
    "Dinov2ForImageClassification": VIT | {"drop_path_rate": 0.1, "mlp_ratio": 2, "use_swiglu_ffn": True},
    "Dinov2WithRegistersForImageClassification": VIT | {"drop_path_rate": 0.1, "mlp_ratio": 2},
    "DINOv3ViTModel": VIT | {"drop_path_rate": 0.1, "num_register_tokens": 2},
    "ViTMAEForPreTraining": VIT
    | {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1}
    | {"decoder_num_attention_heads": 2, "decoder_intermediate_size": 32},
    "ViTMSNForImageClassification": VIT,
    "YolosModel": VIT | {"image_size": [32, 32], "num_detection_tokens": 3},
    "DPTForSemanticSegmentation": VIT
    | {"backbone_out_indices": [0, 1, 2, 3], "num_hidden_layers": 4, "neck_hidden_sizes": [8, 8, 8, 8]}
    | {"fusion_hidden_size": 8, "is_hybrid": False},
    "SwinForImageClassification": SWIN,
    "Swinv2ForImageClassification": SWIN,
    "DonutSwinModel": SWIN,
    "Swin2SRForImageSuperResolution": {"image_size": 16, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2]}
    | {"window_size": 4, "upscale": 2, "num_feat": 8, "drop_path_rate": 0.1},
    "ConvNextForImageClassification": STAGES,
    "ConvNextV2ForImageClassification": STAGES,
    "ResNetForImageClassification": STAGES | {"embedding_size": 16, "layer_type": "basic"},
    "RegNetForImageClassification": STAGES | {"embedding_size": 16, "groups_width": 8},
    "PoolFormerForImageClassification": STAGES | {"layer_scale_init_value": 0.1},
    "SegformerForSemanticSegmentation": STAGES
    | {"num_attention_heads": [1, 2, 2, 2], "decoder_hidden_size": 16}
    | {"attention_probs_dropout_prob": 0.1},
    "GLPNForDepthEstimation": STAGES | {"num_attention_heads": [1, 2, 2, 2], "decoder_hidden_size": 16},
    "PvtForImageClassification": STAGES | {"num_attention_heads": [1, 2, 2, 2]},
    "PvtV2ForImageClassification": STAGES | {"num_attention_heads": [1, 2, 2, 2]},
    "CvtForImageClassification": {"embed_dim": [8, 16, 32], "num_heads": [1, 2, 4], "depth": [1, 2, 3]}
    | {"drop_path_rate": [0.0, 0.0, 0.1], "drop_rate": [0.1, 0.1, 0.1]},
    "LevitForImageClassification": {"image_size": 64, "hidden_sizes": [16, 32, 48], "num_attention_heads": [2, 2, 2]}
    | {"depths": [1, 1, 1], "key_dim": [8, 8, 8]},
    "MobileViTForImageClassification": {
        "image_size": 64,
        "hidden_sizes": [16, 16, 16],
        "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 16],
    }
    | {"num_attention_heads": 2},
    "MobileViTV2ForImageClassification": {"image_size": 64, "width_multiplier": 0.25, "n_attn_blocks": [1, 1, 1]},
    "MobileNetV1ForImageClassification": {"image_size": 64, "depth_multiplier": 0.25},
    "MobileNetV2ForImageClassification": {"image_size": 64, "depth_multiplier": 0.25},
    "EfficientNetForImageClassification": {"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.25}
    | {"hidden_dim": 320},
    "SwiftFormerForImageClassification": {"depths": [1, 1, 1, 1], "embed_dims": [16, 16, 32, 32], "image_size": 64}
    | {"drop_path_rate": 0.1},
    "FocalNetForImageClassification": {"image_size": 32, "embed_dim": 8, "depths": [1, 1, 1, 1], "drop_path_rate": 0.1},
    "HieraForImageClassification": {
        "image_size": [32, 32],
        "embed_dim": 16,
        "depths": [1, 1, 1],
        "num_heads": [1, 2, 2],
    }
    | {"patch_stride": [4, 4], "query_stride": [2, 2], "masked_unit_size": [4, 4], "num_query_pool": 2}
    | {"masked_unit_attention": [True, True, False], "drop_path_rate": 0.1},
    "BitForImageClassification": STAGES | {"embedding_size": 16, "num_groups": 8},
    "SiglipVisionModel": VIT,
    "CLIPVisionModel": VIT,
    "VitDetModel": VIT
    | {"drop_path_rate": 0.1, "window_size": 2, "window_block_indices": [0], "pretrain_image_size": 32}
    | {"use_relative_position_embeddings": True},
}
# Models of one wave form.
SOUNDS = {
    "Wav2Vec2Model": SPEECH,
    "Wav2Vec2ConformerModel": SPEECH | {"conformer_conv_dropout": 0.1},
    "HubertModel": SPEECH,
    "WavLMModel": SPEECH | {"num_buckets": 8, "max_bucket_distance": 16},
    "UniSpeechModel": SPEECH,
    "UniSpeechSatModel": SPEECH,
    "Data2VecAudioModel": SPEECH | {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 3},
    "SEWModel": SPEECH | {"squeeze_factor": 2},
    "SEWDModel": SPEECH | {"squeeze_factor": 2, "position_buckets": 8},
}
# Several configurations in one, or several kinds of input: configuration, and what each keyword is.
BACKBONE = {"backbone_config": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16]}}
BACKBONE["backbone_config"] |= {"depths": [1, 1, 1, 1], "out_features": ["stage4"], "layer_type": "basic"}
PYRAMID = {"backbone_config": BACKBONE["backbone_config"] | {"out_features": ["stage2", "stage3", "stage4"]}}
DETR = BACKBONE | {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}
DETR |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_queries": 5, "use_timm_backbone": False}
DETR |= {"use_pretrained_backbone": False, "num_labels": 3, "auxiliary_loss": True, "attention_dropout": 0.1}
SERIES = {"prediction_length": 4, "context_length": 8, "lags_sequence": [1, 2], "num_time_features": 1, "d_model": 16}
SERIES |= {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
SERIES |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "input_size": 1, "num_static_categorical_features": 0}
PATCHES = {"num_input_channels": 2, "context_length": 32, "patch_length": 8, "patch_stride": 8, "prediction_length": 4}


def draw_text():
    return {"input_ids": tokens(LENGTH)}


def draw_image(side=32):
    return {"pixel_values": torch.randn(2, 3, side, side)}


def draw_video():
    return {"pixel_values": torch.randn(2, 4, 3, 32, 32)}


def draw_series():
    past = {"past_values": torch.rand(2, 10), "past_time_features": torch.randn(2, 10, 1)}
    past["past_observed_mask"] = torch.ones(2, 10)
    return past | {"future_values": torch.rand(2, 4), "future_time_features": torch.randn(2, 4, 1)}


def draw_episode():
    found = {"states": torch.randn(2, 5, 3), "actions": torch.randn(2, 5, 2), "rewards": torch.randn(2, 5, 1)}
    found |= {"returns_to_go": torch.randn(2, 5, 1), "timesteps": torch.arange(5).repeat(2, 1)}
    return found | {"attention_mask": torch.ones(2, 5)}


def draw_detection():
    return draw_image(64)


TOWERS = {"text_config": TINY, "vision_config": VIT, "projection_dim": 16}
OTHERS = {
    "CLIPModel": (TOWERS, lambda: draw_text() | draw_image(), {"return_loss": True}),
    "SiglipModel": (TOWERS, lambda: draw_text() | draw_image(), {"return_loss": True}),
    "BlipForConditionalGeneration": (TOWERS, lambda: draw_text() | draw_image() | {"labels": tokens(LENGTH)}),
    "GroupViTModel": (
        {
            "text_config": TINY,
            "vision_config": VIT | {"depths": [1, 1, 1], "num_group_tokens": [4, 2, 0], "num_output_groups": [4, 2, 2]},
            "projection_dim": 16,
            "projection_intermediate_dim": 32,
        },
        lambda: draw_text() | draw_image(),
        {"return_loss": True},
    ),
    "OwlViTModel": (TOWERS, lambda: {"input_ids": tokens(LENGTH, batch=2)} | draw_image(), {"return_loss": True}),
    "FlavaModel": (
        {
            "text_config": TINY,
            "image_config": VIT,
            "multimodal_config": LAYERS,
            "hidden_size": 32,
            "projection_dim": 16,
        },
        lambda: draw_text() | draw_image(),
    ),
    "ViltModel": (TINY | VIT, lambda: draw_text() | draw_image()),
    "VisualBertModel": (
        TINY | {"visual_embedding_dim": 16},
        lambda: draw_text() | {"visual_embeds": torch.randn(2, 4, 16)},
    ),
    "LxmertModel": (
        TINY | {"visual_feat_dim": 16, "l_layers": 1, "x_layers": 1, "r_layers": 1},
        lambda: draw_text() | {"visual_feats": torch.randn(2, 4, 16), "visual_pos": torch.rand(2, 4, 4)},
    ),
    "LayoutLMModel": (TINY, draw_text),
    "LayoutLMv3Model": (
        TINY
        | {"input_size": 32, "patch_size": 8, "coordinate_size": 5, "shape_size": 6, "max_2d_position_embeddings": 64},
        lambda: draw_text() | draw_image() | {"bbox": torch.arange(4).repeat(2, LENGTH, 1)},
    ),
    "LlavaForConditionalGeneration": (
        {
            "text_config": TINY | GROUPED | {"model_type": "llama"},
            "vision_config": VIT | {"model_type": "clip_vision_model"},
            "image_token_index": 3,
            "image_seq_length": 16,
            "vision_feature_layer": -1,
        },
        lambda: draw_image() | {"input_ids": torch.cat([torch.full((2, 16), 3), tokens(LENGTH)], 1)},
    ),
    "DetrForObjectDetection": (DETR, draw_detection),
    "ConditionalDetrForObjectDetection": (DETR, draw_detection),
    "DeformableDetrForObjectDetection": (DETR | PYRAMID | {"num_feature_levels": 3}, draw_detection),
    "TableTransformerForObjectDetection": (DETR, draw_detection),
    "WhisperForConditionalGeneration": (
        TINY | SEQ2SEQ | {"num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 32},
        lambda: {"input_features": torch.randn(2, 8, 32), "labels": tokens(LENGTH)},
    ),
    "Speech2TextForConditionalGeneration": (
        TINY
        | SEQ2SEQ
        | {"input_feat_per_channel": 8, "max_source_positions": 64, "max_target_positions": 32, "conv_channels": 16},
        lambda: {"input_features": torch.randn(2, 32, 8), "labels": tokens(LENGTH)},
    ),
    "ASTForAudioClassification": (
        VIT | {"num_mel_bins": 16, "max_length": 32, "patch_size": 8, "frequency_stride": 8, "time_stride": 8},
        lambda: {"input_values": torch.randn(2, 32, 16)},
    ),
    "EncodecModel": (
        {"num_filters": 4, "hidden_size": 8, "codebook_dim": 8, "codebook_size": 16, "upsampling_ratios": [4, 2]}
        | {"num_residual_layers": 1, "num_lstm_layers": 1},
        lambda: {"input_values": torch.randn(2, 1, 64)},
    ),
    "FSMTForConditionalGeneration": (
        TINY | SEQ2SEQ | {"langs": ["en", "de"], "src_vocab_size": VOCABULARY, "tgt_vocab_size": VOCABULARY},
        lambda: {"input_ids": tokens(LENGTH), "decoder_input_ids": tokens(12), "labels": tokens(12)},
    ),
    "VideoMAEForVideoClassification": (VIT | {"num_frames": 4}, draw_video),
    "TimesformerForVideoClassification": (VIT | {"num_frames": 4}, draw_video),
    "VivitForVideoClassification": (VIT | {"num_frames": 4, "tubelet_size": [2, 8, 8]}, draw_video),
    "DecisionTransformerModel": (
        {"state_dim": 3, "act_dim": 2, "hidden_size": 32, "max_ep_len": 16, "n_layer": 2, "n_head": 4},
        draw_episode,
    ),
    "TimeSeriesTransformerForPrediction": (SERIES, draw_series),
    "InformerForPrediction": (SERIES, draw_series),
    "AutoformerForPrediction": (SERIES | {"moving_average": 3, "label_length": 4}, draw_series),
    "PatchTSTForPrediction": (
        PATCHES | {"d_model": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "ffn_dim": 32, "path_dropout": 0.1},
        lambda: {"past_values": torch.randn(2, 32, 2), "future_values": torch.randn(2, 4, 2)},
    ),
    "PatchTSMixerForPrediction": (
        PATCHES | {"d_model": 16, "num_layers": 2, "self_attn": True, "self_attn_heads": 2, "dropout": 0.1},
        lambda: {"past_values": torch.randn(2, 32, 2), "future_values": torch.randn(2, 4, 2)},
    ),
}


# Their configurations refuse what others are given.
UNLIKE = ("XLNetLMHeadModel", "FunnelForMaskedLM", "ProphetNetForConditionalGeneration")
# Cannot add a mask to its landmarks.
UNMASKED = ("NystromformerForMaskedLM",)
# Seeds torch's generator from the clock in forward, so that no rule repeats itself: here from that generator.
CLOCKED = ("ReformerModelWithLMHead",)


def build(kind, options, attention, draw, constants=None):
    """One model with random weights; its second text is shorter than the first, where it knows of padding."""
    model = getattr(transformers, kind)
    masked = kind not in UNMASKED and "attention_mask" in inspect.signature(model.forward).parameters
    # Their backbone is a convolutional network.
    attention = {"": attention, "backbone_config": "eager"} if "backbone_config" in options else attention
    if kind in CLOCKED:
        torch.seed = lambda: int(torch.randint(2**62, ()))
    model = model._from_config(model.config_class(**options), attn_implementation=attention)

    def batch():
        found = draw()
        if "input_ids" in found and masked:
            found["attention_mask"] = torch.ones_like(found["input_ids"])
            found["attention_mask"][1, -4:] = 0
        return found

    return by_keywords(model, batch, **(constants or {}))


def draw_labelled():
    text = tokens(LENGTH)
    return {"input_ids": text, "labels": text}


def draw_translated():
    return {"input_ids": tokens(LENGTH), "labels": tokens(12)}


def draw_sound():
    return {"input_values": torch.randn(2, 400)}


def listed():
    """``{class: (configuration, draw, constants)}`` of all."""
    found = {f"{name}ForCausalLM": (options, draw_labelled) for name, options in CAUSAL.items()}
    for name, options in TEXT.items():
        found[name] = options, draw_labelled if "LM" in name else draw_text
    found |= {name: (options, draw_translated) for name, options in TRANSLATORS.items()}
    found = {name: ((WORDS if name in UNLIKE else TINY) | options, draw) for name, (options, draw) in found.items()}
    for name, options in IMAGES.items():
        side = options.get("image_size", 32)
        draw = partial(draw_image, side if isinstance(side, int) else side[0])
        found[name] = options | {"num_labels": 3}, draw
    return found | {name: (options, draw_sound) for name, options in SOUNDS.items()} | OTHERS


MODELS = {}
for kind, (options, draw, *constants) in listed().items():
    for attention in ("eager", "sdpa") if getattr(transformers, kind)._supports_sdpa else ("eager",):
        MODELS[f"{kind} {attention}"] = partial(build, kind, options, attention, draw, *constants)
