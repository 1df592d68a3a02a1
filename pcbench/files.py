"""Writing files so that an interruption leaves the old content or the new, never half of either."""

import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from pcbench.errors import InvalidParameters, NodeFault, PCBenchError, ResultError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; when the block succeeds it replaces ``path``, when it fails it vanishes.

    Raises:
        PCBenchError: the folder cannot be created or written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    os.close(handle)
    temporary = Path(made)
    try:
        yield temporary
        # mkstemp makes the file private; results are as readable as any other file of the user's.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise NodeFault(
            f"cannot write {str(path)!r} ({error.strerror}); nothing of it is left: make room, or make it writable, "
            "and run again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Raise now what writing the file or folder ``path`` would raise hours later; nothing is left behind.

    Raises:
        PCBenchError: its folder, or the first one above it that exists, cannot be written to; or it is of the other kind.
    """
    path = Path(path)
    file = bool(path.suffix)
    try:
        if path.is_dir() if file else path.is_file():
            kind = "file" if file else "folder"
            raise PCBenchError(f"cannot write to {str(path)!r} (a {kind} belongs there); move it away")
        above = path.absolute().parents
        home = next(folder for folder in (above if file else (path, *above)) if folder.exists())
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise _unwritable(path.parent if file else path, error) from error


def _unwritable(folder, error):
    return NodeFault(
        f"cannot write to {str(folder)!r} ({error.strerror}); make it a writable folder or choose another one"
    )


@contextmanager
def alone(path: str | Path, what: str) -> Iterator[None]:
    """Run the block while no other process runs one with the same lock file ``path``; wait for it, and say so.

    Raises:
        PCBenchError: the lock's folder cannot be written to.
    """
    path = Path(path)
    check_writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"{what} is already going on in another process; waiting for its end", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, with Unix line ends so that hashes agree on every platform.

    Raises:
        PCBenchError: see `atomic`.
    """
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def json_text(value: Any) -> str:
    """Return ``value`` as JSON: same value, same text.

    Raises:
        ValueError: a number is NaN or infinite, which is not JSON; see `finite_or_none`.
        TypeError: something in it is of a type that JSON does not have.
    """
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` to ``path`` atomically: same value, same bytes.

    Raises:
        ValueError, TypeError: see `json_text`.
        PCBenchError: see `atomic`.
    """
    write_text(path, json_text(value))


def finite_or_none(value: Any) -> Any:
    """The value, or None for infinity and NaN, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: str | Path, remake: str = "`make repro` for its profile") -> Any:
    """Return the JSON value stored at ``path``; ``remake`` is the command that makes it, for messages.

    Raises:
        ResultError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultError(f"{str(path)!r} does not exist; run {remake}, which makes it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"{str(path)!r} cannot be read ({error}); delete it and run {remake}") from error


_Safe: Any = yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader


class _Loader(_Safe):
    """PyYAML's, but a key that stands twice is an error: the second would silently win."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name.__hash__ and name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} stands twice", key.start_mark)
            seen |= {name} if name.__hash__ else set()
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path, error: type[PCBenchError] = InvalidParameters, remedy: str = "mend it") -> Any:
    """Return the YAML value stored at ``path``.

    Raises:
        error: the file is missing, no UTF-8, no YAML, has a key twice, or was left half merged by git; one line that ends
            with ``remedy``.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as failure:
        raise error(f"cannot read {str(path)!r} ({failure.strerror}); {remedy}") from failure
    except UnicodeDecodeError as failure:
        raise error(f"{str(path)!r} is not UTF-8 (byte {failure.start}); {remedy}") from failure
    return parse_yaml(text, path, error, remedy)


def parse_yaml(
    text: str, path: str | Path, error: type[PCBenchError] = InvalidParameters, remedy: str = "mend it"
) -> Any:
    """Return the value of YAML ``text`` that came from ``path``.

    Raises:
        error: see `read_yaml`.
    """
    merged = next((i for i, line in enumerate(text.splitlines(), 1) if line.startswith(_CONFLICT)), None)
    if merged:
        raise error(f"{str(path)!r} is half merged (line {merged} is git's mark of a conflict); {remedy}")
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as failure:
        told = " ".join(str(failure).split())
        raise error(f"{str(path)!r} is not valid YAML: {told}; {remedy}") from failure


_CONFLICT = ("<<<<<<< ", ">>>>>>> ", "||||||| ")
