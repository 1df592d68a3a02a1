"""Fashion-MNIST.

Zalando's articles of clothing, 28 × 28 pixels, grey, 10 classes. Offline: `apt-get install dataset-fashion-mnist`.

| | |
| --- | --- |
| Source | <https://github.com/zalandoresearch/fashion-mnist>; Debian's package `dataset-fashion-mnist` |
| Licence | MIT |
| Splits | 60,000 training and 10,000 test examples, the official ones |
| Size | 31 MB to download, 55 MB in `data/` |
| Inputs | pixels in [0, 1], less 0.2860, by 0.3530 |

## Checksums

SHA-256 of the decompressed content, computed from Debian's package; the same stand in several unrelated public projects.

## Citation

H. Xiao, K. Rasul, R. Vollgraf. *Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms*.
arXiv:1708.07747, 2017.
"""

from pathlib import Path

from torchvision.datasets import FashionMNIST

from pcbench.data._images import idx

SPEC = idx(
    "fashion-mnist",
    FashionMNIST,
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    (0.2860,),
    (0.3530,),
    mirrors=("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",),
    system=Path("/usr/share/datasets/fashion-mnist"),  # Debian's package dataset-fashion-mnist
)
