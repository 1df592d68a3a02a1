"""torchtext's own readers find the rows that ours find, in the same files in the official formats, from the archive on."""

import pytest
from contracts.test_text_formats import small_ag_news, small_imdb, small_sst2

from pcbench.data import ag_news, imdb, sst2

backend = pytest.importorskip("backend", reason="torchtext is not installed here: run `make test-torchtext`")

SPLITS = [
    (small_ag_news, ag_news.rows, "train"),
    (small_ag_news, ag_news.rows, "test"),
    (small_imdb, imdb.rows, "train"),
    (small_imdb, imdb.rows, "test"),
    (small_sst2, sst2.rows, "train"),
    (small_sst2, sst2.rows, "dev"),
]


@pytest.mark.filterwarnings("ignore:Some child DataPipes are not exhausted:UserWarning")
@pytest.mark.parametrize(("small", "rows", "split"), SPLITS)
def test_the_rows_are_those_of_torchtext_datasets(small, rows, split, fetched):
    spec, files = small()
    ours, theirs = fetched(spec, files)
    assert rows(ours, split) == backend.rows(spec.name, theirs, split)


@pytest.mark.parametrize("spec", [ag_news.SPEC, imdb.SPEC, sst2.SPEC], ids=lambda spec: spec.name)
def test_addresses_and_checksums_are_torchtext_s(spec):
    module = backend.module(spec.name)
    assert backend.checksums(spec) == module.MD5
    urls = module.URL.values() if isinstance(module.URL, dict) else [module.URL]
    assert [address for archive in backend.archives(spec) for address in archive.addresses] == list(urls)
