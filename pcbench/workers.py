"""Work in several processes: their progress, their failures, and their end with their parent's."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from pebble import ProcessExpired, ProcessPool

from pcbench.errors import PCBenchError

_worker: dict[str, Any] = {}


def in_processes(
    work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], advance: Callable[[], None], start: Callable[[], None]
) -> list[Any]:
    """Call ``work`` with each job's arguments, in as many processes as there are cores; return the results in order.

    One failure ends all workers; see `outcomes` for the rest.

    Raises:
        PCBenchError: a worker was killed the second time too; names the signal and the job.
    """
    results: dict[int, Any] = {}  # by the job's place
    for place, result in outcomes(work, jobs, advance, start):
        if isinstance(result, BaseException):
            raise result
        results[place] = result
    return [results[place] for place in range(len(jobs))]


def outcomes(
    work: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    advance: Callable[[], None],
    start: Callable[[], None],
    processes: int | None = None,
) -> Iterator[tuple[int, Any]]:
    """Call ``work`` with each job's arguments, in several processes; yield each job's place and result, as they end.

    Ctrl-C, SIGTERM, or a caller that has enough of it, ends all workers. A worker that the system kills (out of memory,
    mostly) is told of on standard error, and what it had not finished is done once more after all others, one job at a time.

    Args:
        work: a function of a module; in it, `advance` may be called.
        jobs: tuples of arguments; the last thing that one is called in messages is ``str`` of its first.
        advance: called for every call of `advance` in a worker.
        start: a function of a module, called once in every worker.
        processes: how many; as many as there are cores unless told.

    Yields:
        ``(place, result)``; the exception in the result's place where there was one.
    """
    again: list[int] = []
    for place, result in _outcomes(work, jobs, range(len(jobs)), advance, start, processes or os.cpu_count() or 1):
        if isinstance(result, _KILLED):
            print(f"{_told(result)}; {jobs[place][0]} is done once more, at the end", file=sys.stderr)
            again.append(place)
        else:
            yield place, result
    for place, result in _outcomes(work, jobs, again, advance, start, 1):
        if isinstance(result, _KILLED):
            what = f"{_told(result)}, twice, at {jobs[place][0]}: free some memory and run again"
            yield place, PCBenchError(what)
        else:
            yield place, result


def advance() -> None:
    """In a worker: tell the parent that one step is done. Where the parent was killed, leave the field."""
    if os.getppid() != _worker["parent"]:
        os._exit(1)
    _worker["queue"].put(None)


def _outcomes(work, jobs, places, advance, start, processes):
    """`outcomes`, with one of `_KILLED` for a job whose worker was killed."""
    for last in (False, False, True):
        broken = []
        for place, result in _in_pool(work, jobs, places, advance, start, processes):
            # All workers were killed before one had begun, and none of the jobs can be to blame: another pool has them.
            if isinstance(result, BrokenProcessPool) and not last:
                broken.append(place)
            else:
                yield place, result
        places = broken


def _in_pool(work, jobs, places, advance, start, processes):
    if not places:
        return
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    begin = {"initializer": _start, "initargs": (queue, os.getpid(), start)}
    pool = ProcessPool(min(len(places), processes), context=context, **begin)
    try:
        pending = {pool.schedule(work, jobs[place]): place for place in places}
        while pending:
            done, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            while not queue.empty():
                queue.get()
                advance()
            for future in done:
                yield pending.pop(future), future.exception() or future.result()
    finally:
        pool.stop()
        pool.join()


_KILLED = ProcessExpired, BrokenProcessPool


def _told(killed):
    if isinstance(killed, BrokenProcessPool):
        return "all workers were killed before they had begun"
    code = killed.exitcode
    return f"a worker was killed by {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"


def _start(queue, parent, start):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and ends its workers
    _worker.update(queue=queue, parent=parent)
    start()
