"""KMNIST (Kuzushiji-MNIST).

Cursive hiragana from classical Japanese books, 28 × 28 pixels, grey, 10 classes.

| | |
| --- | --- |
| Source | <http://codh.rois.ac.jp/kmnist/> |
| Licence | CC BY-SA 4.0 |
| Splits | 60,000 training and 10,000 test examples, the official ones |
| Size | 21 MB to download, 55 MB in `data/` |
| Inputs | pixels in [0, 1], less 0.1918, by 0.3483 |

## Checksums

SHA-256 of the official archives: nobody publishes the content's. `pcbench fetch` verifies the archives, and writes the
content's into `data/SHA256SUMS`, against which it is verified whenever it is loaded.

## Citation

T. Clanuwat, M. Bober-Irizar, A. Kitamoto, A. Lamb, K. Yamamoto, D. Ha. *Deep Learning for Classical Japanese Literature*.
arXiv:1812.01718, 2018. "KMNIST Dataset" (created by CODH), adapted from "Kuzushiji Dataset" (created by NIJL and others),
doi:10.20676/00000341.
"""

from torchvision.datasets import KMNIST

from pcbench.data._images import idx

SPEC = idx(
    "kmnist",
    KMNIST,
    ("", "", "", ""),
    (0.1918,),
    (0.3483,),
    archives_sha256=(
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
)
