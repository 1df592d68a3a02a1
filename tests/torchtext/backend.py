"""PCBench's text data sets made by torchtext: its readers, its tokenizer, its vocabulary.

Shares nothing with `pcbench.data` but the type of the result, so that the two can be compared.
"""

import importlib

import torch
from torch.nn import functional as F
from torchtext.data import get_tokenizer
from torchtext.datasets import AG_NEWS, IMDB, SST2
from torchtext.vocab import build_vocab_from_iterator

from pcbench.data import Dataset, Split

# By PCBench's names: the reader, the split to test on, and a row in PCBench's form, whose class numbers count from 0.
READERS = {
    "ag-news": (AG_NEWS, "test", lambda number, text: (number - 1, text)),
    "imdb": (IMDB, "test", lambda number, text: (number - 1, text)),
    "sst2": (SST2, "dev", lambda text, number: (number, text)),
}

tokenise = get_tokenizer("basic_english")


def module(name):
    """torchtext's module of a data set: it has the addresses and the checksums."""
    return importlib.import_module(READERS[name][0].__module__)


def archives(spec):
    """The `pcbench.data._store.Archive` objects of one of PCBench's specs."""
    return spec.make.args[1]


def checksums(spec):
    """The MD5s of a spec's archives as torchtext keeps them: an archive's, or by split."""
    md5 = {archive.name.removesuffix(".csv"): archive.digest.removeprefix("md5:") for archive in archives(spec)}
    return md5 if len(md5) > 1 else next(iter(md5.values()))


def cache(name, root):
    """The folder below ``root`` where torchtext looks for the official files, before it would download them."""
    return root / "datasets" / module(name).DATASET_NAME


def rows(name, root, split):
    """The rows ``(class number, text)`` of a split; torchtext verifies the file by its checksum."""
    reader, _, converted = READERS[name]
    return [converted(*row) for row in reader(root=str(root), split=split)]


def load(name, root, classes, length, size):
    """The `Dataset` in the cache below ``root``; see `dataset`."""
    return dataset(name, rows(name, root, "train"), rows(name, root, READERS[name][1]), classes, length, size)


def dataset(name, train, test, classes, length, size):
    """The `Dataset` of rows; the vocabulary is that of ``train``. See `pcbench.data.ag_news.spec` for the numbers."""
    words = build_vocab_from_iterator(
        (tokenise(text) for _, text in train), specials=["<pad>", "<unk>"], max_tokens=size
    )
    words.set_default_index(words["<unk>"])

    def padded(text):
        numbers = torch.tensor(words(tokenise(text))[:length], dtype=torch.int64)
        return F.pad(numbers, (length - len(numbers), 0), value=words["<pad>"])

    def split(rows):
        inputs = torch.stack([padded(text) for _, text in rows])
        return Split(inputs, torch.tensor([number for number, _ in rows]), bucketed=True)

    return Dataset(name, split(train), split(test), classes, vocabulary=tuple(words.get_itos()))


def differences(ours, theirs):
    """The parts in which two data sets differ: names."""
    parts = {"classes": ours.classes == theirs.classes, "vocabulary": ours.vocabulary == theirs.vocabulary}
    for name, a, b in (("train", ours.train, theirs.train), ("test", ours.test, theirs.test)):
        parts[f"{name}.inputs"] = a.inputs.dtype == b.inputs.dtype and torch.equal(a.inputs, b.inputs)
        parts[f"{name}.targets"] = a.targets.dtype == b.targets.dtype and torch.equal(a.targets, b.targets)
        parts[f"{name}.bucketed"] = a.bucketed == b.bucketed
    return [name for name, equal in parts.items() if not equal]
