"""torchvision beyond classifiers (the zoo): detectors that return their losses, segmentation, video, optical flow."""

from functools import partial

import torch
import torchvision.models as tv
from building import image
from torch import nn

NOTHING = {"weights": None, "weights_backbone": None}
# Small images are scaled up to what a detector would rather have: not here.
SMALL = {"min_size": 96, "max_size": 128}
FEW = SMALL | {"box_batch_size_per_image": 32}
DETECTORS = {
    "fasterrcnn_resnet50_fpn": FEW,
    "fasterrcnn_resnet50_fpn_v2": FEW,
    "fasterrcnn_mobilenet_v3_large_fpn": FEW,
    "fasterrcnn_mobilenet_v3_large_320_fpn": FEW,
    "maskrcnn_resnet50_fpn": FEW,
    "keypointrcnn_resnet50_fpn": FEW,
    "retinanet_resnet50_fpn": SMALL,
    "retinanet_resnet50_fpn_v2": SMALL,
    "fcos_resnet50_fpn": SMALL,
    "ssd300_vgg16": {},
    "ssdlite320_mobilenet_v3_large": {},
}
SEGMENTERS = (
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet50",
    "fcn_resnet50",
    "lraspp_mobilenet_v3_large",
)
VIDEOS = {"mc3_18": 32, "r2plus1d_18": 32, "r3d_18": 32, "s3d": 224, "mvit_v1_b": 224, "swin3d_t": 64}


class Detector(nn.Module):
    """A detector trained on two images; forward returns its losses."""

    def __init__(self, detector):
        super().__init__()
        self.detector = detector

    def forward(self, first, second, boxes, labels, masks, keypoints):
        targets = zip(boxes, labels, masks, keypoints, strict=True)
        names = ("boxes", "labels", "masks", "keypoints")
        return self.detector([first, second], [dict(zip(names, target, strict=True)) for target in targets])


def detector(name, options):
    model = tv.get_model(name, num_classes=2 if "keypoint" in name else 5, **NOTHING, **options)
    model = Detector(model)

    def batch():
        corners = torch.rand(2, 3, 2) * 50
        boxes = torch.cat([corners, corners + 10 + torch.rand(2, 3, 2) * 30], 2)
        labels = torch.randint(1, 2 if "keypoint" in name else 5, (2, 3))
        masks = torch.rand(2, 3, 96, 112).round().byte()
        keypoints = torch.cat([corners[:, :, None] + 10 * torch.rand(2, 3, 17, 2), torch.ones(2, 3, 17, 1)], 3)
        return torch.rand(3, 96, 112), torch.rand(3, 96, 96), boxes, labels, masks, keypoints

    return model, batch


def segmenter(name):
    auxiliary = {} if "lraspp" in name else {"aux_loss": True}
    return tv.get_model(name, num_classes=5, **NOTHING, **auxiliary), image(2, 3, 64, 64)


def video(name, side):
    return tv.get_model(name, weights=None, num_classes=5), image(1 if side > 64 else 2, 3, 16, side, side)


def flow():
    return tv.get_model("raft_small", weights=None), lambda: (torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128))


MODELS = {name: partial(detector, name, options) for name, options in DETECTORS.items()}
MODELS |= {name: partial(segmenter, name) for name in SEGMENTERS}
MODELS |= {name: partial(video, name, side) for name, side in VIDEOS.items()}
MODELS["raft_small"] = flow
