"""Where data sets live, and how they get there: verified by content, whole or not at all."""

import gzip
import hashlib
import os
import shutil
import tempfile
import time
import urllib.parse
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from filelock import FileLock

from pcbench.errors import DataError

ROUNDS = 3  # how often every source is tried before giving up
TIMEOUT = 30  # seconds without a byte before a server counts as stalled


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        path: where it lies inside the data folder, decompressed.
        sha256: of its decompressed content: archives of one content differ in their bytes.
        size: of its decompressed content, in bytes.
        official: the name under which it is published; empty if it is made here.
    """

    path: str
    sha256: str
    size: int
    official: str = ""


@dataclass(frozen=True)
class Spec:
    """A data set: its files, where they come from, and how they are read.

    Attributes:
        name: as on the command line.
        files: every file of the data folder.
        make: fills an empty folder with them.
        read: maps the data folder to a `pcbench.data.Dataset`.
        remedy: what to do if what ``make`` made does not verify.
    """

    name: str
    files: tuple[File, ...]
    make: Callable
    read: Callable
    remedy: str

    @property
    def sha256(self):
        """One digest over the content of all files."""
        return hashlib.sha256("\n".join(f"{f.sha256}  {f.path}" for f in self.files).encode()).hexdigest()


def fetch(spec, root):
    """Materialise a data set in ``<root>/<name>/data``; nothing is done if it is there and verifies.

    It is made in a folder beside, verified, and then renamed: it is never there half. A lock keeps two processes from
    making it at once.

    Returns:
        The data folder.

    Raises:
        DataError: no source has it, it does not verify, or the folder cannot be written.
    """
    home = Path(root) / spec.name
    folder = home / "data"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / ".lock"):
            if problem(spec, folder) is None:
                return folder
            for leftover in home.glob(".partial-*"):  # of a run that was killed
                shutil.rmtree(leftover)
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=home))
            try:
                spec.make(partial)
                wrong = problem(spec, partial)
                if wrong is not None:
                    raise DataError(f"{spec.name}: {wrong}; {spec.remedy}")
                partial.chmod(0o755)
                if folder.exists():
                    shutil.rmtree(folder)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{spec.name}: cannot write to {str(home)!r} ({error.strerror or error}); "
            "make room there, make it writable, or choose another folder"
        ) from error
    return folder


def problem(spec, folder):
    """Say what is wrong with a data folder; None if every file's content is what it must be."""
    for file in spec.files:
        path = Path(folder) / file.path
        if not path.is_file():
            return f"{str(path)!r} is missing"
        found = _sha256(path)
        if found != file.sha256:
            return f"{str(path)!r} is corrupted: its SHA-256 is {found}, it must be {file.sha256}"
    return None


def download(dataset, files, folder, mirrors, system=None):
    """Bring gzip-compressed official files into ``folder``, decompressed and verified one by one.

    Sources in order: ``PCBENCH_MIRROR`` (a folder or a URL that holds the official file names, flat or in a folder
    named like the data set), ``system`` (a folder of the operating system's), then ``mirrors``, the official addresses.

    Raises:
        DataError: no source gave a file whose content verifies; says what each answered and which files to put where.
    """
    mirror = os.environ.get("PCBENCH_MIRROR")
    places = [f"{mirror.rstrip('/')}/{dataset}", mirror.rstrip("/")] if mirror else []
    places += [str(system)] if system and Path(system).is_dir() else []
    places += [address.rstrip("/") for address in mirrors]
    for file in files:
        target = Path(folder) / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        answers = {}
        for attempt in range(ROUNDS):
            if attempt:
                time.sleep(2**attempt)  # a server that stumbled may have recovered
            answers = {place: _take(place, file, target) for place in places if not target.exists()}
            if target.exists() or not any(_is_remote(place) for place in places):
                break
        if not target.exists():
            told = "\n".join(f"  {place}: {answer}" for place, answer in answers.items())
            names = ", ".join(f.official for f in files)
            raise DataError(
                f"{dataset}: no source gave {file.official}:\n{told}\n"
                f"Put {names} into a folder, and name the folder in the environment variable PCBENCH_MIRROR"
            )


def _is_remote(place):
    return urllib.parse.urlsplit(place).scheme in ("http", "https")


def _take(place, file, target):
    """Try one source: leave the verified content at ``target``, or nothing; say what was wrong, or None."""
    archive = target.with_name(target.name + ".download")
    try:
        if _is_remote(place):
            fetcher = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
            fetcher(f"{place}/{file.official}", archive, None)
        else:
            shutil.copyfile(Path(urllib.parse.urlsplit(place).path) / file.official, archive)
        with gzip.open(archive) as compressed:
            content = compressed.read(file.size + 1)  # no more than what is expected: a bomb stays small
    except FileNotFoundError:
        return "no such file"
    except requests.RequestException as error:
        return f"{type(error).__name__}: {error}"
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        return f"not a whole gzip file ({error})"
    finally:
        archive.unlink(missing_ok=True)
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        return f"wrong content: SHA-256 {found}, expected {file.sha256}"
    target.write_bytes(content)
    return None


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
