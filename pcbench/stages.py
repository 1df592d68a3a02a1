"""The stages of the pipeline: parameters and data in, one result out, its provenance beside it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from pcbench import data, params, workers
from pcbench.files import alone, check_writable, read_json, write_json
from pcbench.graph import Graph
from pcbench.measure import cost as cost_measure
from pcbench.measure import exactness as exactness_measure
from pcbench.measure._setup import first_batch, initial_model
from pcbench.measure.training import train as train_one_seed
from pcbench.provenance import digest, sidecar, source_digest, write_sidecar
from pcbench.terminal import progress

CHECKPOINTS = Path(".pcbench/checkpoints")


@dataclass(frozen=True)
class Experiment:
    """What to run a stage on.

    Attributes:
        task: the task's name.
        profile: the profile's name.
        parameters: params.yaml, see `pcbench.params.load`.
        datasets: the folder that holds the data sets.
        results: the folder under which results go.
        checkpoints: the folder under which training keeps its finished epochs.
    """

    task: str
    profile: str
    parameters: dict
    datasets: Path
    results: Path = Path("results")
    checkpoints: Path = CHECKPOINTS

    def numbers(self, stage):
        """Every parameter that the result of ``stage`` depends on, see `pcbench.params.of_stage`."""
        return params.of_stage(self.parameters, self.profile, stage, self.task)

    def load(self):
        """The task, its numbers, and its data set."""
        task, numbers = params.task(self.parameters, self.task)
        return task, numbers, data.load(task.data, self.datasets)

    def result(self, stage):
        """Where the result of ``stage`` goes; that it can is made sure of here, before the work.

        Raises:
            PCBenchError: nothing can be written there.
        """
        path = self.results / self.profile / stage / (self.task + ("" if stage == "train" else ".json"))
        check_writable(path)
        check_writable(sidecar(path))
        return path


def exactness(experiment):
    """Table 1 for one task: divergence from backpropagation after one weight update. Returns the result's path."""
    path, settings = experiment.result("exactness"), experiment.parameters["exactness"]
    task, _, dataset = experiment.load()
    reproducible()
    jobs = [(experiment, *batch) for batch in exactness_measure.batches(settings)]
    with progress(f"exactness {task.name}", len(jobs) * len(settings["rules"])) as advance:
        compared = workers.in_processes(_compare_rules, jobs, advance, reproducible)
    result = exactness_measure.exactness(task, compared)
    return _write(path, result, experiment.numbers("exactness"), dataset.sha256)


def cost(experiment):
    """Table 2 for one task: time and memory per weight update. Returns the result's path."""
    path, settings = experiment.result("cost"), experiment.parameters["cost"]
    rounds = params.profile(experiment.parameters, experiment.profile)["rounds"]
    task, numbers, dataset = experiment.load()
    reproducible()
    with progress(f"cost {task.name}", settings["warmup"] + rounds) as advance:
        result = cost_measure.cost(task, numbers, dataset, settings, rounds, advance)
    return _write(path, result, experiment.numbers("cost"), dataset.sha256)


def train(experiment):
    """Table 3 for one task: every seed trained, in as many processes as there are cores. Returns the result's folder.

    Finished epochs are kept under ``.pcbench/checkpoints`` until the whole stage is done; an interrupted stage goes on
    there, if neither the parameters, nor the data, nor PyTorch, nor this package have changed. If one of them has, what
    was kept is deleted: nothing could go on from it. Where another process trains the task here, this one waits.
    """
    parameters, folder = experiment.numbers("train"), experiment.result("train")
    task, _, dataset = experiment.load()
    reproducible()
    with alone(experiment.checkpoints / experiment.profile / f"{task.name}.lock", f"training of {task.name!r}"):
        _train(experiment, parameters, folder, dataset.sha256)
    return folder


def _train(experiment, parameters, folder, data_sha256):
    numbers, settings, epochs, seeds = (parameters[key] for key in ("task", "train", "epochs", "seeds"))
    resumable = digest([numbers, settings, epochs, data_sha256, torch.__version__, source_digest()])
    checkpoints = experiment.checkpoints / experiment.profile / experiment.task / resumable[:16]
    for other in checkpoints.parent.glob("*"):
        if other != checkpoints:
            shutil.rmtree(other)
    with progress(f"train {experiment.task} ({len(seeds)} seeds)", epochs * len(seeds)) as advance:
        jobs = [(experiment, seed, epochs, checkpoints) for seed in seeds]
        finished = workers.in_processes(_train_seed, jobs, advance, reproducible)
    shutil.rmtree(folder, ignore_errors=True)
    for seed, path in zip(seeds, finished, strict=True):
        write_json(folder / f"seed-{seed}.json", read_json(path))
    write_sidecar(folder, parameters, data_sha256)
    # Kept any longer, they would answer a forced rerun without training anything.
    shutil.rmtree(checkpoints)


def zoo(experiment):
    """Table 4 for one of torchvision's classifiers, which stands in the task's place. Returns the result's path."""
    from pcbench.measure import zoo as zoo_measure  # brings torchvision, which the other stages need not wait for

    parameters = experiment.numbers("zoo")
    path = experiment.result("zoo")
    reproducible()
    with progress(f"zoo {experiment.task}", 1) as advance:
        result = zoo_measure.zoo(experiment.task, parameters["zoo"])
        advance()
    return _write(path, result, parameters, data_sha256=None)


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


def _write(path, result, parameters, data_sha256):
    write_json(path, result)
    write_sidecar(path, parameters, data_sha256)
    return path


def _compare_rules(experiment, dtype, seed):
    """In a worker: see `pcbench.measure.exactness.compare_rules`."""
    settings = experiment.parameters["exactness"]
    return exactness_measure.compare_rules(*experiment.load(), settings, dtype, seed, workers.advance)


def _train_seed(experiment, seed, epochs, checkpoints):
    """In a worker: train one seed, or find it finished; return the path of its result."""
    path = checkpoints / f"seed-{seed}.json"
    if path.exists():
        for _ in range(epochs):
            workers.advance()
        return path
    task, numbers, dataset = experiment.load()
    settings = experiment.parameters["train"]
    state = checkpoints / f"seed-{seed}.pt"
    write_json(path, train_one_seed(task, numbers, dataset, settings, seed, epochs, state, workers.advance))
    return path
