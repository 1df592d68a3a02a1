"""Taking the files of a data set out of what a publisher offers, which may be damaged or hostile.

Nothing is ever written under a name that an archive chose, and never more bytes than are expected: members that climb
out of the folder, links, devices and bombs have nothing to act on. The caller verifies what is left in the folder.
"""

import gzip
import io
import posixpath
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, cast

HEADERS = 2**20  # bytes that a tar may hold beside the expected content: headers, padding, a page on the data


class BadArchive(Exception):
    """An archive is damaged, or does not hold what it must."""


class _File(Protocol):
    """What is needed of a `pcbench.data._store.File`."""

    @property
    def path(self) -> str: ...

    @property
    def size(self) -> int: ...


def copy(archive: str | Path, files: Sequence[_File], folder: str | Path) -> None:
    """Take a file that is published as it is; see `gunzip`."""
    (file,) = files
    with open(archive, "rb") as source:
        _write(source, file, folder)


def gunzip(archive: str | Path, files: Sequence[_File], folder: str | Path) -> None:
    """Take the single file of a ``.gz``.

    Args:
        archive: its path.
        files: the one `pcbench.data._store.File` that it holds.
        folder: where it is left, at its own path.

    Raises:
        BadArchive: the archive is damaged, or holds more than is expected.
    """
    (file,) = files
    with _damage("gzip"), gzip.open(archive) as source:
        _write(source, file, folder)


def untar(archive: str | Path, files: Sequence[_File], folder: str | Path) -> None:
    """Take ``files`` from a ``.tar.gz`` whose members are named as their paths are; see `gunzip`."""
    wanted = {file.path: file for file in files}
    for name, content in tar_members(archive, sum(file.size for file in files) + HEADERS):
        if name in wanted:
            _write(content, wanted.pop(name), folder)
            if not wanted:
                return
    raise BadArchive(f"it does not hold {', '.join(wanted)}")


def tar_members(archive: str | Path, limit: int) -> Iterator[tuple[str, "Bounded"]]:
    """Yield ``(name, readable)`` for every regular file of a ``.tar.gz``, in its order, to be read before the next.

    Links, devices and folders are passed over.

    Raises:
        BadArchive: the archive is damaged, or decompresses to more than ``limit`` bytes.
    """
    with (
        _damage("tar.gz"),
        gzip.open(archive) as source,
        tarfile.open(fileobj=cast(Any, Bounded(source, limit, "tar.gz")), mode="r|") as members,
    ):
        for member in members:
            if member.isreg():
                yield (
                    posixpath.normpath(member.name),
                    Bounded(cast(IO[bytes], members.extractfile(member)), limit, "tar.gz"),
                )


def zip_members(archive: str | Path, limit: int) -> Iterator[tuple[str, "Bounded"]]:
    """Yield ``(name, readable)`` for every file of a ``.zip``; see `tar_members`."""
    with _damage("zip"), zipfile.ZipFile(archive) as members:
        for member in members.infolist():
            if not member.is_dir():
                with members.open(member) as source:
                    content = Bounded(source, limit, "zip")
                    yield posixpath.normpath(member.filename), content
                    limit = content.left


class Bounded:
    """A binary stream that gives, or takes, only so many bytes.

    Raises:
        BadArchive: there are more, or they cannot be read because the archive, of a ``kind``, is damaged.
    """

    def __init__(self, stream: IO[bytes] | io.BufferedIOBase, limit: int, kind: str = "") -> None:
        self.stream, self.limit, self.left, self.kind = stream, limit, limit, kind

    def read(self, size: int | None = -1) -> bytes:
        """Like ``stream.read``."""
        most = self.left + 1
        with _damage(self.kind):
            content = self.stream.read(most if size is None or size < 0 else min(size, most))
        return self._count(content)

    def write(self, content: bytes) -> int:
        """Like ``stream.write``."""
        return self.stream.write(self._count(content))

    def flush(self) -> None:
        """Like ``stream.flush``."""
        self.stream.flush()

    def _count(self, content):
        self.left -= len(content)
        if self.left < 0:
            raise BadArchive(f"it holds more than the expected {self.limit} bytes")
        return content


def _write(source, file, folder):
    target = Path(folder) / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as sink:
        shutil.copyfileobj(source, Bounded(sink, file.size), 2**20)


@contextmanager
def _damage(kind):
    """Damaged archives surface as any of these, depending on where the damage is."""
    try:
        yield
    except (
        gzip.BadGzipFile,
        zlib.error,
        tarfile.TarError,
        zipfile.BadZipFile,
        struct.error,
        EOFError,
        ValueError,
        OverflowError,
        RuntimeError,  # zipfile: encrypted, or compressed in a way that it does not know
    ) as error:
        raise BadArchive(f"not a whole {kind} file ({error})") from error
