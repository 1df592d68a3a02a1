"""Where data sets live, and how they get there: verified by content, whole or not at all."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pooch
import requests
from filelock import FileLock

from pcbench.data._archives import BadArchive, Bounded
from pcbench.data._types import Dataset
from pcbench.errors import DataError

ROUNDS = 3  # how often every source is tried before giving up
BACKOFF = 2.0  # seconds before the second round, doubled before each further one
TIMEOUT = 30.0  # seconds without a byte before a server counts as stalled
SUMS = "SHA256SUMS"  # in a data folder: the content's checksums where nobody publishes them; `sha256sum -c` reads it


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        path: where it lies inside the data folder, decompressed.
        sha256: of its decompressed content: archives of one content differ in their bytes. Empty if nobody publishes
            it: then the archive that it came from was verified, and its own checksum stands in ``SHA256SUMS``.
        size: of its decompressed content, in bytes, at most.
    """

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Archive:
    """A file as its publisher offers it.

    Attributes:
        name: the official file name, by which mirrors have it too.
        addresses: the official URLs, the file name included.
        files: what it holds of the data set.
        unpack: leaves ``files`` in a folder: called with ``(path, files, folder)``, see `pcbench.data._archives`.
        size: in bytes, at most.
        digest: of the archive itself, such as ``"md5:…"``; needed if the content of its files is not known.
    """

    name: str
    addresses: tuple[str, ...]
    files: tuple[File, ...]
    unpack: Callable[[Path, tuple[File, ...], Path], None]
    size: int
    digest: str = ""


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
    make: Callable[[Path], None]
    read: Callable[[Path], Dataset]
    remedy: str


def published(
    name: str, archives: Sequence[Archive], read: Callable[[Path], Dataset], system: str | Path | None = None
) -> Spec:
    """The `Spec` of a data set that a publisher offers as ``archives``.

    Args:
        name: as on the command line.
        archives: what is offered.
        read: maps the data folder to a `pcbench.data.Dataset`.
        system: a folder where the operating system may have the archives.
    """
    files = tuple(file for archive in archives for file in archive.files)
    make = partial(download, name, archives, system=system)
    return Spec(name, files, make, read, "fetch it again")


def fetch(spec: Spec, root: str | Path) -> Path:
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
    if problem(spec, folder) is None:  # before anything is written: the folder may be read-only
        return folder
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / ".lock"):
            if problem(spec, folder) is None:  # another process made it while this one waited
                return folder
            for leftover in home.glob(".partial-*"):  # of a run that was killed
                shutil.rmtree(leftover)
            made = Path(tempfile.mkdtemp(prefix=".partial-", dir=home))
            try:
                spec.make(made)
                wrong = problem(spec, made)
                if wrong is not None:
                    raise DataError(f"{spec.name}: {wrong}; {spec.remedy}")
                made.chmod(0o755)
                if folder.exists():
                    shutil.rmtree(folder)
                made.rename(folder)
            finally:
                shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{spec.name}: cannot write to {str(home)!r} ({error.strerror or error}); "
            "make room there, make it writable, or choose another folder"
        ) from error
    return folder


def problem(spec: Spec, folder: str | Path) -> str | None:
    """Say what is wrong with a data folder; None if every file's content is what it must be."""
    try:
        recorded = _recorded(spec, folder)
        for file in spec.files:
            path = Path(folder) / file.path
            if not path.is_file():
                return f"{str(path)!r} is missing"
            expected = file.sha256 or recorded.get(file.path)
            if expected is None:
                return f"{str(path)!r} is not listed in {SUMS}"
            found = pooch.file_hash(path)
            if found != expected:
                return f"{str(path)!r} is corrupted: its SHA-256 is {found}, it must be {expected}"
    except OSError as error:
        return f"{str(error.filename or folder)!r} cannot be read ({error.strerror})"
    return None


def digest(spec: Spec, folder: str | Path) -> str:
    """The SHA-256 over the checksums and paths of all files of a data folder that has verified."""
    return _digest(spec.files, _recorded(spec, folder))


