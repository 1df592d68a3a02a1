"""Processes of this machine: as many as there are cores, or as the option ``processes`` says."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pcbench import stages, workers
from pcbench.cells import Cell
from pcbench.executors import Outcome, check, failure, kept, work


def outcomes(cells: Sequence[Cell], options: Mapping[str, Any]) -> Iterator[Outcome]:
    """See `pcbench.executors`."""
    processes = check(options, {"processes": int}, "local").get("processes")
    jobs = [(cell, str(Path.cwd())) for cell in cells]
    for place, result in workers.outcomes(work, jobs, lambda: None, stages.reproducible, processes):
        yield failure(cells[place], result) if isinstance(result, BaseException) else kept(cells[place], result)
