"""Text data sets for classification, from the addresses and with the checksums that torchtext 0.18 has for them."""

import csv
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from shutil import copyfileobj

import torch

from pcbench.data._archives import BadArchive, Bounded, copy, tar_members, zip_members
from pcbench.data._store import Archive, File, published
from pcbench.data._types import Dataset, Split
from pcbench.data.text_pipeline import encode_padded, vocabulary

# torchtext publishes MD5s of the archives; no publisher gives checksums of the content.
AG_NEWS_MD5 = {"train": "b1a00f826fdfbd249f79597b59e1dc12", "test": "d52ea96a97a2d943681189a97654912d"}
IMDB_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
SST2_MD5 = "9f81648d4199384278b86e315dac217c"

AG_NEWS_URL = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv"
IMDB_URL = "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
SST2_URL = "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip"

SENTIMENTS = ("negative", "positive")
_NEG_POS = ("neg", "pos")  # IMDB's folders, in the order of SENTIMENTS
_LIMIT = 2**29  # bytes that an archive may decompress to; IMDB's 100,000 reviews and their indices are half of that


def ag_news(md5=AG_NEWS_MD5, length=64, size=20_000):
    """The `Spec` of AG News: a CSV for each split, a line an article: class 1 to 4, title, description.

    Args:
        md5: the files' checksums, by split.
        length: how many tokens of a text are read; see `pcbench.data.text_pipeline.encode_padded`.
        size: of the vocabulary; see `pcbench.data.text_pipeline.vocabulary`.
    """
    archives = []
    for split, checksum in md5.items():
        file = f"{split}.csv"
        content = (File(file, "", 32 * 10**6),)
        archives.append(Archive(file, (f"{AG_NEWS_URL}/{file}",), content, copy, 32 * 10**6, f"md5:{checksum}"))
    classes = ("World", "Sports", "Business", "Sci/Tech")
    return published("ag-news", archives, partial(_read, "ag-news", ag_news_rows, "test", classes, length, size))


def imdb(md5=IMDB_MD5, length=256, size=20_000):
    """The `Spec` of IMDB's film reviews: a ``.tar.gz`` with a file for each; see `ag_news`."""
    files = tuple(File(f"{s}/{label}.txt", "", 64 * 10**6) for s in ("train", "test") for label in _NEG_POS)
    archive = Archive("aclImdb_v1.tar.gz", (IMDB_URL,), files, _join_reviews, 96 * 10**6, f"md5:{md5}")
    return published("imdb", [archive], partial(_read, "imdb", imdb_rows, "test", SENTIMENTS, length, size))


def sst2(md5=SST2_MD5, length=64, size=20_000):
    """The `Spec` of SST-2: tables in a ``.zip``. Its test split has no labels: its development split stands in.

    See `ag_news`.
    """
    files = tuple(File(f"SST-2/{split}.tsv", "", 16 * 10**6) for split in ("train", "dev"))
    archive = Archive("SST-2.zip", (SST2_URL,), files, _unzip, 16 * 10**6, f"md5:{md5}")
    return published("sst2", [archive], partial(_read, "sst2", sst2_rows, "dev", SENTIMENTS, length, size))


def ag_news_rows(folder, split):
    """The rows ``(class number, text)`` of a split of AG News; title and description are one text."""
    with open(Path(folder) / f"{split}.csv", encoding="utf-8") as file:
        return [(int(row[0]) - 1, " ".join(row[1:])) for row in csv.reader(file)]


def imdb_rows(folder, split):
    """The rows ``(class number, text)`` of a split of IMDB: first the negative reviews, in the archive's order."""
    rows = []
    for number, label in enumerate(_NEG_POS):
        # By lines of the file, not `str.splitlines`: reviews contain U+0085, which that takes for the end of a line.
        with open(Path(folder) / split / f"{label}.txt", encoding="utf-8") as file:
            rows += [(number, line.rstrip("\n")) for line in file]
    return rows


def sst2_rows(folder, split):
    """The rows ``(class number, text)`` of a labelled split of SST-2."""
    with open(Path(folder) / "SST-2" / f"{split}.tsv", encoding="utf-8") as file:
        return [(int(row[1]), row[0].strip()) for row in list(csv.reader(file, delimiter="\t"))[1:]]


def _read(name, rows, test, classes, length, size, folder):
    labelled = {split: rows(folder, split) for split in ("train", test)}
    words = vocabulary([text for _, text in labelled["train"]], size)

    def split(rows):
        inputs = encode_padded([text for _, text in rows], words, length)
        return Split(inputs, torch.tensor([number for number, _ in rows]), bucketed=True)

    return Dataset(name, split(labelled["train"]), split(labelled[test]), classes, vocabulary=words)


def _join_reviews(archive, files, folder):
    """Leave IMDB's labelled reviews in four files, a review a line: 50,000 small files would take minutes to verify.

    Raises:
        BadArchive: see `pcbench.data._archives.tar_members`; or a split has no reviews of a class.
    """
    with ExitStack() as stack:
        sinks = {}
        for file in files:
            target = Path(folder) / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            sinks[f"aclImdb/{file.path.removesuffix('.txt')}"] = Bounded(
                stack.enter_context(open(target, "wb")), file.size
            )
        for name, content in tar_members(archive, _LIMIT):
            sink = sinks.get(name.rpartition("/")[0])
            if sink is not None:
                sink.write(content.read().rstrip(b"\n") + b"\n")
    empty = [file.path for file in files if not (Path(folder) / file.path).stat().st_size]
    if empty:
        raise BadArchive(f"it does not hold {', '.join(empty)}")


def _unzip(archive, files, folder):
    """Take ``files`` from a ``.zip`` whose members are named as their paths are; see `pcbench.data._archives`."""
    wanted = {file.path: file for file in files}
    for name, content in zip_members(archive, _LIMIT):
        if name in wanted:
            file = wanted.pop(name)
            target = Path(folder) / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as sink:
                copyfileobj(content, Bounded(sink, file.size), 2**20)
    if wanted:
        raise BadArchive(f"it does not hold {', '.join(wanted)}")


SPECS = {spec.name: spec for spec in (ag_news(), imdb(), sst2())}
