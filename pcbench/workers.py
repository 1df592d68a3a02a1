"""Work in several processes: their progress, their failures, and their end with their parent's."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from pcbench.errors import PCBenchError

_worker: dict[str, Any] = {}


def in_processes(
    work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], advance: Callable[[], None], start: Callable[[], None]
) -> list[Any]:
    """Call ``work`` with each job's arguments, in as many processes as there are cores; return the results in order.

    One failure, Ctrl-C or SIGTERM ends all workers. A worker that the system kills (out of memory, mostly) is told of on
    standard error, and what it and its fellows had not finished is done once more, one job at a time.

    Args:
        work: a function of a module; in it, `advance` may be called.
        jobs: tuples of arguments.
        advance: called for every call of `advance` in a worker.
        start: a function of a module, called once in every worker.

    Raises:
        PCBenchError: a worker was killed the second time too; names the signal and the jobs.
    """
    results: dict[int, Any] = {}  # by the job's place
    processes = min(len(jobs), os.cpu_count() or 1)
    for last in (False, True):
        ended = _try(work, jobs, results, advance, start, processes)
        if ended is None:
            return [results[i] for i in range(len(jobs))]
        left = f"{len(jobs) - len(results)} of {len(jobs)} jobs of {work.__name__.strip('_')!r} were not finished"
        if last:
            raise PCBenchError(f"a worker was killed twice, by {ended}; {left}: free some memory and run again")
        print(f"a worker was killed by {ended}; {left}, and are done once more, one by one", file=sys.stderr)
        processes = 1
    raise AssertionError("unreachable")


def advance() -> None:
    """In a worker: tell the parent that one step is done. Where the parent was killed, leave the field."""
    if os.getppid() != _worker["parent"]:
        os._exit(1)
    _worker["queue"].put(None)


def _try(work, jobs, results, advance, start, processes):
    """Do the jobs that ``results`` lacks; return None, or, where a worker was killed, the signal's name."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    pool = ProcessPoolExecutor(processes, context, _start, (queue, os.getpid(), start))
    seen = {}
    try:
        pending = {pool.submit(work, *job): i for i, job in enumerate(jobs) if i not in results}
        while pending:
            seen |= {child.pid: child for child in multiprocessing.active_children()}
            done, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in done:
                results[pending[future]] = future.result()
                del pending[future]
            while not queue.empty():
                queue.get()
                advance()
        return None
    except BrokenProcessPool:
        return _signal(seen.values())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()


def _signal(children):
    """What ended the first of the children: its fellows were then ended by SIGTERM."""
    for child in children:
        child.join(5)
    codes = [child.exitcode for child in children if child.exitcode]
    code = next((code for code in codes if code != -signal.SIGTERM), -signal.SIGTERM)
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _start(queue, parent, start):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and ends its workers
    _worker.update(queue=queue, parent=parent)
    start()
