"""A Ray cluster: the nodes that `ray start` has joined.

Ray has the queue and the workers, and runs again what a worker that was killed, or a node that was lost, was computing. Its
driver is a process of its own, because Ray ends it when the cluster's head is gone.

Options: ``address`` of the head, as ``HOST:PORT``; without it the cluster that this machine is a node of. ``shared=no`` where
the nodes do not share this folder: then Ray brings each a copy, which fetches its data sets itself.
"""

import multiprocessing
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pcbench import code, instructions
from pcbench.cells import Cell
from pcbench.errors import InvalidParameters, PCBenchError, told
from pcbench.executors import Failed, Outcome, attempt, check, gpus, outcome

_POLL = 0.5  # seconds between two looks at what has ended


def yes_or_no(text: str) -> bool:
    """Return whether the text is ``yes``; see `pcbench.executors.check`."""
    if text not in ("yes", "no"):
        raise ValueError(text)
    return text == "yes"


def outcomes(cells: Sequence[Cell], options: Mapping[str, Any]) -> Iterator[Outcome]:
    """See `pcbench.executors`.

    Raises:
        PCBenchError: the cluster's head is gone, and not there again when it was looked for.
    """
    settings = check(options, {"address": str, "shared": yes_or_no}, "ray")
    left = dict(enumerate(cells))
    while left:
        before = len(left)
        for place, found in _session([*left.items()], settings.get("address", "auto"), settings.get("shared", True)):
            yield outcome(left.pop(place), found)
        if len(left) == before:
            raise PCBenchError(
                f"Ray's head is gone, with {before} cells left: start it, and run the same command to go on"
            )
        if left:
            print(f"Ray's head is gone, with {len(left)} cells left; looking for it once more", file=sys.stderr)


def _session(left, address, shared):
    """Yield ``(place, record or Failed)`` of cells as they end, until all have or the driver is gone."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    driver = context.Process(target=_drive, args=(theirs, left, str(Path.cwd()), address, shared), daemon=True)
    driver.start()
    theirs.close()
    try:
        while True:
            found = ours.recv()
            if isinstance(found, PCBenchError):
                raise found
            yield found
    except (EOFError, OSError):  # OSError: in the middle of an answer
        return
    finally:
        driver.terminate()  # Ray ends its workers with it
        driver.join()


def _drive(pipe, left, root, address, shared):
    """In the driver's process: have Ray compute the cells, and send what became of each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and ends this process
    try:
        import ray

        ray.init(address, runtime_env=_environment(root, shared), log_to_driver=False, logging_level="ERROR")
    except ImportError:
        pipe.send(InvalidParameters("executor 'ray' needs Ray: pip install 'pcbench[ray]'"))
        return
    except Exception as error:  # what Ray raises here differs from cause to cause
        why = f"cannot reach a Ray cluster at {address!r} ({told(error)})"
        pipe.send(InvalidParameters(f"{why}; `ray start --head` starts one, --option address=HOST:PORT names one"))
        return
    parent = multiprocessing.parent_process()
    task = ray.remote(num_cpus=1, num_gpus=gpus(left[0][1]))(_work)
    root = root if shared else "."
    pending = {task.options(name=str(cell)).remote(cell, root): (place, cell) for place, cell in left}
    again: set[int] = set()
    while pending and parent.is_alive():
        ended, _ = ray.wait([*pending], num_returns=len(pending), timeout=_POLL)
        for reference in ended:
            place, cell = pending.pop(reference)
            found = _result(ray, reference)
            if isinstance(found, Failed) and found.again and place not in again and _others(ray, found.node):
                again.add(place)
                elsewhere = task.options(name=str(cell), label_selector={"ray.io/node-id": f"!{found.node}"})
                pending[elsewhere.remote(cell, root)] = place, cell
            else:
                pipe.send((place, found))


def _work(cell, root):
    """In a worker."""
    import ray

    return attempt(cell, root, ray.get_runtime_context().get_node_id())


def _result(ray, reference):
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:  # after as many tries as Ray makes
        return Failed(" ".join(str(error).split()))


def _others(ray, node):
    """Whether another node could do it."""
    return any(each["Alive"] and each["Resources"].get("CPU") and each["NodeID"] != node for each in ray.nodes())


def _environment(root, shared):
    """What workers need before they import torch: this checkout, and the pinned instruction set."""
    variables = {instructions.VARIABLE: instructions.asked()}
    where = {"working_dir": root}
    if shared:
        where, variables["PYTHONPATH"] = {}, str(code.PACKAGE.parent)
    return {**where, "env_vars": variables, "worker_process_setup_hook": "pcbench.instructions.pin"}
