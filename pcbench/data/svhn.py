"""SVHN (Street View House Numbers).

Digits from house numbers in Google Street View, cropped to 32 × 32 pixels, in colour, 10 classes.

| | |
| --- | --- |
| Source | <http://ufldl.stanford.edu/housenumbers/>, format 2 |
| Licence | for non-commercial use only |
| Splits | 73,257 training and 26,032 test examples, the official ones; the 531,131 `extra` ones are not used |
| Size | 246 MB |
| Inputs | pixels in [0, 1], less (0.4377, 0.4438, 0.4728), by (0.1980, 0.2010, 0.1970) |

## Checksums

SHA-256 of the files, which torchvision's prototype had too.

## Citation

Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Y. Ng. *Reading Digits in Natural Images with Unsupervised Feature
Learning*. NIPS Workshop on Deep Learning and Unsupervised Feature Learning, 2011.
"""

from torchvision.datasets import SVHN

from pcbench.data._images import svhn

SPEC = svhn(
    "svhn",
    SVHN,
    {
        "train": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        "test": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    },
    {"train": 182040794, "test": 64275384},
    (0.4377, 0.4438, 0.4728),
    (0.1980, 0.2010, 0.1970),
)