def _digest(files, recorded):
    lines = "\n".join(f"{file.sha256 or recorded[file.path]}  {file.path}" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _recorded(spec, folder):
    """The checksums in a data folder's ``SHA256SUMS``, by path; none if there is no need of it, or it is missing."""
    sums = Path(folder) / SUMS
    if all(file.sha256 for file in spec.files) or not sums.is_file():
        return {}
    lines = (line.split("  ", 1) for line in sums.read_text("utf-8", errors="replace").splitlines())
    return {path: sha256 for sha256, path in (line for line in lines if len(line) == 2)}


def download(name: str, archives: Sequence[Archive], folder: str | Path, system: str | Path | None = None) -> None:
    """Bring a data set's archives, verify each, and leave their files in ``folder``.

    Sources in order: ``PCBENCH_MIRROR`` (a folder or a URL that holds the official file names, flat or in a folder
    named like the data set), ``system`` (a folder of the operating system's), then the official addresses.

    Raises:
        DataError: no source gave an archive that verifies; says what each answered and which files to put where.
        OSError: ``folder`` cannot be written.
    """
    mirror = os.environ.get("PCBENCH_MIRROR", "").rstrip("/")
    places = [f"{mirror}/{name}", mirror] if mirror else []
    places += [str(system)] if system and Path(system).is_dir() else []
    for archive in archives:
        answers = _bring(archive, [f"{place}/{archive.name}" for place in places] + [*archive.addresses], folder)
        if answers is not None:
            told = "\n".join(f"  {source}: {answer}" for source, answer in answers.items())
            official = ", ".join(archive.name for archive in archives)
            raise DataError(
                f"{name}: no source gave {archive.name}:\n{told}\n"
                f"Put {official} into a folder, and name the folder in the environment variable PCBENCH_MIRROR"
            )
    files = [file for archive in archives for file in archive.files]
    if not all(file.sha256 for file in files):
        sums = (f"{pooch.file_hash(Path(folder) / file.path)}  {file.path}\n" for file in files)
        (Path(folder) / SUMS).write_text("".join(sums), "utf-8")


def _bring(archive, sources, folder):
    """Take an archive from the first source that has it, and return None; else return what each answered."""
    answers = {}
    hopeful = list(sources)
    for attempt in range(ROUNDS):
        if attempt:
            time.sleep(BACKOFF * 2 ** (attempt - 1))  # a server that stumbled may have recovered
        for source in list(hopeful):
            try:
                _take(source, archive, folder)
            except (BadArchive, requests.RequestException) as error:
                answers[source] = _in_words(error)
                if not _is_remote(source) or _is_refusal(error):
                    hopeful.remove(source)
            else:
                return None
        if not hopeful:
            break
    return answers


def _take(source, archive, folder):
    """Leave the verified files of an archive in ``folder``, or none of them."""
    received = Path(folder) / (archive.name + ".download")
    try:
        with open(received, "wb") as file:
            _receive(source, Bounded(file, archive.size))
        _compare(received, archive.digest)
        archive.unpack(received, archive.files, folder)
        for file in archive.files:
            _compare(Path(folder) / file.path, file.sha256 and f"sha256:{file.sha256}")
    except BaseException:
        for file in archive.files:
            (Path(folder) / file.path).unlink(missing_ok=True)
        raise
    finally:
        received.unlink(missing_ok=True)


def _receive(source, sink):
    if _is_remote(source):
        # Some servers compress what is compressed already, and requests would undo both.
        identity = {"Accept-Encoding": "identity"}
        fetcher = pooch.HTTPDownloader(progressbar=True, chunk_size=2**20, timeout=TIMEOUT, headers=identity)
        try:
            fetcher(source, sink, None)
        except requests.RequestException:
            raise
        except ValueError as error:  # pooch trusts the headers
            raise BadArchive(f"answered nonsense ({error})") from error
        return
    try:
        file = open(Path(source.removeprefix("file://")).expanduser(), "rb")  # noqa: SIM115
    except OSError as error:
        raise BadArchive((error.strerror or str(error)).lower()) from error
    with file:
        shutil.copyfileobj(file, sink, 2**20)


def _is_remote(source):
    return source.startswith(("http://", "https://"))


def _is_refusal(error):
    """A server that answers like this will answer the same in a moment."""
    return isinstance(error, requests.HTTPError) and error.response.status_code < 500


def _compare(path, expected):
    algorithm, _, checksum = expected.partition(":")
    if expected and (found := pooch.file_hash(path, algorithm)) != checksum:
        raise BadArchive(f"wrong content: {algorithm.upper()} {found}, expected {checksum}")


def _in_words(error):
    """What a source answered, in a line."""
    if isinstance(error, requests.HTTPError):
        return f"HTTP {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout) or "Read timed out" in str(error):
        return f"sent nothing for {TIMEOUT:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError) or "Connection aborted" in str(error):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        reason = getattr(error.args[0], "reason", error) if error.args else error
        return f"cannot be reached ({str(reason).rsplit(': ', 1)[-1]})"
    return str(error)
