"""Writing files so that an interruption leaves the old content or the new, never half of either."""

import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from pcbench.errors import PCBenchError, ResultError


@contextmanager
def atomic(path):
    """Yield a temporary path beside ``path``; when the block succeeds it replaces ``path``, when it fails it vanishes.

    Raises:
        PCBenchError: the folder cannot be created or written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise PCBenchError(
            f"cannot write to {str(path.parent)!r} ({error.strerror}); make it a writable folder or choose another one"
        ) from error
    os.close(handle)
    temporary = Path(temporary)
    try:
        yield temporary
        # mkstemp makes the file private; results are as readable as any other file of the user's.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write ``text`` to ``path`` atomically, with Unix line ends so that hashes agree on every platform."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path, value):
    """Write ``value`` to ``path`` atomically: same value, same bytes. NaN is refused: it is not JSON."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path):
    """Return the JSON value stored at ``path``.

    Raises:
        ResultError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultError(f"{str(path)!r} does not exist; run the stage that makes it (`dvc repro`)") from None
    except (OSError, ValueError) as error:
        raise ResultError(f"{str(path)!r} cannot be read ({error}); delete it and run `dvc repro`") from error
