"""One profile's pipeline: its cells by an executor, then DVC, which keeps the record. One run at a time.

DVC says which stages are to run; what they are made of, cells, is computed first, by as many workers as there are. `dvc
repro` runs each of these stages, which finds its cells done: some while others' are computed, the rest at the end. Then it
takes the timings, one after another with nothing beside them. So dvc.lock is written by DVC alone, from the same commands,
whoever computed the cells, and a `dvc repro` without an executor does the same, stage after stage.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pcbench import data, executors, params, stages
from pcbench.cells import Cell, Experiment, running
from pcbench.check import reproduction
from pcbench.errors import PCBenchError
from pcbench.files import alone, check_writable
from pcbench.terminal import progress, say

_PATIENCE = 20  # seconds that the stages have for their end
_ENOUGH = 8  # stages: DVC takes as long to start as to run one whose cells are done
_SAID = re.compile(r"^(?:Running stage|Stage) '(?:.*:)?(\w+)@([^']+)'(:| is cached)", re.MULTILINE)


def folder(profile: str) -> Path:
    """The folder of the profile's dvc.yaml: the default profile's is the repository's own."""
    return Path("." if profile == "default" else f"profiles/{profile}")


def run(profile: str, parameters: params.Parameters, executor: str = "local", options: Mapping[str, Any] = {}) -> None:
    """Bring every result and the report of a profile up to date.

    Args:
        profile: the profile's name.
        parameters: see `pcbench.params.load`.
        executor: who computes the cells, a name in `pcbench.executors.NAMES`.
        options: the executor's own.

    Raises:
        InvalidParameters, ResultError, PCBenchError: no such profile or executor, a damaged dvc.lock, a folder that cannot be
            written to; or a cell or a stage failed: then all others are finished, and recorded.
    """
    listed = params.profile(parameters, profile)
    chosen = executors.named(executor)
    home = folder(profile)
    for lock in (home / "dvc.lock", Path("profiles/dvc.lock"), Path("datasets/dvc.lock")):
        if lock.exists():
            reproduction.read(lock)
    check_writable(home / "dvc.lock")
    for name in ("results", "reports", "datasets", "profiles", ".dvc", ".pcbench"):
        check_writable(Path(name))
    with alone(Path(".pcbench/repro.lock"), "a run of the pipeline"):
        for stage in params.STAGES:
            (Path("results") / profile / stage).mkdir(parents=True, exist_ok=True)  # the report depends on them
        data_sets = {parameters["tasks"][task]["data"] for task in listed["tasks"]}
        missing = sorted(name for name in data_sets if not data.folder(name).exists())
        # What DVC would run it can tell only when it knows the code as it is now.
        _dvc("repro", "profiles/dvc.yaml:code", *(f"datasets/dvc.yaml:fetch@{name}" for name in missing))
        asked = _cells(profile, parameters, _to_run(home))
        failed = _compute(asked, chosen, options, home)
        if failed:
            whole = {_stage(cell) for cell in asked} - {_stage(outcome.cell) for outcome in failed}
            if whole:
                _dvc("repro", *_targets(home, sorted(whole)))
            raise PCBenchError(
                f"{len(failed)} of {len(asked)} cells failed, for the reasons above; the others are kept: run the same "
                "command again to go on"
            )
        _dvc("repro", str(home / "dvc.yaml"))


def _to_run(home):
    """The stages that DVC would run now, of those that are made of cells: ``[(stage, name), ...]``."""
    told = _dvc("repro", "--dry", str(home / "dvc.yaml"), quiet=True)
    # Of one whose result is in DVC's cache it says both, that first.
    found = {(stage, name): end == ":" for stage, name, end in reversed(_SAID.findall(told))}
    return [key for key, runs in found.items() if runs and key[0] in _ORDER]


def _cells(profile, parameters, to_run):
    found: list[Cell] = []
    for stage, name in sorted(to_run, key=lambda each: _ORDER.index(each[0])):
        found += stages.named(stage).cells(Experiment(name, profile, parameters, Path("datasets")))
    return found


# What takes long first, so that no worker is left alone with it at the end.
_ORDER = ("zoo", "proof", "conditions", "train", "conformance", "exactness")


