"""Slurm, through submitit: cells as the jobs of an array.

Slurm has the queue, and requeues the jobs of a node that it lost. What a killed job had not finished, or a node was at fault
for, is submitted again. The nodes share this folder, and its locks hold over machines.

Options: ``partition``, ``account``, ``qos``, ``constraint`` and ``mem`` as `sbatch` has them; ``time``, the minutes that a
job may take; ``jobs``, how many jobs the cells are dealt out to where they are small: unless told, each has its own.
"""

import math
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pcbench.cells import Cell
from pcbench.errors import InvalidParameters
from pcbench.executors import Failed, Outcome, attempt, check, gpus, outcome

_OPTIONS = {"partition": str, "account": str, "qos": str, "constraint": str, "mem": str, "time": int, "jobs": int}
_NAME = "pcbench"
_POLL = 1.0  # seconds between two looks at what has ended
_ASK = 5.0  # seconds between two questions to Slurm's controller, which all users share
_PATIENCE = 60.0  # seconds after which a shared folder shows what another machine wrote: NFS's default
_DEAD = {"BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}
_OVER = {"COMPLETED", "FORGOTTEN"}  # the latter is ours: Slurm no longer lists the job


def outcomes(cells: Sequence[Cell], options: Mapping[str, Any]) -> Iterator[Outcome]:
    """See `pcbench.executors`."""
    settings = check(options, _OPTIONS, "slurm")
    jobs = settings.pop("jobs", None)
    if cells:
        # In the end each cell has a job, so that what kills its process takes no other with it.
        yield from _outcomes(cells, [jobs, jobs, None] if jobs else [None, None], settings)


def _outcomes(cells, tries, settings):
    """Deal the cells out to as many jobs as the first try says; what had no chance comes to the next."""
    jobs, *later = tries
    again, faulty = [], set()
    for cell, found in _array(cells, jobs, settings):
        if isinstance(found, Failed) and found.again and later:
            again.append(cell)
            faulty.add(found.node)
        else:
            yield outcome(cell, found)
    if again:
        yield from _outcomes(again, later, {**settings, **_without(faulty)})


def _array(cells, jobs, settings):
    """Yield each cell and its record, or `Failed`, as it ends; closed before the last, it cancels the jobs."""
    number = min(len(cells), jobs or len(cells), _largest_array())
    dealt = [[*cells[place::number]] for place in range(number)]
    home = cells[0].experiment.kept.absolute()
    home.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="slurm-", dir=home, ignore_cleanup_errors=True) as folder:
        left = dict(zip(_submitted(dealt, folder, settings), dealt, strict=True))
        try:
            yield from _ended(left)
        finally:
            if left:
                subprocess.run(["scancel", *{job.job_id.partition("_")[0] for job in left}], check=False)


def _submitted(dealt, folder, settings):
    try:
        import submitit
    except ImportError:
        raise InvalidParameters("executor 'slurm' needs submitit: pip install 'pcbench[slurm]'") from None
    own = {
        "job_name": _NAME,
        "cpus_per_task": 1,
        "gpus_per_node": gpus(dealt[0][0]) or None,
        # Slurm's limits hold, not submitit's.
        "time": None,
        "array_parallelism": len(dealt),
        "additional_parameters": {"requeue": True},
    }
    try:
        executor = submitit.SlurmExecutor(folder)
        executor.update_parameters(**{**own, **settings})
        return executor.map_array(_work, dealt, [str(Path.cwd())] * len(dealt))
    except (RuntimeError, OSError) as error:  # submitit's own are among them
        raise InvalidParameters(f"Slurm takes no jobs from here ({' '.join(str(error).split())})") from None


def _work(cells, root):
    """In a job: what each cell's key stands for, a record or `Failed`."""
    return {cell.key: attempt(cell, root, os.environ["SLURMD_NODENAME"]) for cell in cells}


def _ended(left):
    """Yield each cell and its record, or `Failed`, as it ends; jobs that have ended leave ``left``, from job to cells."""
    asked, states, since = -math.inf, None, {}
    while left:
        time.sleep(_POLL)
        if time.monotonic() - asked >= _ASK:
            states, asked = _states(), time.monotonic()
        for job, own in [*left.items()]:
            end = _end(job, states, since)
            for cell in own:
                if found := cell.stored() or (end and end(cell)):
                    left[job] = [each for each in left[job] if each is not cell]
                    yield cell, found
            if end:
                del left[job]


def _end(job, states, since):
    """What tells the record or `Failed` of each of a job's cells; None while it has not ended, as far as is known."""
    from submitit.core.utils import pickle_load

    result = job.paths.result_pickle
    if result.exists():
        what, value = pickle_load(result)
        if what == "success":
            return lambda cell: value[cell.key]
        return lambda cell: Failed(value.strip().splitlines()[-1], again=True)
    if states is None:
        return None
    state, node = states.get(job.job_id, ("FORGOTTEN", ""))
    if state in _DEAD or (state in _OVER and time.monotonic() - since.setdefault(job, time.monotonic()) > _PATIENCE):
        said = "; ".join((job.stderr() or "it said nothing").strip().splitlines()[-2:])
        return lambda cell: Failed(
            f"its job {job.job_id} ended as {state} (on {node or 'no node'}): {said}", again=True
        )
    return None


def _states():
    """Every job's state and node; None if the controller does not answer, as while it is restarted: then jobs run on."""
    try:
        said = _ask(
            "squeue", "--me", "--name", _NAME, "--array", "--states", "all", "--noheader", "--format", "%i %T %N"
        )
    except InvalidParameters:
        return None
    return {job: (state, node) for job, state, node in (f"{line} ".split(" ")[:3] for line in said.splitlines())}


def _largest_array():
    """How many jobs an array may have here."""
    told = dict(line.split("=", 1) for line in _ask("scontrol", "show", "config").splitlines() if "=" in line)
    return next(int(value) for key, value in told.items() if key.strip() == "MaxArraySize") - 1


def _without(nodes):
    """Have `sbatch` keep away from these nodes, if there are others."""
    faulty = nodes - {""}
    others = {*_ask("sinfo", "--Node", "--noheader", "--format", "%N").split()} - faulty
    return {"exclude": ",".join(sorted(faulty))} if faulty and others else {}


def _ask(*command):
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise InvalidParameters(
            f"executor 'slurm' needs Slurm's commands, and there is no `{command[0]}` here"
        ) from None
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split())
        raise InvalidParameters(f"Slurm's controller does not answer (`{command[0]}`: {said}); start it") from None
