"""Real data that comes inside pip packages: scikit-learn's digits, and surnames by language from Faker."""

import csv
import importlib
import io
import unicodedata

import numpy as np
import torch

from pcbench.data._store import File, Spec
from pcbench.data._types import Dataset, Split
from pcbench.files import write_text

LANGUAGES = {
    "cs_CZ": "Czech",
    "de_DE": "German",
    "en_US": "English",
    "es_ES": "Spanish",
    "fi_FI": "Finnish",
    "fr_FR": "French",
    "it_IT": "Italian",
    "nl_NL": "Dutch",
    "sv_SE": "Swedish",
}
SPLIT_SEED = 0
TEST_SHARE = 0.2


def _split_names(labels):
    """For each example ``"train"`` or ``"test"``: fixed, and with the same share of every class."""
    from sklearn.model_selection import train_test_split  # needed to make a data set, and slow to import

    test = train_test_split(np.arange(len(labels)), test_size=TEST_SHARE, stratify=labels, random_state=SPLIT_SEED)[1]
    return np.where(np.isin(np.arange(len(labels)), test), "test", "train")


def _write_table(path, header, rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(path, text.getvalue())


def _make_digits(folder):
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = digits.data.astype(int)
    rows = zip(_split_names(digits.target), digits.target, pixels, strict=True)
    header = ["split", "digit", *(f"pixel{i}" for i in range(64))]
    _write_table(folder / "digits.csv", header, [[split, digit, *image] for split, digit, image in rows])


def _read_digits(folder):
    rows = _rows(folder / "digits.csv")

    def split(name):
        table = np.array([row[1:] for row in rows if row[0] == name], dtype=np.int64)
        images = torch.from_numpy(table[:, 1:]).reshape(-1, 1, 8, 8).float() / 16
        return Split(images, torch.from_numpy(table[:, 0]).clone())

    return Dataset("digits", split("train"), split("test"), tuple("0123456789"))


def _make_surnames(folder):
    spoken_in = {}
    for locale, language in LANGUAGES.items():
        provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
        for surname in provider.last_names:
            surname = unicodedata.normalize("NFC", surname)
            spoken_in.setdefault(surname.casefold(), set()).add((language, surname))
    # A surname of two languages has no right answer.
    unambiguous = [min(found) for found in spoken_in.values() if len({language for language, _ in found}) == 1]
    unambiguous.sort()
    splits = _split_names([language for language, _ in unambiguous])
    rows = [[split, *row] for split, row in zip(splits, unambiguous, strict=True)]
    _write_table(folder / "surnames.csv", ["split", "language", "surname"], rows)


def _read_surnames(folder):
    rows = _rows(folder / "surnames.csv")
    classes = tuple(LANGUAGES.values())
    characters = sorted({character for split, _, surname in rows if split == "train" for character in surname})
    vocabulary = ("<pad>", "<unknown>", *characters)
    number = {character: i for i, character in enumerate(vocabulary)}
    length = max(len(surname) for _, _, surname in rows)

    def split(name):
        chosen = [row for row in rows if row[0] == name]
        inputs = torch.zeros(len(chosen), length, dtype=torch.int64)
        for i, (_, _, surname) in enumerate(chosen):
            inputs[i, length - len(surname) :] = torch.tensor([number.get(c, 1) for c in surname])
        return Split(inputs, torch.tensor([classes.index(language) for _, language, _ in chosen]))

    return Dataset("surnames", split("train"), split("test"), classes, vocabulary=vocabulary)


def _rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


DIGITS = Spec(
    "digits",
    (File("digits.csv", "3c382d1d65a9fea43e67b2f325186272c87d32bef447565d71aa166e5960240c", 275648),),
    _make_digits,
    _read_digits,
    "install the scikit-learn of requirements.lock",
)
SURNAMES = Spec(
    "surnames",
    (File("surnames.csv", "7e03a231e6ecbf583279540f3b688f8280722821d8baf97a4f09c3c362cce1b3", 120889),),
    _make_surnames,
    _read_surnames,
    "Faker's lists change between releases: install the faker of requirements.lock",
)
SPECS = {spec.name: spec for spec in (DIGITS, SURNAMES)}
