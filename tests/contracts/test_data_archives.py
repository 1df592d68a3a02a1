"""Hostile and damaged archives: nothing outside the data set's folder, no more bytes than expected, nothing unverified.

Each archive here tries what archives are known to try; the fetch either fails with a `DataError` and leaves nothing, or
finds the genuine members among the hostile ones.
"""

import gzip
import io
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_data_formats import cifar10_members, place, small_cifar10, tar_gz

from pcbench.data import _store
from pcbench.data._archives import BadArchive, tar_members, untar, zip_members
from pcbench.errors import DataError

BATCH = "cifar-10-batches-py/data_batch_1"


def tar_with(*extra, members=None):
    """A ``.tar.gz`` of ``(TarInfo, content)`` and the genuine members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for member, content in extra:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, content in (cifar10_members() if members is None else members).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def member(name, kind=tarfile.REGTYPE, link="", pax=None):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers, info.mode = kind, link, pax or {}, 0o7777
    return info


def without(name):
    return {path: content for path, content in cifar10_members().items() if path != name}


PASSED_OVER = {
    "a path that climbs out": (member("../../../escaped"), b"x"),
    "a path that climbs out late": (member("cifar-10-batches-py/../../../../escaped"), b"x"),
    "an absolute path": (member("/tmp/pcbench-escaped"), b"x"),
    "a symbolic link out": (member("cifar-10-batches-py", tarfile.SYMTYPE, "/tmp"), b""),
    "a symbolic link instead of a file": (member(BATCH, tarfile.SYMTYPE, "/etc/passwd"), b""),
    "a hard link out": (member(BATCH, tarfile.LNKTYPE, "/etc/passwd"), b""),
    "a device": (member(BATCH, tarfile.CHRTYPE), b""),
    "a pipe": (member(BATCH, tarfile.FIFOTYPE), b""),
    "a folder instead of a file": (member(BATCH, tarfile.DIRTYPE), b""),
    "a file that runs": (member("cifar-10-batches-py/__init__.py"), b"raise SystemExit"),
    "a name in a pax header": (member("harmless", pax={"path": "../../../escaped"}), b"x"),
}
REFUSED = {
    "a link is all there is": (
        tar_with((member(BATCH, tarfile.SYMTYPE, "/etc/passwd"), b""), members=without(BATCH)),
        BATCH,
    ),
    "another content first": (tar_with((member(BATCH), b"cos\nsystem\n(S'touch escaped'\ntR.")), "wrong content"),
    "a member that is a bomb": (tar_with((member(BATCH), bytes(2**19))), "more than the expected [0-9]{5} bytes"),
    "an unexpected bomb": (tar_with((member("bomb"), bytes(2**22))), "more than the expected"),
    "a header that is a bomb": (tar_with((member("x", pax={"comment": "x" * 2**22}), b"")), "more than the expected"),
    "a gzip bomb": (gzip.compress(bytes(2**24)), "not a whole tar.gz file|does not hold"),
    "an empty tar": (tar_with(members={}), "does not hold cifar-10-batches-py/data_batch_1, "),
    "not a tar": (gzip.compress(b"<html>" * 1000), "not a whole tar.gz file"),
    "not even gzip": (b"<html>" * 1000, "not a whole tar.gz file"),
    "cut": (tar_gz(cifar10_members())[:-5000], "not a whole tar.gz file"),
}


def everything(folder):
    return {path: path.lstat().st_mode for path in folder.rglob("*") if path.name != ".lock"}


@pytest.fixture
def fetch(tmp_path, monkeypatch):
    """Fetch a CIFAR-10 whose archive is this one; check that nothing else appears anywhere below ``tmp_path``."""
    monkeypatch.setattr(_store, "BACKOFF", 0.0)

    def fetch(archive):
        spec, files = small_cifar10("http://127.0.0.1:9", archive)
        monkeypatch.setenv("PCBENCH_MIRROR", str(place(files, tmp_path / "mirror")))
        root = tmp_path / "a" / "b" / "datasets"
        root.mkdir(parents=True)
        (root / "cifar10").mkdir()
        before = everything(tmp_path)
        try:
            folder = _store.fetch(spec, root)
        except DataError:
            assert everything(tmp_path) == before
            raise
        found = {path.relative_to(folder).as_posix() for path in everything(tmp_path).keys() - before.keys()}
        assert found == {".", "cifar-10-batches-py", *(file.path for file in spec.files)}
        assert all((folder / file.path).stat().st_mode & 0o7111 == 0 for file in spec.files)
        assert _store.problem(spec, folder) is None
        return folder

    yield fetch
    assert not Path("/tmp/pcbench-escaped").exists()


@pytest.mark.parametrize("extra", PASSED_OVER.values(), ids=PASSED_OVER)
def test_hostile_members_are_passed_over(extra, fetch):
    fetch(tar_with(extra))


@pytest.mark.parametrize(("archive", "says"), REFUSED.values(), ids=REFUSED)
def test_an_archive_without_the_genuine_files_is_refused(archive, says, fetch):
    with pytest.raises(DataError, match=says):
        fetch(archive)


def test_names_may_begin_with_a_dot_as_tar_writes_them(fetch):
    fetch(tar_gz({f"./{name}": content for name, content in cifar10_members().items()}))


@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=4), st.booleans())
def test_damage_anywhere_is_a_bad_archive_or_harmless(tmp_path_factory, position, junk, inside):
    members = {BATCH: b"content" * 100}
    file = _store.File(BATCH, "", 700)
    content = bytearray(gzip.decompress(tar_gz(members))[:2048] if inside else tar_gz(members))
    position %= len(content)
    content[position : position + len(junk)] = junk
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder.with_suffix(".tar.gz")
    path.write_bytes(gzip.compress(bytes(content)) if inside else bytes(content))
    try:
        untar(path, (file,), folder)
    except BadArchive:
        return
    assert [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()] == [BATCH]


def zip_of(path, members, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content, **options)
    return path


def test_zip_members_are_named_and_read_in_order(tmp_path):
    path = zip_of(tmp_path / "x.zip", {"a/": "", "a/b": "one", "./c": "two"})
    assert [(name, content.read()) for name, content in zip_members(path, 6)] == [("a/b", b"one"), ("c", b"two")]


@pytest.mark.parametrize("read", [zip_members, tar_members], ids=["zip", "tar"])
def test_many_small_bombs_are_one_bomb(read, tmp_path):
    members = {f"{i}": bytes(1000) for i in range(100)}
    path = zip_of(tmp_path / "x", members) if read is zip_members else tmp_path / "x"
    if read is tar_members:
        path.write_bytes(tar_gz(members))
    with pytest.raises(BadArchive, match="more than the expected"):
        for _, content in read(path, 50_000):
            content.read()


def test_a_damaged_zip_is_a_bad_archive(tmp_path):
    path = zip_of(tmp_path / "x.zip", {"a": zlib.compress(b"content" * 1000)})
    whole = path.read_bytes()
    for damaged in (whole[:-30], whole[:40] + b"XXXX" + whole[44:], b"<html>", b""):
        path.write_bytes(damaged)
        with pytest.raises(BadArchive, match="not a whole zip file"):
            for _, content in zip_members(path, 10**6):
                content.read()
