"""One profile's pipeline, run by DVC: one run at a time; what could fail is said first; its end is its stages' end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pcbench import params
from pcbench.check import reproduction
from pcbench.errors import PCBenchError
from pcbench.files import alone, check_writable

_PATIENCE = 20  # seconds that the stages have for their end


def folder(profile: str) -> Path:
    """The folder of the profile's dvc.yaml: the default profile's is the repository's own."""
    return Path("." if profile == "default" else f"profiles/{profile}")


def run(profile: str, parameters: params.Parameters) -> None:
    """Bring every result and the report of a profile up to date.

    Raises:
        InvalidParameters, ResultError, PCBenchError: no such profile, a damaged dvc.lock, a folder that cannot be written
            to; or a stage failed, which said why.
    """
    listed = params.profile(parameters, profile)
    home = folder(profile)
    for lock in (home / "dvc.lock", Path("datasets/dvc.lock")):
        if lock.exists():
            reproduction.read(lock)
    check_writable(home / "dvc.lock")
    for name in ("results", "reports", "datasets", ".dvc"):
        check_writable(Path(name))
    with alone(Path(".pcbench/repro.lock"), "a run of the pipeline"):
        for stage in ("zoo", "scaling"):
            if not listed[stage]:
                (Path("results") / profile / stage).mkdir(parents=True, exist_ok=True)  # the report depends on it
        _dvc("repro", str(home / "dvc.yaml"))


def _dvc(*arguments):
    """Run DVC and its stages as one process group, so that Ctrl-C and SIGTERM reach them all."""
    # The stages call `pcbench`: this environment's.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    command = [sys.executable, "-m", "dvc", *arguments]
    process = subprocess.Popen(command, env={**os.environ, "PATH": path}, start_new_session=True)
    try:
        code = process.wait()
    except (KeyboardInterrupt, SystemExit) as stop:
        _end(process, signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM)
        print("interrupted; what is finished is kept: run the same command again to go on", file=sys.stderr)
        raise
    if code:
        raise PCBenchError(f"`dvc {' '.join(arguments)}` failed (exit code {code}), for the reason above")


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
