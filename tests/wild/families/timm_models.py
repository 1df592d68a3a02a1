"""timm: the smallest model of each of its 98 families, with dropout and drop path where it knows them."""

from functools import partial

import timm
from building import image

# One a module of timm.models, in the modules' order.
NAMES = """
    beit_base_patch16_224 halonet_h1 mobileone_s1 cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32
    convnext_zepto_rms cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_focus_s cspnext_tiny davit_tiny
    deepseek_vit_412m deit_tiny_patch16_224 densenet121 dla46x_c dpn48b edgenext_xx_small efficientformer_l1
    efficientformerv2_s0 mobilenetv2_035 efficientvim_m1 efficientvit_b0 efficientvit_m0 eva02_tiny_patch14_224
    fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny gemma4_vit_167m ghostnet_050 hardcorenas_b hgnetv2_b0
    hiera_tiny_224 sam2_hiera_tiny hrnet_w18_small iformer_t inception_next_atto inception_resnet_v2 inception_v3
    inception_v4 lcnetv2_small levit_128s lowformer_b0 mambaout_femto coatnet_pico_rw_224 poolformerv2_s12
    gmixer_12_224 mobilenetv3_small_050 mobilenetv5_300m mobilevit_xxs mvitv2_tiny
    naflexvit_so150m2_patch16_reg1_gap nasnetalarge nest_tiny nextvit_small nf_regnet_b0 pit_ti_224 pnasnet5large
    pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetx_002 repghostnet_050 repvit_m1 res2next50 resnest14d resnet10t
    resnetv2_18 rexnet_100 selecsls42 legacy_seresnet18 sequencer2d_s shvit_s1 skresnet18 starnet_s050
    swiftformer_xs swin_tiny_patch4_window7_224 swinv2_tiny_window16_256 swinv2_cr_tiny_224 tiny_vit_5m_224
    tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vgg11 visformer_tiny vit_tiny_patch16_224
    vit_tiny_r_s16_p8_224 vit_srelpos_small_patch16_224 samvit_base_patch16_224 vitamin_small_224 volo_d1_224
    ese_vovnet19b_slim_dw legacy_xception xception41p xcit_nano_12_p8_224
"""
SIDES = {
    "halonet_h1": 256,
    "crossvit_tiny_240": 240,
    "deepseek_vit_412m": 112,
    "efficientformer_l1": 224,
    "inception_resnet_v2": 96,
    "inception_v3": 96,
    "inception_v4": 96,
}
DEPTHS = {
    "beit_base_patch16_224": 4,
    "deepseek_vit_412m": 2,
    "gemma4_vit_167m": 2,
    "naflexvit_so150m2_patch16_reg1_gap": 2,
    "qwen3_vit_88m": 4,
    "samvit_base_patch16_224": 4,
}
DROPS = ({"drop_rate": 0.1, "drop_path_rate": 0.1}, {"drop_rate": 0.1}, {"drop_path_rate": 0.1}, {})


def build(name):
    """The model, for the smallest image side of 64 or more that it takes, and its batches."""
    side = SIDES.get(name, 64)
    depth = {"depth": DEPTHS[name]} if name in DEPTHS else {}
    for options in (size | drops | depth for drops in DROPS for size in ({"img_size": side}, {})):
        try:
            return timm.create_model(name, **options), image(2, 3, side, side)
        except TypeError as error:  # an option that it does not know
            unknown = error
    raise unknown


MODELS = {name: partial(build, name) for name in NAMES.split()}
