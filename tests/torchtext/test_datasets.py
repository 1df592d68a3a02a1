"""torchtext's own readers find the rows that ours find, in the same files in the official formats, from the archive on."""

import importlib

import pytest
from contracts.test_text_formats import small_ag_news, small_imdb, small_sst2

from pcbench.data import _store, text

datasets = pytest.importorskip(
    "torchtext.datasets", reason="torchtext is not installed here: run `make test-torchtext`"
)

# Its class numbers are of another kind for each data set; ours all count from 0.
READERS = {
    "AG_NEWS": (small_ag_news, text.ag_news_rows, lambda number, text: (number - 1, text)),
    "IMDB": (small_imdb, text.imdb_rows, lambda number, text: (number - 1, text)),
    "SST2": (small_sst2, text.sst2_rows, lambda text, number: (number, text)),
}
SPLITS = [
    ("AG_NEWS", "train"),
    ("AG_NEWS", "test"),
    ("IMDB", "train"),
    ("IMDB", "test"),
    ("SST2", "train"),
    ("SST2", "dev"),
]


@pytest.mark.filterwarnings("ignore:Some child DataPipes are not exhausted:UserWarning")
@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_the_rows_are_those_of_torchtext_datasets(name, split, tmp_path, monkeypatch):
    small, rows, converted = READERS[name]
    spec, files = small()
    cache = tmp_path / "datasets" / name
    cache.mkdir(parents=True)
    for file, content in files.items():
        (cache / file).write_bytes(content)
    monkeypatch.setattr(importlib.import_module(f"torchtext.datasets.{name.lower()}"), "MD5", checksums(spec))
    theirs = [converted(*row) for row in getattr(datasets, name)(root=str(tmp_path), split=split)]

    monkeypatch.setenv("PCBENCH_MIRROR", str(cache))
    assert rows(_store.fetch(spec, tmp_path / "ours"), split) == theirs


@pytest.mark.parametrize("name", READERS)
def test_addresses_and_checksums_are_torchtext_s(name):
    module = importlib.import_module(f"torchtext.datasets.{name.lower()}")
    spec = {"AG_NEWS": text.ag_news, "IMDB": text.imdb, "SST2": text.sst2}[name]()
    assert checksums(spec) == module.MD5
    urls = module.URL.values() if isinstance(module.URL, dict) else [module.URL]
    assert [address for archive in archives(spec) for address in archive.addresses] == list(urls)


def archives(spec):
    return spec.make.args[1]


def checksums(spec):
    """As torchtext keeps them: an archive's, or by split."""
    md5 = {archive.name.removesuffix(".csv"): archive.digest.removeprefix("md5:") for archive in archives(spec)}
    return md5 if len(md5) > 1 else next(iter(md5.values()))
