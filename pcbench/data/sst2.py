"""SST-2 (Stanford Sentiment Treebank).

Sentences and phrases from film reviews, in English, negative or positive; the version of the GLUE benchmark.

| | |
| --- | --- |
| Source | <https://gluebenchmark.com/tasks>; from <https://nlp.stanford.edu/sentiment/> |
| Licence | none is stated |
| Splits | 67,349 training examples, and the 872 of the development split as test: GLUE keeps the labels of its test split |
| Size | 7 MB to download, 4 MB in `data/` |
| Inputs | the first 64 tokens, as numbers in a vocabulary of the 20,000 most frequent of the training split (it has fewer) |

## Checksums

MD5 of the official archive, as torchtext 0.18 has it. `pcbench fetch` verifies it, and writes SHA-256 of the content into
`data/SHA256SUMS`, against which it is verified whenever it is loaded.

## Citation

R. Socher, A. Perelygin, J. Wu, J. Chuang, C. D. Manning, A. Ng, C. Potts. *Recursive Deep Models for Semantic
Compositionality Over a Sentiment Treebank*. EMNLP 2013.
"""

import csv
from functools import partial
from pathlib import Path
from shutil import copyfileobj

from pcbench.data._archives import BadArchive, Bounded, zip_members
from pcbench.data._store import Archive, File, Spec, published
from pcbench.data._text import LIMIT, SENTIMENTS, read

URL = "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip"
MD5 = "9f81648d4199384278b86e315dac217c"


def spec(md5: str = MD5, length: int = 64, size: int | None = 20_000) -> Spec:
    """The `Spec` of SST-2: tables in a ``.zip``. Its test split has no labels: its development split stands in.

    See `pcbench.data.ag_news.spec`.
    """
    files = tuple(File(f"SST-2/{split}.tsv", "", 16 * 10**6) for split in ("train", "dev"))
    archive = Archive("SST-2.zip", (URL,), files, _unzip, 16 * 10**6, f"md5:{md5}")
    return published("sst2", [archive], partial(read, "sst2", rows, "dev", SENTIMENTS, length, size))


def rows(folder: str | Path, split: str) -> list[tuple[int, str]]:
    """The rows ``(class number, text)`` of a labelled split of SST-2."""
    with open(Path(folder) / "SST-2" / f"{split}.tsv", encoding="utf-8") as file:
        return [(int(row[1]), row[0].strip()) for row in list(csv.reader(file, delimiter="\t"))[1:]]


def _unzip(archive, files, folder):
    """Take ``files`` from a ``.zip`` whose members are named as their paths are; see `pcbench.data._archives`."""
    wanted = {file.path: file for file in files}
    for name, content in zip_members(archive, LIMIT):
        if name in wanted:
            file = wanted.pop(name)
            target = Path(folder) / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as sink:
                copyfileobj(content, Bounded(sink, file.size), 2**20)
    if wanted:
        raise BadArchive(f"it does not hold {', '.join(wanted)}")


SPEC = spec()
