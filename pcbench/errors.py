"""Errors that a user can cause: each names the offender and the remedy; the command line prints it and exits with 2."""

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class PCBenchError(Exception):
    """Base of every error whose message is written for the user; shown without a traceback."""


class UnsupportedModule(PCBenchError):
    """A module (or a line of its ``forward``) does what a rule cannot follow."""


class NotRepeatable(PCBenchError):
    """Backpropagation itself gives another result when it is run again from the same state."""


class InvalidParameters(PCBenchError):
    """``params.yaml``, a rule's option or a name given by the user is not one that exists or makes sense."""


class DataError(PCBenchError):
    """A data set is missing, unreachable or does not verify."""


class NonFiniteLoss(PCBenchError):
    """The loss became NaN or infinite, so nothing computed from it would mean anything."""


class ResultError(PCBenchError):
    """A result file is missing, unreadable or of another schema."""


def told(error: BaseException) -> str:
    """One line for an exception from code that is not ours: its type, its text, and where it was raised."""
    libraries = tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "purelib", "platlib"))
    ours = str(Path(__file__).parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((*libraries, "<"))]
    # The user's own line, rather than the library's that it called or ours that called it.
    frames = [f for f in frames if not f.filename.startswith(ours)] or frames
    place = f", {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return " ".join(f"{type(error).__name__}: {error}{place}".split())


@contextmanager
def foreign_code(what: str, remedy: str) -> Iterator[None]:
    """Make one line of whatever code that is not ours raises; ``sys.exit()`` in it must not pass for a verdict.

    Raises:
        InvalidParameters: the block has raised something else than a `PCBenchError`; says ``what``, what, and ``remedy``.
    """
    try:
        yield
    except PCBenchError:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidParameters(f"{what} ({told(error)}); {remedy}") from error
