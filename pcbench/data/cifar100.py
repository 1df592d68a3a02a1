"""CIFAR-100.

Photographs, 32 × 32 pixels, in colour, 100 fine classes.

| | |
| --- | --- |
| Source | <https://www.cs.toronto.edu/~kriz/cifar.html>, the Python version |
| Licence | none is stated; the images are from the web (80 Million Tiny Images) |
| Splits | 50,000 training and 10,000 test examples, the official ones |
| Size | 169 MB to download, 186 MB in `data/` |
| Inputs | pixels in [0, 1], less (0.5071, 0.4865, 0.4409), by (0.2673, 0.2564, 0.2762) |

## Checksums

SHA-256 of the content of the archive, found in several unrelated public projects, beside the MD5s that torchvision has and
verifies too. These files are Python pickles: they are loaded only after they have verified.

## Citation

A. Krizhevsky. *Learning Multiple Layers of Features from Tiny Images*. Technical report, University of Toronto, 2009.
"""

from torchvision.datasets import CIFAR100

from pcbench.data._images import cifar

SPEC = cifar(
    "cifar100",
    CIFAR100,
    {
        "train": "735e79b04f092ca3d2e6d07f368c0a7d70d48c48d28865950cc24454cf45129b",
        "test": "4b67687d9933c4db8f0831104447f15b93774f4f464bd0516f0f0f2ac83b7864",
        "meta": "a5d4786345c961390f865e93b434dbd5c6904ce880667e0cb888c97d449f28b9",
    },
    {"train": 160 * 10**6, "test": 32 * 10**6, "meta": 10**4},
    (0.5071, 0.4865, 0.4409),
    (0.2673, 0.2564, 0.2762),
)
