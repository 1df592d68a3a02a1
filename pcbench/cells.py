"""Cells: the independent parts of results, each found again by what it was computed from.

A cell's key is a digest of all that decides its bits: parameters, data, code, versions, instruction set. What was computed
lies under that key until the stage that asked for it has taken it into a result, so that no interruption loses a finished
cell, and whoever computes it (this machine's processes, a cluster's nodes) leaves the same bytes. A lock keeps two from
computing one cell, and holds over machines where their file system's locks do.
"""

import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from pcbench import params, provenance
from pcbench.errors import PCBenchError, ResultError
from pcbench.files import read_json, write_json

SCHEMA = 1


@dataclass(frozen=True)
class Experiment:
    """What to run a stage on.

    Attributes:
        task: the task's name.
        profile: the profile's name.
        parameters: params.yaml, see `pcbench.params.load`.
        datasets: the folder that holds the data sets.
        results: the folder under which results go.
        kept: the folder that keeps what is finished until its stage is: cells, and training's epochs.
    """

    task: str
    profile: str
    parameters: params.Parameters
    datasets: Path
    results: Path = Path("results")
    kept: Path = Path(".pcbench")


@dataclass(frozen=True)
class Cell:
    """One part of one stage's result.

    Attributes:
        stage: the stage's name.
        part: which part, such as ``("float32", 0)``; empty where the result has no parts.
        experiment: what it is a part of.
        identity: what decides its bits, a JSON value.
    """

    stage: str
    part: tuple[Any, ...]
    experiment: Experiment
    identity: dict[str, Any]

    def __str__(self) -> str:
        return " ".join(map(str, (self.stage, self.experiment.task, *self.part)))

    @cached_property
    def key(self) -> str:
        """32 hexadecimal digits."""
        return provenance.digest(self.identity)[:32]

    @cached_property
    def path(self) -> Path:
        """Where its record lies once it is computed; beside it lie its lock, and who computes it now."""
        return self.experiment.kept / "cells" / self.stage / self.experiment.task / f"{self.key}.json"

    def stored(self) -> dict[str, Any] | None:
        """Return the record, ``{"value": what was measured, "made_on": the environment, ...}``; None if there is none.

        Raises:
            ResultError: it is damaged.
        """
        try:
            return read_json(self.path) if self.path.exists() else None
        except ResultError:
            if self.path.exists():
                raise
            return None  # its stage has taken it in between

    def runs(self) -> dict[str, Any] | None:
        """Who computes it, ``{"host", "pid", "since"}``, as far as that is known here; None if nobody has begun."""
        try:
            return read_json(self.begun)
        except PCBenchError:
            return None

    @property
    def begun(self) -> Path:
        """Where whoever computes it says so."""
        return self.path.with_suffix(".running")

    def forget(self) -> None:
        """Remove the record: its result has it."""
        for path in (self.path, self.begun, self.path.with_suffix(".lock")):
            path.unlink(missing_ok=True)


def running(cells: Sequence[Cell]) -> list[tuple[Cell, dict[str, Any]]]:
    """Which of the cells are computed now, and by whom, see `Cell.runs`; of thousands few are, and only these are read."""
    begun = {path for folder in {cell.begun.parent for cell in cells} for path in folder.glob("*.running")}
    return [(cell, where) for cell in cells if cell.begun in begun and (where := cell.runs())]


def here() -> dict[str, Any]:
    """What a process that begins with a cell says of itself, see `Cell.runs`."""
    return {"host": platform.node() or socket.gethostname(), "pid": os.getpid(), "since": time.time()}


def identity(stage: str, part: tuple[Any, ...], recorded: dict[str, Any]) -> dict[str, Any]:
    """What decides a cell's bits, on this machine.

    Args:
        stage, part: see `Cell`.
        recorded: what its result's provenance records of parameters, data and code.
    """
    environment = provenance.environment()
    deciding = {key: environment[key] for key in ("versions", "instruction_set")}
    return {"schema": SCHEMA, "stage": stage, "part": list(part), **recorded, **deciding}


def computed(cell: Cell, measure: Callable[[], Any]) -> dict[str, Any]:
    """Return the cell's record; where none is stored, it is measured and stored, by one process at a time.

    Args:
        cell: the cell.
        measure: returns what is to be stored, a JSON value.

    Raises:
        PCBenchError: it cannot be written; and what ``measure`` raises.
    """
    if (record := cell.stored()) is not None:
        return record
    with _alone(cell):
        if (record := cell.stored()) is not None:  # another process computed it while this one waited
            return record
        device = cell.identity["parameters"]["device"]
        write_json(cell.path, {**cell.identity, "value": measure(), "made_on": provenance.environment(device)})
        return read_json(cell.path)  # what is taken now has the types that it would have after an interruption


@contextmanager
def _alone(cell: Cell) -> Iterator[None]:
    cell.path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(cell.path.with_suffix(".lock")):
        for half in cell.path.parent.glob(f".{cell.key}.*"):  # who was killed while writing has left it
            half.unlink(missing_ok=True)
        write_json(cell.begun, here())
        try:
            yield
        finally:
            cell.begun.unlink(missing_ok=True)
