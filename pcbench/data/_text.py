"""What text data sets for classification share; their addresses and checksums are those of torchtext 0.18.

torchtext publishes MD5s of the archives; no publisher gives checksums of the content.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from pcbench.data._texts import encode_padded, vocabulary
from pcbench.data._types import Dataset, Split

SENTIMENTS = ("negative", "positive")
LIMIT = 2**29  # bytes that an archive may decompress to; IMDB's 100,000 reviews and their indices are half of that


def read(
    name: str,
    rows: Callable[[Path, str], list[tuple[int, str]]],
    test: str,
    classes: tuple[str, ...],
    length: int,
    size: int | None,
    folder: Path,
) -> Dataset:
    """Read a text data set.

    Args:
        name: the data set's name.
        rows: maps the folder and a split's name to its rows ``(class number, text)``.
        test: which split is the test split.
        classes: the classes' names.
        length: how many tokens of a text are read; see `pcbench.data._texts.encode_padded`.
        size: of the vocabulary; see `pcbench.data._texts.vocabulary`.
        folder: the data folder.
    """
    labelled = {split: rows(folder, split) for split in ("train", test)}
    words = vocabulary([text for _, text in labelled["train"]], size)

    def split(rows):
        inputs = encode_padded([text for _, text in rows], words, length)
        return Split(inputs, torch.tensor([number for number, _ in rows]), bucketed=True)

    return Dataset(name, split(labelled["train"]), split(labelled[test]), classes, vocabulary=words)
