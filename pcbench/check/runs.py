"""A run to be compared: a folder of results, an archive of one, or what a git revision's dvc.lock names in DVC's cache."""

import hashlib
import io
import json
import platform
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from pcbench import params
from pcbench.check import reproduction
from pcbench.errors import InvalidParameters, ResultError
from pcbench.files import atomic
from pcbench.params import STAGES
from pcbench.report.results import found

SCHEMA = 1
_MANIFEST = "manifest.json"
_WHEN = (1980, 1, 1, 0, 0, 0)  # so that the same results give the same bytes


@dataclass(frozen=True)
class Run:
    """One side of a comparison.

    Attributes:
        name: as the user called it.
        folder: where its results lie.
        lock: of a git revision, and of the working tree's own results, the parsed dvc.lock: what is known of results that are
            not in DVC's cache.
    """

    name: str
    folder: Path
    lock: reproduction.Lock | None = None


def pack(out: str | Path, profile: str, pipeline: Path) -> None:
    """Write one archive of a profile's results with all that says what they are: what `opened` reads anywhere.

    It holds ``results/`` with every provenance, params.yaml, the lock files, the pipeline, the expectations, and
    ``manifest.json`` with the SHA-256 of each and the versions of all installed packages. The same results in the same
    environment give the same bytes.

    Args:
        out: the archive, a zip file.
        profile: the profile's name; ``results/<profile>`` is packed.
        pipeline: the folder of its dvc.yaml and dvc.lock.

    Raises:
        ResultError: there are no results.
        PCBenchError: ``out`` cannot be written.
    """
    results = Path("results") / profile
    if not found(results):
        raise ResultError(f"{str(results)!r} holds no results; run {params.remake(profile)}")
    files = {f"results/{path.relative_to(results).as_posix()}": path for path in results.rglob("[!.]*.json")}
    beside = ("params.yaml", "requirements.lock", "expectations.yaml")
    files |= {path.name: path for path in (*map(Path, beside), pipeline / "dvc.yaml", pipeline / "dvc.lock")}
    contents = {name: path.read_bytes() for name, path in sorted(files.items()) if path.is_file()}
    packages = {each.metadata["Name"]: each.version for each in metadata.distributions()}
    manifest = {
        "schema": SCHEMA,
        "profile": profile,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items())),
    }
    contents[_MANIFEST] = json.dumps(manifest, indent=1).encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _WHEN), content, zipfile.ZIP_DEFLATED)
    with atomic(out) as temporary:
        temporary.write_bytes(made.getbuffer())


@contextmanager
def opened(place: str, profile: str, pipeline: Path) -> Iterator[Run]:
    """Yield the `Run` at ``place``: a folder such as ``results/default``, an archive of `pack`, or a git revision.

    Args:
        place: what the user called it.
        profile: of a git revision, the profile's name.
        pipeline: of a git revision, the folder of the profile's dvc.lock.

    Raises:
        InvalidParameters: it is none of the three.
        ResultError: it holds no results, or is damaged.
    """
    path, lock = Path(place), pipeline / "dvc.lock"
    with TemporaryDirectory(prefix="pcbench-") as temporary:
        if not path.exists():
            yield _revision(place, profile, lock, Path(temporary))
            return
        own = path.resolve() == Path("results", profile).resolve() and lock.exists()
        folder = path if path.is_dir() else _unpacked(path, Path(temporary))
        if not found(folder):
            raise ResultError(f"{place!r} holds no results ({', '.join(f'{stage}/' for stage in sorted(STAGES))})")
        yield Run(place, folder, reproduction.read(lock) if own else None)


def _unpacked(path, folder):
    try:
        with zipfile.ZipFile(path) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
        manifest = json.loads(contents.pop(_MANIFEST))
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        intact = (manifest["schema"], manifest["sha256"]) == (SCHEMA, hashes)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise ResultError(f"{str(path)!r} is no archive of `pcbench pack` ({type(error).__name__}: {error})") from error
    if not intact:
        raise ResultError(f"{str(path)!r} is damaged, or of another schema: its files are not those of its manifest")
    for name, content in contents.items():
        target = (folder / name).resolve()
        if not target.is_relative_to(folder.resolve()):
            raise ResultError(f"{str(path)!r} would write outside its folder: {name!r}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder / "results"


def _revision(revision, profile, path, folder):
    lock, reason = reproduction.committed_lock(path, revision)
    if lock is None and reproduction.is_revision(revision):
        raise InvalidParameters(
            f"git revision {revision!r} has no {path}: no run of profile {profile!r} was committed there"
        )
    if lock is None:
        raise InvalidParameters(
            f"{revision!r} is no folder, no archive, and no git revision ({reason}); `git log --oneline -- {path}` lists "
            "those with a run of this profile"
        )
    # Imported here: it takes a second, and most comparisons are of folders.
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexError  # of a folder; DVC does not make it one of its own

    repository, prefix = DVCFileSystem(".", rev=revision), f"results/{profile}/"
    for path in (out["path"] for stage in lock["stages"].values() for out in stage.get("outs", ())):
        if path.startswith(prefix):
            target = folder / path.removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                repository.get(path, str(target), recursive=True)
            except (DvcException, DataIndexError, OSError):  # it is not in the cache: its hash is what is known of it
                shutil.rmtree(target, ignore_errors=True)
                target.unlink(missing_ok=True)
    return Run(revision, folder, lock)
