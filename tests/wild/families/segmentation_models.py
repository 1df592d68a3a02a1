"""segmentation-models-pytorch: each of its decoders, on small encoders of several kinds."""

from functools import partial

import segmentation_models_pytorch as smp
from building import image

ENCODERS = {
    "Unet": "resnet18",
    "UnetPlusPlus": "mobilenet_v2",
    "MAnet": "efficientnet-b0",
    "Linknet": "resnet18",
    "FPN": "densenet121",
    "PSPNet": "resnet18",
    "DeepLabV3": "resnet18",
    "DeepLabV3Plus": "timm-mobilenetv3_small_100",
    "PAN": "resnet18",
    "UPerNet": "resnet18",
    "Segformer": "mit_b0",
    "DPT": "tu-vit_tiny_patch16_224",
}


def build(decoder, encoder):
    if decoder == "DPT":
        return smp.DPT(encoder, encoder_weights=None, decoder_readout="ignore", dynamic_img_size=True), image(
            2, 3, 64, 64
        )
    auxiliary = {"classes": 3, "dropout": 0.2}  # a classifier of the whole image beside the decoder
    model = getattr(smp, decoder)(encoder, encoder_weights=None, classes=3, aux_params=auxiliary)
    side = 128 if decoder == "PAN" else 64  # its pyramid halves three times more
    return model, image(2, 3, side, side)


MODELS = {f"{decoder} {encoder}": partial(build, decoder, encoder) for decoder, encoder in ENCODERS.items()}
