"""The stages of the pipeline: parameters and data in, one result out, its provenance beside it."""

import multiprocessing
import os
import shutil
import signal
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pcbench import data, params
from pcbench.files import read_json, write_json
from pcbench.graph import Graph
from pcbench.measure import cost as cost_measure
from pcbench.measure import exactness as exactness_measure
from pcbench.measure._setup import first_batch, initial_model
from pcbench.measure.training import train as train_one_seed
from pcbench.provenance import digest, source_digest, write_sidecar

CHECKPOINTS = Path(".pcbench/checkpoints")


@dataclass(frozen=True)
class Experiment:
    """What to run a stage on.

    Attributes:
        task: the task's name.
        profile: the profile's name.
        parameters: params.yaml, see `pcbench.params.load`.
        datasets: the folder that holds the data sets.
    """

    task: str
    profile: str
    parameters: dict
    datasets: Path

    def load(self):
        """The task, its numbers, and its data set."""
        task, numbers = params.task(self.parameters, self.task)
        return task, numbers, data.load(task.data, self.datasets)

    def result(self, stage):
        """Where the result of ``stage`` goes."""
        suffix = "" if stage == "train" else ".json"
        return Path("results") / self.profile / stage / (self.task + suffix)


def exactness(experiment):
    """Table 1 for one task: divergence from backpropagation after one weight update. Returns the result's path."""
    settings = experiment.parameters["exactness"]
    task, numbers, dataset = experiment.load()
    reproducible()
    jobs = [(experiment, *batch) for batch in exactness_measure.batches(settings)]
    with progress(f"exactness {task.name}", len(jobs) * len(settings["rules"])) as advance:
        compared = _in_processes(_compare_rules, jobs, advance)
    result = exactness_measure.exactness(task, compared)
    return _write(experiment, "exactness", result, {"task": numbers, "exactness": settings}, dataset)


def cost(experiment):
    """Table 2 for one task: time and memory per weight update. Returns the result's path."""
    settings = experiment.parameters["cost"]
    rounds = params.profile(experiment.parameters, experiment.profile)["rounds"]
    task, numbers, dataset = experiment.load()
    reproducible()
    with progress(f"cost {task.name}", settings["warmup"] + rounds) as advance:
        result = cost_measure.cost(task, numbers, dataset, settings, rounds, advance)
    return _write(experiment, "cost", result, {"task": numbers, "cost": settings, "rounds": rounds}, dataset)


def train(experiment):
    """Table 3 for one task: every seed trained, in as many processes as there are cores. Returns the result's folder.

    Finished epochs are kept under ``.pcbench/checkpoints`` until the whole stage is done; an interrupted stage goes on
    there, if neither the parameters, nor the data, nor PyTorch, nor this package have changed. If one of them has, what
    was kept is deleted: nothing could go on from it.
    """
    settings = experiment.parameters["train"]
    profile = params.profile(experiment.parameters, experiment.profile)
    seeds = profile["seeds"]
    epochs = params.epochs(profile, experiment.task)
    task, numbers, dataset = experiment.load()
    reproducible()
    parameters = {"task": numbers, "train": settings, "epochs": epochs, "seeds": seeds}
    resumable = digest([numbers, settings, epochs, dataset.sha256, torch.__version__, source_digest()])
    checkpoints = CHECKPOINTS / experiment.profile / task.name / resumable[:16]
    for other in checkpoints.parent.glob("*"):
        if other != checkpoints:
            shutil.rmtree(other)
    with progress(f"train {task.name} ({len(seeds)} seeds)", epochs * len(seeds)) as advance:
        finished = _in_processes(_train_seed, [(experiment, seed, epochs, checkpoints) for seed in seeds], advance)
    folder = experiment.result("train")
    shutil.rmtree(folder, ignore_errors=True)
    for seed, path in zip(seeds, finished, strict=True):
        write_json(folder / f"seed-{seed}.json", read_json(path))
    write_sidecar(folder, parameters, dataset.sha256)
    # Kept any longer, they would answer a forced rerun without training anything.
    shutil.rmtree(checkpoints)
    return folder


def zoo(model, profile, parameters):
    """Table 4 for one of torchvision's classifiers: one weight update of Z-IL. Returns the result's path."""
    from pcbench.measure import zoo as zoo_measure  # brings torchvision, which the other stages need not wait for

    settings = parameters["zoo"]
    reproducible()
    with progress(f"zoo {model}", 1) as advance:
        result = zoo_measure.zoo(model, settings)
        advance()
    path = Path("results") / profile / "zoo" / f"{model}.json"
    write_json(path, result)
    write_sidecar(path, {"zoo": settings}, data_sha256=None)
    return path


def graph(task, parameters, datasets):
    """The `pcbench.graph.Graph` of a task's network, on the first batch that its first seed sees."""
    task, numbers = params.task(parameters, task)
    dataset = data.load(task.data, datasets)
    inputs, _ = first_batch(dataset.train, numbers["batch_size"], seed=0)
    return Graph.from_module(initial_model(task, numbers, dataset, seed=0), inputs)


def reproducible():
    """Ask PyTorch for the same bits every time: one thread, so that no sum depends on how many cores there are."""
    torch.set_num_threads(1)
    # What torch.use_deterministic_algorithms(True) does, without its import of the compiler, which takes over a second.
    torch.set_deterministic_debug_mode("error")


def _write(experiment, stage, result, parameters, dataset):
    path = experiment.result(stage)
    write_json(path, result)
    write_sidecar(path, parameters, dataset.sha256)
    return path


def _compare_rules(experiment, dtype, seed):
    """In a worker: see `pcbench.measure.exactness.compare_rules`."""
    settings = experiment.parameters["exactness"]
    return exactness_measure.compare_rules(*experiment.load(), settings, dtype, seed, _advance)


def _train_seed(experiment, seed, epochs, checkpoints):
    """In a worker: train one seed, or find it finished; return the path of its result."""
    path = checkpoints / f"seed-{seed}.json"
    if path.exists():
        for _ in range(epochs):
            _advance()
        return path
    task, numbers, dataset = experiment.load()
    settings = experiment.parameters["train"]
    state = checkpoints / f"seed-{seed}.pt"
    write_json(path, train_one_seed(task, numbers, dataset, settings, seed, epochs, state, _advance))
    return path


_worker = {}


def _start_worker(queue, parent):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and ends its workers
    reproducible()
    _worker.update(queue=queue, parent=parent)


def _advance():
    if os.getppid() != _worker["parent"]:
        os._exit(1)  # the parent was killed: leave the field to the run that resumes
    _worker["queue"].put(None)


def _in_processes(work, jobs, advance):
    """Call ``work`` with each job's arguments, in as many processes as there are cores; return the results in order.

    One failure, or Ctrl-C, ends all workers.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    workers = min(len(jobs), os.cpu_count() or 1)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (queue, os.getpid()))
    try:
        futures = [pool.submit(work, *job) for job in jobs]
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            while not queue.empty():
                queue.get()
                advance()
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()


@contextmanager
def progress(description, total):
    """Show a progress bar; yield the function that advances it by one."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)
