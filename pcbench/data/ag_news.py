"""AG News.

Titles and descriptions of news articles from 2004 and 2005, in English, 4 topics.

| | |
| --- | --- |
| Source | <https://github.com/mhjabreel/CharCnn_Keras>, as torchtext 0.18 reads it, from A. Gulli's corpus |
| Licence | for research and other non-commercial use |
| Splits | 120,000 training and 7,600 test examples, the official ones |
| Size | 31 MB to download and in `data/` |
| Inputs | the first 64 tokens, as numbers in a vocabulary of the 20,000 most frequent of the training split |

## Checksums

MD5 of the official files, as torchtext 0.18 has them. `pcbench fetch` verifies them, and writes SHA-256 into
`data/SHA256SUMS`, against which the files are verified whenever they are loaded.

## Citation

X. Zhang, J. Zhao, Y. LeCun. *Character-level Convolutional Networks for Text Classification*. NIPS 2015.
"""

import csv
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pcbench.data._archives import copy
from pcbench.data._store import Archive, File, Spec, published
from pcbench.data._text import read

URL = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv"
MD5 = {"train": "b1a00f826fdfbd249f79597b59e1dc12", "test": "d52ea96a97a2d943681189a97654912d"}


def spec(md5: Mapping[str, str] = MD5, length: int = 64, size: int | None = 20_000) -> Spec:
    """The `Spec` of AG News: a CSV for each split, a line an article: class 1 to 4, title, description.

    Args:
        md5: the files' checksums, by split.
        length: how many tokens of a text are read; see `pcbench.data._texts.encode_padded`.
        size: of the vocabulary; see `pcbench.data._texts.vocabulary`.
    """
    archives = []
    for split, checksum in md5.items():
        file = f"{split}.csv"
        content = (File(file, "", 32 * 10**6),)
        archives.append(Archive(file, (f"{URL}/{file}",), content, copy, 32 * 10**6, f"md5:{checksum}"))
    classes = ("World", "Sports", "Business", "Sci/Tech")
    return published("ag-news", archives, partial(read, "ag-news", rows, "test", classes, length, size))


def rows(folder: str | Path, split: str) -> list[tuple[int, str]]:
    """The rows ``(class number, text)`` of a split of AG News; title and description are one text."""
    with open(Path(folder) / f"{split}.csv", encoding="utf-8") as file:
        return [(int(row[0]) - 1, " ".join(row[1:])) for row in csv.reader(file)]


SPEC = spec()