def _compute(
    asked: Sequence[Cell], executor: executors.Executor, options: Mapping[str, Any], home: Path
) -> list[executors.Outcome]:
    """Compute what is not stored, and return what failed, each of which was told of."""
    left = [cell for cell in asked if cell.stored() is None]
    if not left:
        return []
    failed = []
    with (
        _Recorder(asked, left, home) as recorder,
        progress("cells", len(asked), lambda: _running(left), len(asked) - len(left)) as advance,
    ):
        for outcome in executor.outcomes(left, options):
            advance()
            if outcome.failed:
                failed.append(outcome)
                say(f"{outcome.cell}: {outcome.failed}")
            else:
                recorder.stored(outcome.cell)
    return failed


class _Recorder:
    """DVC, which runs the stages whose cells are all stored while others are computed: one process of it at a time.

    Whatever it has not run, or failed at, is left to who comes after it.
    """

    def __init__(self, asked, left, home):
        self._missing = Counter(_stage(cell) for cell in left)
        self._ready = list(dict.fromkeys(_stage(cell) for cell in asked if _stage(cell) not in self._missing))
        self._home, self._dvc = home, None

    def __enter__(self):
        return self

    def __exit__(self, kind, stop, trace):
        if self._dvc is not None and isinstance(stop, KeyboardInterrupt | SystemExit):
            self._dvc.stop(stop)
        self._tell()

    def stored(self, cell):
        """Count a cell that is stored, and start DVC if there is enough for it to do."""
        stage = _stage(cell)
        self._missing[stage] -= 1
        if not self._missing[stage]:
            self._ready.append(stage)
        if len(self._ready) >= _ENOUGH and (self._dvc is None or self._dvc.has_ended()):
            self._tell()
            self._dvc, self._ready = _Dvc("repro", *_targets(self._home, self._ready), quiet=True), []

    def _tell(self):
        """Wait for DVC, if it was started, and print what it has said."""
        if self._dvc is not None:
            say(self._dvc.wait().rstrip())


def _running(cells):
    """What is computed now, and where."""
    return ", ".join(f"{cell} on {where['host']}" for cell, where in running(cells))


def _stage(cell):
    return f"{cell.stage}@{cell.experiment.task}"


def _targets(home, names):
    return [f"{home / 'dvc.yaml'}:{name}" for name in names]


def _dvc(*arguments, quiet=False):
    """Run DVC; return what it says, if quiet; else that is printed."""
    process = _Dvc(*arguments, quiet=quiet)
    said = process.wait()
    if process.failed:
        raise PCBenchError(f"`dvc {' '.join(arguments)}` failed (exit code {process.failed}), for the reason above")
    return said


class _Dvc:
    """DVC and its stages as one process group, so that Ctrl-C and SIGTERM reach them all."""

    def __init__(self, *arguments, quiet):
        # The stages call `pcbench`: this environment's.
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        environment = {**os.environ, "PATH": path}
        self._output = TemporaryFile("w+", errors="replace") if quiet else None  # noqa: SIM115 (until `wait` has read it)
        command = [sys.executable, "-m", "dvc", *arguments]
        self._process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=self._output)

    @property
    def failed(self):
        """The exit code, if it is none of success."""
        return self._process.returncode

    def has_ended(self):
        """Whether there is nothing to wait for."""
        return self._process.poll() is not None

    def wait(self):
        """Wait for the end, and return what it said, if that was not printed."""
        try:
            self._process.wait()
        except (KeyboardInterrupt, SystemExit) as stop:
            self.stop(stop)
            raise
        if self._output is None:
            return ""
        with self._output as output:
            output.seek(0)
            return output.read()

    def stop(self, why):
        """End it as an exception ends this process, which waits until all has ended."""
        _end(self._process, signal.SIGINT if isinstance(why, KeyboardInterrupt) else signal.SIGTERM)


def _end(process, number):
    """Send the signal to the whole group; what has not ended after a while is killed."""
    for each, patience in ((number, _PATIENCE), (signal.SIGKILL, _PATIENCE)):
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                os.killpg(process.pid, each)
            except ProcessLookupError:
                return
            each = 0  # from now on: is anybody there?
            process.poll()
            time.sleep(0.05)
