"""A Ray cluster: the nodes that `ray start` has joined.

Ray has the queue and the workers, and runs again what a worker that was killed, or a node that was lost, was computing. Its
driver is a process of its own, because Ray ends it when the cluster's head is gone; a head that comes back is gone on with.

Options: ``address`` of the head, as ``HOST:PORT``; without it the cluster that this machine is a node of. ``shared=no`` where
the nodes do not share this folder: then Ray brings each a copy, which fetches its data sets itself.
"""

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pcbench import code, instructions
from pcbench.cells import Cell, here
from pcbench.errors import InvalidParameters, PCBenchError, told
from pcbench.executors import Failed, Outcome, attempt, check, gpus, outcome
from pcbench.files import write_json

_POLL = 0.5  # seconds between two looks at what has ended
_PATIENCE = 120.0  # seconds that a head which is gone has for coming back


def yes_or_no(text: str) -> bool:
    """Return whether the text is ``yes``; see `pcbench.executors.check`."""
    if text not in ("yes", "no"):
        raise ValueError(text)
    return text == "yes"


def outcomes(cells: Sequence[Cell], options: Mapping[str, Any]) -> Iterator[Outcome]:
    """See `pcbench.executors`.

    Raises:
        PCBenchError: the cluster's head is gone, and does not come back.
    """
    settings = check(options, {"address": str, "shared": yes_or_no}, "ray")
    address = settings.get("address", os.environ.get("RAY_ADDRESS", "auto"))
    left, patience = dict(enumerate(cells)), 0.0
    while left:
        _look_for(address, patience)
        for place, found in _session([*left.items()], address, settings.get("shared", True)):
            yield outcome(left.pop(place), found)
        if left:
            patience = _PATIENCE
            print(f"Ray's head at {address!r} is gone, with {len(left)} cells left; looking for it", file=sys.stderr)


def _look_for(address, patience):
    """Return once somebody answers at the address. Ray itself would try for minutes, and then end the process."""
    host, _, port = address.rpartition(":")
    end = time.monotonic() + patience
    while host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=_POLL).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise _unreachable(address, error.strerror or error) from None
        time.sleep(_POLL)


def _unreachable(address, why):
    return InvalidParameters(
        f"there is no Ray cluster at {address!r} ({why}); `ray start --head` starts one, --option address=HOST:PORT names one"
    )


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
        if not shared:
            for _, cell in left:
                cell.begun.unlink(missing_ok=True)


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
        pipe.send(_unreachable(address, told(error)))
        return
    parent: Any = multiprocessing.parent_process()
    own = ray.get_runtime_context().get_node_id()
    task = ray.remote(num_cpus=1, num_gpus=gpus(left[0][1]))(_work)
    root, board = (root, None) if shared else (".", ray.remote(num_cpus=0)(_Board).remote())
    pending = {task.options(name=str(cell)).remote(cell, root, board): (place, cell) for place, cell in left}
    again: set[int] = set()
    news = [board.news.remote()] if board else []
    while pending and parent.is_alive():
        ended, _ = ray.wait([*pending, *news], num_returns=len(pending) + len(news), timeout=_POLL)
        alive = [each for each in ray.nodes() if each["Alive"]]
        if news and news[0] in ended:
            ended.remove(news[0])
            news = _posted(ray, board, news[0], [cell for _, cell in pending.values()])
        for reference in ended:
            place, cell = pending.pop(reference)
            if board:
                cell.begun.unlink(missing_ok=True)
            found = _result(ray, reference)
            if isinstance(found, Failed) and found.again and place not in again and _others(alive, found.node):
                again.add(place)
                elsewhere = task.options(name=str(cell), label_selector={"ray.io/node-id": f"!{found.node}"})
                pending[elsewhere.remote(cell, root, board)] = place, cell
            else:
                pipe.send((place, found))
        if not any(each["NodeID"] == own for each in alive):
            # A head that was restarted is another cluster's, and tells this driver nothing any more.
            os._exit(1)


class _Board:
    """An actor that is told who computes what, by nodes that do not share the folder in which they say so."""

    def __init__(self):
        self._began = []

    def began(self, key, where):
        self._began.append((key, where))

    def news(self):
        news, self._began = self._began, []
        return news


def _posted(ray, board, news, cells):
    """Say in this folder who has begun with which of the cells, and ask for more, if there is still somebody to ask."""
    try:
        began = dict(ray.get(news))
    except ray.exceptions.RayError:
        return []
    for cell in cells:
        if cell.key in began:
            write_json(cell.begun, began[cell.key])
    return [board.news.remote()]


def _work(cell, root, board):
    """In a worker."""
    import ray

    if board:
        board.began.remote(cell.key, here())
    return attempt(cell, root, ray.get_runtime_context().get_node_id())


def _result(ray, reference):
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:  # after as many tries as Ray makes
        return Failed(" ".join(str(error).split()))


def _others(alive, node):
    """Whether another node than this could do it."""
    return any(each["Resources"].get("CPU") and each["NodeID"] != node for each in alive)


def _environment(root, shared):
    """What workers need before they import torch: this checkout, and the pinned instruction set."""
    variables = {instructions.VARIABLE: instructions.asked()}
    where = {"working_dir": root}
    if shared:
        where, variables["PYTHONPATH"] = {}, str(code.PACKAGE.parent)
    return {**where, "env_vars": variables, "worker_process_setup_hook": "pcbench.instructions.pin"}
