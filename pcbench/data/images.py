"""Image data sets, read by torchvision, from files that were verified before."""

from pathlib import Path

import torchvision

from pcbench.data._store import File, Spec, download
from pcbench.data._types import Dataset, Split

RAW = "FashionMNIST/raw/"  # where torchvision looks for the decompressed files
MEAN, STANDARD_DEVIATION = 0.2860, 0.3530  # of Fashion-MNIST's training pixels, in [0, 1]


def _make_fashion(folder):
    mirrors = torchvision.datasets.FashionMNIST.mirrors
    download("fashion-mnist", FASHION_MNIST.files, folder, mirrors, Path("/usr/share/datasets/fashion-mnist"))


def _read_fashion(folder):
    def split(train):
        images = torchvision.datasets.FashionMNIST(folder, train=train, download=False)
        inputs = images.data.unsqueeze(1).float().div_(255).sub_(MEAN).div_(STANDARD_DEVIATION)
        return Split(inputs, images.targets)

    classes = tuple(torchvision.datasets.FashionMNIST.classes)
    return Dataset("fashion-mnist", split(True), split(False), classes, FASHION_MNIST.sha256)


FASHION_MNIST = Spec(
    "fashion-mnist",
    (
        File(
            RAW + "train-images-idx3-ubyte",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            47040016,
            "train-images-idx3-ubyte.gz",
        ),
        File(
            RAW + "train-labels-idx1-ubyte",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            60008,
            "train-labels-idx1-ubyte.gz",
        ),
        File(
            RAW + "t10k-images-idx3-ubyte",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            7840016,
            "t10k-images-idx3-ubyte.gz",
        ),
        File(
            RAW + "t10k-labels-idx1-ubyte",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            10008,
            "t10k-labels-idx1-ubyte.gz",
        ),
    ),
    _make_fashion,
    _read_fashion,
    "delete the folder and fetch again",
)
SPECS = (FASHION_MNIST,)
