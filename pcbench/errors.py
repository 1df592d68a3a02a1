"""Errors that a user can cause: each names the offender and the remedy; the command line prints it and exits with 2."""

import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


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


class NodeFault(PCBenchError):
    """This machine is at fault, not the work: its disk is full, a folder cannot be written to, its environment is another."""


class NonFiniteLoss(PCBenchError):
    """The loss became NaN or infinite, so nothing computed from it would mean anything."""


class ResultError(PCBenchError):
    """A result file is missing, unreadable or of another schema."""


def told(error: BaseException, ours: bool = False) -> str:
    """One line for an exception: its type, its text, and where it was raised.

    The place is the user's own line, rather than the library's that it called or ours that called it. Where there is none, as
    in a network of a library's modules, it is the innermost module; else the library's line, or ours, if it may be to blame.

    Args:
        error: the exception.
        ours: whether it may be a fault of this package.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    lines = [(frame.f_code.co_filename, line) for frame, line in frames]
    libraries = (*(sysconfig.get_paths()[kind] for kind in ("stdlib", "purelib", "platlib")), "<")
    package = str(Path(__file__).parent)
    own = [place for place in lines if place[0].startswith(package)]
    foreign = [place for place in lines if not place[0].startswith((package, "<"))]
    users = [place for place in foreign if not place[0].startswith(libraries)]
    module = None if users or ours else _module([frame.f_locals.get("self") for frame, _ in frames])
    places = users or (own if ours else foreign) or own
    place = f", in {module}" if module else f", {places[-1][0]}:{places[-1][1]}" if places else ""
    return " ".join(f"{type(error).__name__}: {error}{place}".split())


def _module(selves: list[Any]) -> str | None:
    """The innermost module that was running, as ``'1' (Linear)``: its path in the outermost one, and its class."""
    modules = [each for each in selves if hasattr(each, "named_modules")]
    if not modules:
        return None
    path = next((name for name, each in modules[0].named_modules() if each is modules[-1]), "")
    return f"{path!r} ({type(modules[-1]).__name__})" if path else type(modules[-1]).__name__


def running(model: "nn.Module") -> str:
    """Name the module of ``model`` whose forward is running, and the user's line that it is at."""
    import torch  # a command line that only prints an error does without

    libraries = tuple(str(Path(file).parent) for file in (torch.__file__, __file__))
    frame: FrameType | None = sys._getframe(1)
    line, module = None, None
    paths = {id(m): path for path, m in model.named_modules()}
    while frame is not None:
        if line is None and not frame.f_code.co_filename.startswith(libraries):
            line = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        owner = frame.f_locals.get("self")
        if module is None and id(owner) in paths:
            module = owner
        frame = frame.f_back
    module = model if module is None else module
    return f"{paths[id(module)] or 'the model'!r} ({type(module).__name__}), {line or 'unknown line'},"


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
