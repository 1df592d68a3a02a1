"""What is printed, on whatever it is printed to: no encoding, closed pipe or bracket changes an answer or an exit code.

Exit codes: 0, the answer is yes; 1, it is no; 2, there is no answer; 130 and 143, interrupted. Only a verdict makes a 1.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from math import ceil
from textwrap import shorten
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from pcbench.errors import PCBenchError, told

_SILENCE = 30  # seconds, at most, of work whose progress nobody sees as a bar
_HISTORY = 3600  # seconds of which speed is the mean: one step may take minutes

console = Console(markup=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print ``text`` as it is: a bracket in a path is a bracket, and no line is folded."""
    console.print(text)


def table(heads: Iterable[str], sections: Iterable[Iterable[Iterable[Any]]]) -> None:
    """Print a table; cells fold rather than lose letters.

    Args:
        heads: the columns' heads.
        sections: lists of rows, with a line between two of them; a row holds, for each column, what its cell says.
    """
    made = Table(*(Column(Text(head), overflow="fold") for head in heads))
    for rows in sections:
        for row in rows:  # a narrow space, as the report's numbers have, is in few encodings
            made.add_row(*(Text(str(cell).replace("\u202f", " ")) for cell in row))
        made.add_section()
    console.print(made, soft_wrap=False)


class _Beside(ProgressColumn):
    """What a function says, asked once a second."""

    max_refresh = 1.0

    def __init__(self, beside):
        self._beside = beside
        super().__init__(Column(ratio=1, no_wrap=True, overflow="ellipsis"))

    def render(self, task):
        """What stands beside the bar."""
        return Text(self._beside())


@contextmanager
def progress(
    description: str, total: int, beside: Callable[[], str] | None = None, done: int = 0
) -> Iterator[Callable[[], None]]:
    """Show a progress bar, or a line now and then where the output is no terminal; yield what advances it by one.

    Args:
        description: what stands before it.
        total: how many steps there are.
        beside: says what is going on, which stands behind it.
        done: how many steps are done already, and took no time.
    """
    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()]
    columns += [TimeElapsedColumn(), TimeRemainingColumn(), *([_Beside(beside)] if beside else [])]
    seen = console.is_interactive
    with Progress(
        *columns, console=console, auto_refresh=seen, speed_estimate_period=_HISTORY, expand=beside is not None
    ) as bar:
        task = bar.add_task(description, total=total, completed=done)
        with nullcontext() if seen else _lines(bar.tasks[0], beside):
            yield lambda: bar.advance(task)


@contextmanager
def _lines(task: Task, beside: Callable[[], str] | None) -> Iterator[None]:
    """Say how far a task is, again and again, also while its steps take long."""
    over = threading.Event()

    def tell():
        while not over.wait(_SILENCE):
            left, now = task.time_remaining, beside() if beside else ""
            say(
                f"{task.description}: {task.completed:.0f} of {task.total:.0f}"
                + (f", about {ceil(left / 60)} min left" if left else "")
                + (f"; running: {shorten(now, 300, placeholder=' …')}" if now else "")
            )

    with ThreadPoolExecutor(1) as pool:
        telling = pool.submit(tell)
        try:
            yield
        finally:
            over.set()
    telling.result()  # an output that is full is an error here too


class _Output:
    """A stream whose reader may have gone: then what is written goes nowhere, and the work and its verdict go on.

    What the stream's encoding lacks is written as ``?``; a full disk is a `PCBenchError`.
    """

    def __init__(self, stream):
        self._stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        """Write ``text``."""
        return self._try(self._stream.write, text)

    def flush(self):
        """Hand on what is buffered."""
        return self._try(self._stream.flush)

    def _try(self, act, *arguments):
        try:
            return act(*arguments)
        except OSError as error:
            # Also what is still buffered goes nowhere now: flushed at the interpreter's end, it would fail again.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if not isinstance(error, BrokenPipeError):
                raise PCBenchError(f"cannot write the output ({error.strerror})") from error
            return None


def run(app: Callable[[], Any]) -> None:
    """Call ``app``, which ends with SystemExit; errors that the user can mend are one line and exit code 2.

    So is every other exception: a traceback's exit code would be 1, and 1 means "not equal" here.
    ``PCBENCH_TRACEBACK=1`` shows where it came from.

    Raises:
        SystemExit: ``app``'s own, or with exit code 2, or 130 after Ctrl-C.
    """
    before = sys.stdout, sys.stderr
    # Without any stream (`>&-`), Python has None in its place.
    streams: Any = (_Output(stream) if stream else open(os.devnull, "w") for stream in before)  # noqa: SIM115
    sys.stdout, sys.stderr = streams
    try:
        with _terminated():
            app()
            sys.stdout.flush()
    except SystemExit as end:
        try:
            sys.stdout.flush()
        except PCBenchError as error:
            _refuse(error)
        raise end
    except KeyboardInterrupt:
        sys.exit(130)
    except PCBenchError as error:
        _refuse(error)
    except Exception as error:
        if os.environ.get("PCBENCH_TRACEBACK"):
            raise
        _refuse(
            f"{told(error, ours=True)}; this is a fault of PCBench, please report it (PCBENCH_TRACEBACK=1 shows more)"
        )
    finally:
        sys.stdout, sys.stderr = before


def _refuse(error):
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"error: {error}")
    sys.exit(2)


@contextmanager
def _terminated():
    """SIGTERM unwinds the stack like Ctrl-C, so that children end and no half file stays; the exit code is 143."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
