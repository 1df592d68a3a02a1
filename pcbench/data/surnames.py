"""Surnames.

Surnames of nine languages, to be told from their characters. They come from the lists in Faker's wheel; a surname that
several languages share is left out. No network is needed.

| | |
| --- | --- |
| Source | `faker.providers.person.*.Provider.last_names`, of the Faker that `requirements.lock` pins |
| Licence | MIT (Faker) |
| Splits | 4,479 training and 1,120 test examples, stratified by language with a fixed seed (there are no official ones) |
| Size | 0.1 MB |
| Inputs | character numbers, padded on the left to 40; 0 is padding, 1 a character that training has not |

## Checksums

SHA-256 of the content:

## Citation

D. Faraglia and others. *Faker*. <https://github.com/joke2k/faker>.
"""

import importlib
import unicodedata

import torch

from pcbench.data._packages import read_table, split_names, write_table
from pcbench.data._store import File, Spec
from pcbench.data._types import Dataset, Split

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


def _make(folder):
    spoken_in = {}
    for locale, language in LANGUAGES.items():
        provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
        for surname in provider.last_names:
            surname = unicodedata.normalize("NFC", surname)
            spoken_in.setdefault(surname.casefold(), set()).add((language, surname))
    # A surname of two languages has no right answer.
    unambiguous = [min(found) for found in spoken_in.values() if len({language for language, _ in found}) == 1]
    unambiguous.sort()
    splits = split_names([language for language, _ in unambiguous])
    rows = [[split, *row] for split, row in zip(splits, unambiguous, strict=True)]
    write_table(folder / "surnames.csv", ["split", "language", "surname"], rows)


def _read(folder):
    rows = read_table(folder / "surnames.csv")
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


SPEC = Spec(
    "surnames",
    (File("surnames.csv", "7e03a231e6ecbf583279540f3b688f8280722821d8baf97a4f09c3c362cce1b3", 120889),),
    _make,
    _read,
    "Faker's lists change between releases: install the faker of requirements.lock",
)
