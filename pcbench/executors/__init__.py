"""Who computes cells: one file an executor, found by its name; each has a function `outcomes`, and a queue that is not ours.

    outcomes(cells, options) -> Iterator[Outcome]

computes every cell by `work` in a process somewhere, and yields an `Outcome` as each ends, in any order. What is stored under
a cell's key when it ends counts; an executor keeps no record of its own. Closed before its end, it ends its workers.
"""

import importlib
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from pcbench import data, params, stages
from pcbench.cells import Cell
from pcbench.errors import DataError, InvalidParameters, NodeFault, PCBenchError, told
from pcbench.files import write_json

NAMES = ("local", "ray", "slurm")


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        cell: the cell.
        record: its record; None if it failed.
        failed: what failed, in one line; empty if nothing did.
    """

    cell: Cell
    record: dict[str, Any] | None = None
    failed: str = ""


@dataclass(frozen=True)
class Failed:
    """What a cluster's node hands back in place of a record.

    Attributes:
        why: what failed, and where, in one line.
        again: whether that was the node's fault, not the cell's, so that another try may do better.
        node: the node that the other try keeps away from; empty if it need not.
    """

    why: str
    again: bool = False
    node: str = ""


class Executor(Protocol):
    """A module of this folder."""

    def outcomes(self, cells: Sequence[Cell], options: Mapping[str, Any]) -> Iterator[Outcome]:
        """Compute the cells, see `pcbench.executors`.

        Raises:
            InvalidParameters: an option that the executor does not have; or it is not installed, or cannot be reached.
        """


def named(name: str) -> Executor:
    """Return the executor of that name.

    Raises:
        InvalidParameters: there is none.
    """
    if name not in NAMES:
        raise InvalidParameters(f"unknown executor {name!r}; the executors are {', '.join(NAMES)}")
    return cast(Executor, importlib.import_module(f"pcbench.executors.{name}"))


def work(cell: Cell, root: str) -> dict[str, Any]:
    """In a worker, on any machine: compute a cell, store it, and return its record.

    Args:
        cell: the cell.
        root: the repository's folder there.

    Raises:
        PCBenchError: this machine would compute something else than was asked for; or see `pcbench.stages`.
    """
    os.chdir(root)
    stages.reproducible()
    _fetched(cell)
    own = stages.named(cell.stage).cell(cell.experiment, cell.part)
    if own.key != cell.key:
        other = params.differing(cell.identity, own.identity)
        raise NodeFault(
            f"{platform.node()} would compute another {cell} than was asked for: it differs in {', '.join(other)}. All nodes "
            "need the same checkout, the same parameters and the same environment"
        )
    return stages.compute(cell)


def attempt(cell: Cell, root: str, node: str) -> dict[str, Any] | Failed:
    """On a cluster's node, which the cluster calls ``node``: `work`, whose exceptions need not be known to who asked."""
    try:
        return work(cell, root)
    except Exception as error:
        why = f"{failure(cell, error).failed} (on {platform.node()})"
        return Failed(why, again=True, node=node) if isinstance(error, NodeFault | DataError | OSError) else Failed(why)


def gpus(cell: Cell) -> int:
    """How many GPUs a cell asks a cluster for."""
    return int(cell.identity["parameters"]["device"] != "cpu")


def kept(cell: Cell, record: dict[str, Any]) -> Outcome:
    """The outcome of a cell that was computed; its record is stored here too if its node does not share this folder."""
    if not cell.path.exists():
        write_json(cell.path, record)
    return Outcome(cell, record)


def outcome(cell: Cell, found: dict[str, Any] | Failed) -> Outcome:
    """The outcome of a cell that `attempt` was made at."""
    return Outcome(cell, failed=found.why) if isinstance(found, Failed) else kept(cell, found)


def failure(cell: Cell, error: BaseException) -> Outcome:
    """The outcome of a cell in whose computation something was raised."""
    return Outcome(cell, failed=str(error) if isinstance(error, PCBenchError) else told(error, ours=True))


def check(options: Mapping[str, Any], known: Mapping[str, Callable[[str], Any]], executor: str) -> dict[str, Any]:
    """Return the options with their types.

    Args:
        options: ``{name: text}``, from the command line.
        known: a type for each that the executor has.
        executor: its name, for messages.

    Raises:
        InvalidParameters: another option, or a value that is none of its type.
    """
    typed = {}
    for name, value in options.items():
        if name not in known:
            raise InvalidParameters(
                f"executor {executor!r} has no option {name!r}; it has {', '.join(known) or 'none'}"
            )
        try:
            typed[name] = known[name](value)
        except ValueError:
            raise InvalidParameters(
                f"option {name}={value!r} of executor {executor!r} is no {known[name].__name__}"
            ) from None
    return typed


def _fetched(cell):
    """A node that does not share the data sets' folder fetches what it needs, once."""
    parameters = cell.identity["parameters"]
    if "task" in parameters:
        name, datasets = parameters["task"]["data"], cell.experiment.datasets
        if not data.folder(name, datasets).exists():
            data.fetch(name, datasets)
