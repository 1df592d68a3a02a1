"""Every text loader gives the rows that stand in the official file format, from the archive on.

The files are small, made here, and byte-format exact; the failure aimed at is a loader that splits, labels, orders or
decodes quietly wrong. `tests/torchtext` reads the same files with torchtext itself.
"""

import csv
import gzip
import hashlib
import io
import tarfile
import zipfile

import pytest
import torch

from pcbench.data import _store, ag_news, imdb, sst2
from pcbench.errors import DataError

# (class number, text); the CSV's title and description are two fields.
AG_NEWS = {
    "train": [
        (2, "Wall St. Bears Claw Back", 'Reuters - Short-sellers, "Wall Street\'s" band\\of ultra-cynics'),
        (0, "Café İstanbul", "AP - &lt;b&gt;Voters&lt;/b&gt; went, quietly; at 9:00"),
        (3, "NEL\x85and\xa0no-break", ""),
        (1, "Olympics", "AFP - The <br />Games!"),
    ],
    "test": [(1, "Phelps", "AP - Swims, again"), (0, "Unknown", "words only")],
}
IMDB = {
    "train": [(0, "Bad.<br /><br />Very \x96 bad\x85 isn't it?"), (0, 'A "film"'), (1, "Très bon"), (1, "Good; good")],
    "test": [(0, "Bad film"), (1, "Good \u2028movie")],
}
SST2 = {
    "train": [(0, "hide new secretions "), (1, "that loves its characters "), (1, "`` good '' , isn't it ")],
    "dev": [(1, "it 's a charming journey . "), (0, "unflinchingly bleak ")],
}


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def small_ag_news():
    """The spec and the official files: every field in quotes, quotes in fields doubled, Unix line ends."""
    files = {}
    for split, rows in AG_NEWS.items():
        table = io.StringIO()
        writer = csv.writer(table, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([str(number + 1), *fields] for number, *fields in rows)
        files[f"{split}.csv"] = table.getvalue().encode()
    return ag_news.spec({split: md5(files[f"{split}.csv"]) for split in AG_NEWS}, length=12), files


def imdb_members():
    """Files by name, as they lie in the archive: a review each, without a line end; and what is not wanted."""
    members = {"aclImdb/README": b"Large Movie Review Dataset v1.0\n", "aclImdb/imdb.vocab": b"the\nand\n"}
    for split in ("test", "train"):
        for number, label in enumerate(("neg", "pos")):
            reviews = [review for n, review in IMDB[split] if n == number]
            for i, review in enumerate(reviews):
                members[f"aclImdb/{split}/{label}/{i}_{1 + 9 * number}.txt"] = review.encode()
        members[f"aclImdb/{split}/urls_neg.txt"] = b"http://example.org/usercomments\n"
        members[f"aclImdb/{split}/labeledBow.feat"] = b"1 0:9 1:1\n"
    members["aclImdb/train/unsup/0_0.txt"] = b"Nobody knows"
    return members


def small_imdb(members=None):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        folder = tarfile.TarInfo("aclImdb/")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in (members or imdb_members()).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    content = gzip.compress(archive.getvalue(), mtime=0)
    return imdb.spec(md5(content), length=8), {"aclImdb_v1.tar.gz": content}


def small_sst2(tables=("train", "dev", "test")):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("SST-2/", "")
        archive.writestr("SST-2/original/README.txt", "Stanford Sentiment Treebank V1.0")
        for split in tables:
            if split == "test":
                table = "index\tsentence\n0\tuneasy mishmash of styles\n"
            else:
                table = "sentence\tlabel\n" + "".join(f"{sentence}\t{label}\n" for label, sentence in SST2[split])
            archive.writestr(f"SST-2/{split}.tsv", table)
    return sst2.spec(md5(content.getvalue()), length=8), {"SST-2.zip": content.getvalue()}


@pytest.fixture
def fetch(tmp_path, monkeypatch):
    """Fetch a small data set from a mirror folder into a data folder."""

    def fetch(small):
        spec, files = small
        mirror = tmp_path / "mirror"
        mirror.mkdir()
        for name, content in files.items():
            (mirror / name).write_bytes(content)
        monkeypatch.setenv("PCBENCH_MIRROR", str(mirror))
        monkeypatch.setattr(_store, "ROUNDS", 1)
        return spec, _store.fetch(spec, tmp_path / "datasets")

    return fetch


def offline(small):
    """The data set without its official addresses: only the mirror has it."""
    spec, files = small
    name, archives = spec.make.args
    archives = [_store.Archive(a.name, (), a.files, a.unpack, a.size, a.digest) for a in archives]
    return _store.published(name, archives, spec.read), files


def test_ag_news_rows_are_class_and_title_with_description(fetch):
    _, folder = fetch(small_ag_news())
    for split, rows in AG_NEWS.items():
        assert ag_news.rows(folder, split) == [(number, f"{title} {body}") for number, title, body in rows]


def test_imdb_rows_are_all_negative_reviews_and_then_all_positive_ones(fetch):
    _, folder = fetch(small_imdb())
    for split, rows in IMDB.items():
        assert imdb.rows(folder, split) == rows


def test_sst2_rows_are_stripped_sentences(fetch):
    _, folder = fetch(small_sst2())
    for split, rows in SST2.items():
        assert sst2.rows(folder, split) == [(number, sentence.strip()) for number, sentence in rows]


def words(data, numbers):
    return [data.vocabulary[number] for number in numbers.tolist() if number]


@pytest.mark.parametrize(
    ("small", "rows", "test", "first"),
    [
        (small_ag_news, AG_NEWS, "test", "wall st . bears claw back reuters - short-sellers , wall street"),
        (small_imdb, IMDB, "test", "bad . very \x96 bad isn ' t"),
        (small_sst2, SST2, "dev", "hide new secretions"),
    ],
    ids=["ag-news", "imdb", "sst2"],
)
def test_a_text_data_set_is_numbers_in_the_training_split_s_vocabulary(fetch, small, rows, test, first):
    spec, folder = fetch(small())
    assert _store.problem(spec, folder) is None
    data = spec.read(folder)
    for split, expected in ((data.train, rows["train"]), (data.test, rows[test])):
        assert split.targets.tolist() == [row[0] for row in expected]
        assert split.inputs.dtype == split.targets.dtype == torch.int64
        assert split.inputs.shape == (len(expected), 8 if small is not small_ag_news else 12)
    assert data.vocabulary[:2] == ("<pad>", "<unk>")
    assert words(data, data.train.inputs[0]) == first.split(" ")
    assert "<unk>" not in {word for numbers in data.train.inputs for word in words(data, numbers)}
    assert "<unk>" in {word for numbers in data.test.inputs for word in words(data, numbers)}


def test_the_classes_are_named_in_the_order_of_their_numbers(fetch):
    assert small_ag_news()[0].read.args[3] == ("World", "Sports", "Business", "Sci/Tech")
    assert small_imdb()[0].read.args[3] == small_sst2()[0].read.args[3] == ("negative", "positive")


def test_a_hostile_archive_of_reviews_writes_nothing_outside_its_folder(fetch, tmp_path):
    hostile = {"aclImdb/train/neg/../../../../../evil.txt": b"x", "/evil.txt": b"x", "../evil.txt": b"x"}
    _, folder = fetch(small_imdb({**hostile, **imdb_members()}))
    assert [path for path in tmp_path.rglob("*evil*")] == []
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        "SHA256SUMS",
        "test/neg.txt",
        "test/pos.txt",
        "train/neg.txt",
        "train/pos.txt",
    ]


def without_positive_reviews():
    return {name: content for name, content in imdb_members().items() if "/pos/" not in name}


@pytest.mark.parametrize(
    ("small", "missing"),
    [
        (lambda: small_imdb(without_positive_reviews()), "it does not hold train/pos.txt, test/pos.txt"),
        (lambda: small_sst2(("train",)), "it does not hold SST-2/dev.tsv"),
    ],
    ids=["imdb", "sst2"],
)
def test_an_archive_that_lacks_a_part_is_refused(fetch, tmp_path, small, missing):
    with pytest.raises(DataError, match=missing):
        fetch(offline(small()))
    assert not list(tmp_path.glob("datasets/*/data"))


def test_a_wrong_checksum_is_refused(fetch):
    spec, files = offline(small_ag_news())
    files["test.csv"] += b"\n"
    with pytest.raises(DataError, match=r"(?s)no source gave test\.csv:.*wrong content: MD5"):
        fetch((spec, files))
