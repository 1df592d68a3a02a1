"""IMDB (Large Movie Review Dataset).

Film reviews in English, negative (4 stars of 10 at most) or positive (7 at least).

| | |
| --- | --- |
| Source | <https://ai.stanford.edu/~amaas/data/sentiment/> |
| Licence | none is stated; the authors ask for the citation |
| Splits | 25,000 training and 25,000 test examples, the official ones; the unlabelled reviews are left out |
| Size | 84 MB to download, 65 MB in `data/`: a review a line |
| Inputs | the first 256 tokens, as numbers in a vocabulary of the 20,000 most frequent of the training split |

## Checksums

MD5 of the official archive, as torchtext 0.18 has it. `pcbench fetch` verifies it, and writes SHA-256 of the content into
`data/SHA256SUMS`, against which it is verified whenever it is loaded.

## Citation

A. L. Maas, R. E. Daly, P. T. Pham, D. Huang, A. Y. Ng, C. Potts. *Learning Word Vectors for Sentiment Analysis*. ACL 2011.
"""

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from pcbench.data._archives import BadArchive, Bounded, tar_members
from pcbench.data._store import Archive, File, Spec, published
from pcbench.data._text import LIMIT, SENTIMENTS, read

URL = "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
_NEG_POS = ("neg", "pos")  # the archive's folders, in the order of SENTIMENTS


def spec(md5: str = MD5, length: int = 256, size: int | None = 20_000) -> Spec:
    """The `Spec` of IMDB's film reviews: a ``.tar.gz`` with a file for each; see `pcbench.data.ag_news.spec`."""
    files = tuple(File(f"{s}/{label}.txt", "", 64 * 10**6) for s in ("train", "test") for label in _NEG_POS)
    archive = Archive("aclImdb_v1.tar.gz", (URL,), files, _join_reviews, 96 * 10**6, f"md5:{md5}")
    return published("imdb", [archive], partial(read, "imdb", rows, "test", SENTIMENTS, length, size))


def rows(folder: str | Path, split: str) -> list[tuple[int, str]]:
    """The rows ``(class number, text)`` of a split of IMDB: first the negative reviews, in the archive's order."""
    found = []
    for number, label in enumerate(_NEG_POS):
        # By lines of the file, not `str.splitlines`: reviews contain U+0085, which that takes for the end of a line.
        with open(Path(folder) / split / f"{label}.txt", encoding="utf-8") as file:
            found += [(number, line.rstrip("\n")) for line in file]
    return found


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
        for name, content in tar_members(archive, LIMIT):
            sink = sinks.get(name.rpartition("/")[0])
            if sink is not None:
                sink.write(content.read().rstrip(b"\n") + b"\n")
    empty = [file.path for file in files if not (Path(folder) / file.path).stat().st_size]
    if empty:
        raise BadArchive(f"it does not hold {', '.join(empty)}")


SPEC = spec()
