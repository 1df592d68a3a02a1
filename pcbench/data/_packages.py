"""Data sets made from what pip packages carry: tables of this repository's own, split here."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcbench.files import write_text

SPLIT_SEED = 0
TEST_SHARE = 0.2


def split_names(labels: Sequence[Any]) -> np.ndarray:
    """For each example ``"train"`` or ``"test"``, ``(examples,)``: fixed, and with the same share of every class."""
    from sklearn.model_selection import train_test_split  # needed to make a data set, and slow to import

    test = train_test_split(np.arange(len(labels)), test_size=TEST_SHARE, stratify=labels, random_state=SPLIT_SEED)[1]
    return np.where(np.isin(np.arange(len(labels)), test), "test", "train")


def write_table(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file.

    Raises:
        PCBenchError: see `pcbench.files.atomic`.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(path, text.getvalue())


def read_table(path: str | Path) -> list[list[str]]:
    """The rows of a CSV file, without its header: lists of texts."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]
