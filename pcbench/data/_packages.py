"""Data sets made from what pip packages carry: tables of this repository's own, split here."""

import csv
import io

import numpy as np

from pcbench.files import write_text

SPLIT_SEED = 0
TEST_SHARE = 0.2


def split_names(labels):
    """For each example ``"train"`` or ``"test"``: fixed, and with the same share of every class."""
    from sklearn.model_selection import train_test_split  # needed to make a data set, and slow to import

    test = train_test_split(np.arange(len(labels)), test_size=TEST_SHARE, stratify=labels, random_state=SPLIT_SEED)[1]
    return np.where(np.isin(np.arange(len(labels)), test), "test", "train")


def write_table(path, header, rows):
    """Write a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(path, text.getvalue())


def read_table(path):
    """The rows of a CSV file, without its header: lists of texts."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]
