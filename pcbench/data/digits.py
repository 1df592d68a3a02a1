"""Digits.

Handwritten digits, 8 × 8 pixels in 17 shades of grey, 10 classes: the test set of UCI's *Optical Recognition of
Handwritten Digits*, as scikit-learn's wheel carries it. No network is needed.

| | |
| --- | --- |
| Source | `sklearn.datasets.load_digits`; originally <https://archive.ics.uci.edu/dataset/80> |
| Licence | CC BY 4.0 (UCI); scikit-learn: BSD-3-Clause |
| Splits | 1,437 training and 360 test examples, stratified by class with a fixed seed (there are no official ones) |
| Size | 0.3 MB |
| Inputs | pixels / 16 |

## Checksums

SHA-256 of the content:

## Citation

E. Alpaydin and C. Kaynak. *Optical Recognition of Handwritten Digits*. UCI Machine Learning Repository, 1998.
doi:10.24432/C50P49.
"""

import numpy as np
import torch

from pcbench.data._packages import read_table, split_names, write_table
from pcbench.data._store import File, Spec
from pcbench.data._types import Dataset, Split


def _make(folder):
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = digits.data.astype(int)
    rows = zip(split_names(digits.target), digits.target, pixels, strict=True)
    header = ["split", "digit", *(f"pixel{i}" for i in range(64))]
    write_table(folder / "digits.csv", header, [[split, digit, *image] for split, digit, image in rows])


def _read(folder):
    rows = read_table(folder / "digits.csv")

    def split(name):
        table = np.array([row[1:] for row in rows if row[0] == name], dtype=np.int64)
        images = torch.from_numpy(table[:, 1:]).reshape(-1, 1, 8, 8).float() / 16
        return Split(images, torch.from_numpy(table[:, 0]).clone())

    return Dataset("digits", split("train"), split("test"), tuple("0123456789"))


SPEC = Spec(
    "digits",
    (File("digits.csv", "3c382d1d65a9fea43e67b2f325186272c87d32bef447565d71aa166e5960240c", 275648),),
    _make,
    _read,
    "install the scikit-learn of requirements.lock",
)
