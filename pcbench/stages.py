"""The stages of the pipeline: parameters and data in, one result out, its provenance beside it.

A stage raises `pcbench.errors.InvalidParameters` where there is no such profile, task, network, rule, or option of one,
`pcbench.errors.DataError` where its data set is missing or does not verify, and `pcbench.errors.PCBenchError` where its
result cannot be written; what a rule or a measurement raises beside these stands there.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from pcbench import code, instructions, params, workers
from pcbench.files import alone, check_writable, read_json, write_json
from pcbench.graph import Graph
from pcbench.measure import certificates
from pcbench.measure import conditions as conditions_measure
from pcbench.measure import cost as cost_measure
from pcbench.measure import exactness as exactness_measure
from pcbench.measure.matched import Matched
from pcbench.measure.training import train as train_one_seed
from pcbench.provenance import digest, sidecar, write_sidecar
from pcbench.rules import check_options
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
    parameters: params.Parameters
    datasets: Path
    results: Path = Path("results")
    checkpoints: Path = CHECKPOINTS

    def result(self, stage: str) -> Path:
        """Where the result of ``stage`` goes; that it can is made sure of here, before the work.

        Raises:
            PCBenchError: nothing can be written there.
        """
        path = self.results / self.profile / stage / (self.task + ("" if stage == "train" else ".json"))
        check_writable(path)
        check_writable(sidecar(path))
        return path


def _matched(experiment):
    return Matched.load(experiment.parameters, experiment.task, experiment.datasets)


def exactness(experiment: Experiment) -> Path:
    """Table 1 for one task: divergence from backpropagation after one weight update. Returns the result's path."""
    recorded, path, settings = _begun("exactness", experiment)
    matched = _matched(experiment)
    reproducible()
    jobs = [(experiment, *batch) for batch in exactness_measure.batches(settings)]
    with progress(f"exactness {experiment.task}", len(jobs) * len(settings["rules"])) as advance:
        compared = workers.in_processes(_compare_rules, jobs, advance, reproducible)
    result = exactness_measure.exactness(matched.task, compared)
    return _write(path, result, recorded, matched.data.sha256)


def cost(experiment: Experiment) -> Path:
    """Table 2 for one task: time and memory per weight update. Returns the result's path."""
    recorded, path, settings = _begun("cost", experiment)
    rounds = params.profile(experiment.parameters, experiment.profile)["rounds"]
    matched = _matched(experiment)
    reproducible()
    with progress(f"cost {experiment.task}", settings["warmup"] + rounds) as advance:
        result = cost_measure.cost(matched, settings, rounds, advance)
    return _write(path, result, recorded, matched.data.sha256)


def train(experiment: Experiment) -> Path:
    """Table 3 for one task: every seed trained, in as many processes as there are cores. Returns the result's folder.

    Finished epochs are kept under ``.pcbench/checkpoints``, also when all is done: an interrupted stage goes on there, and
    one that is asked for another seed or another epoch makes no more than that, if no other parameter, nor the data, the
    code, PyTorch or the instruction set have changed. If one of them has, what was kept is deleted: nothing could go on from
    it. Asked for the same again (a forced run), everything is trained anew. Where another process trains the task here,
    this one waits.
    """
    recorded, folder, _ = _begun("train", experiment)
    sha256 = _matched(experiment).data.sha256
    reproducible()
    lock = experiment.checkpoints / experiment.profile / f"{experiment.task}.lock"
    with alone(lock, f"training of {experiment.task!r}"):
        _train(experiment, recorded, folder, sha256)
    return folder


def _train(experiment, recorded, folder, data_sha256):
    parameters, made_by = recorded
    task, settings, epochs, seeds = (parameters[key] for key in ("task", "train", "epochs", "seeds"))
    same = digest([task, settings, data_sha256, made_by, torch.__version__, instructions.in_force()])
    checkpoints = experiment.checkpoints / experiment.profile / experiment.task / same[:16]
    for other in checkpoints.parent.glob("*"):
        if other != checkpoints:
            shutil.rmtree(other)
    finished, asked = checkpoints / "finished.json", {"epochs": epochs, "seeds": seeds}
    if finished.exists() and read_json(finished) == asked:
        shutil.rmtree(checkpoints)
    finished.unlink(missing_ok=True)
    with progress(f"train {experiment.task} ({len(seeds)} seeds)", epochs * len(seeds)) as advance:
        jobs = [(experiment, seed, epochs, checkpoints / f"seed-{seed}.pt") for seed in seeds]
        results = workers.in_processes(_train_seed, jobs, advance, reproducible)
    shutil.rmtree(folder, ignore_errors=True)
    for seed, result in zip(seeds, results, strict=True):
        write_json(folder / f"seed-{seed}.json", result)
    write_sidecar(folder, parameters, data_sha256, made_by)
    write_json(finished, asked)


def proof(experiment: Experiment) -> Path:
    """Table 5 for one task: whether each rule's weight update is backpropagation's program. Returns the result's path."""
    recorded, path, settings = _begun("proof", experiment)
    matched = _matched(experiment)
    reproducible()
    with progress(f"proof {experiment.task}", len(settings["rules"])) as advance:
        result = certificates.proof(matched, settings, advance)
    return _write(path, result, recorded, matched.data.sha256)


def conformance(experiment: Experiment) -> Path:
    """Table 6 for one task: every published rule, over its settings, against backpropagation. Returns the result's path."""
    from pcbench.measure import conformance as conformance_measure

    recorded, path, settings = _begun("conformance", experiment)
    matched = _matched(experiment)
    reproducible()
    jobs = [(experiment, rule) for rule in settings["rules"]]
    with progress(f"conformance {experiment.task}", len(jobs)) as advance:
        measured = workers.in_processes(_conform, jobs, advance, reproducible)
    result = conformance_measure.conformance(matched, measured)
    return _write(path, result, recorded, matched.data.sha256)


def conditions(experiment: Experiment) -> Path:
    """Tables 8 and 9 for one task: Z-IL's conditions on a grid, and the free energy. Returns the result's path."""
    recorded, path, settings = _begun("conditions", experiment)
    matched = _matched(experiment)
    reproducible()
    jobs = [(experiment, *part) for part in conditions_measure.parts(settings)]
    with progress(f"conditions {experiment.task}", conditions_measure.size(settings)) as advance:
        measured = workers.in_processes(_measure_conditions, jobs, advance, reproducible)
    result = conditions_measure.conditions(matched.task, settings, measured)
    return _write(path, result, recorded, matched.data.sha256)


def zoo(experiment: Experiment) -> Path:
    """Tables 4 and 5 for one of torchvision's classifiers, which stands in the task's place. Returns the result's path."""
    from pcbench.measure import zoo as zoo_measure  # brings torchvision, which the other stages need not wait for

    settings, path = experiment.parameters["zoo"], experiment.result("zoo")
    recorded = {"zoo": settings}, code.digest("zoo")  # by itself, not by `_begun`: no task's code is in it
    reproducible()
    with progress(f"zoo {experiment.task}", 1) as advance:
        result = zoo_measure.zoo(experiment.task, settings)
        advance()
    return _write(path, result, recorded, None)


def scaling(experiment: Experiment) -> Path:
    """Table 7 for one axis, which stands in the task's place: how cost grows. Returns the result's path."""
    from pcbench.measure import scaling as scaling_measure

    parameters = params.of_stage(experiment.parameters, experiment.profile, "scaling", experiment.task)
    settings, path = parameters["scaling"], experiment.result("scaling")
    _check_rules(settings, "scaling")
    recorded = (
        parameters,
        code.digest("scaling", *params.rule_modules(settings)),
    )  # as in `zoo`: no task's code is in it
    reproducible()
    with progress(f"scaling {experiment.task}", len(settings["axes"][experiment.task]["sizes"])) as advance:
        result = scaling_measure.scaling(experiment.task, settings, advance)
    return _write(path, result, recorded, None)


def code_of(stage: str, parameters: params.Parameters) -> str:
    """The digest of the code, as it is now, that one task's result of a stage depends on.

    Args:
        stage: exactness, cost, train or proof.
        parameters: what the result depends on, see `pcbench.params.of_stage`.

    Raises:
        PCBenchError: there is no such module.
    """
    task = parameters["task"]
    _check_rules(parameters[stage], stage)
    own = code.module_name("network", task["network"]), code.module_name("data set", task["data"])
    return code.digest(stage, *own, *params.rule_modules(parameters[stage]))


def graph(task: str, parameters: params.Parameters, datasets: str | Path) -> Graph:
    """The `pcbench.graph.Graph` of a task's network, on the first batch that its first seed sees."""
    matched = Matched.load(parameters, task, datasets)
    inputs, _ = matched.first_batch(seed=0)
    return Graph.from_module(matched.model(seed=0), inputs)


def reproducible() -> None:
    """Ask PyTorch for the same bits every time: one thread, so that no sum depends on how many cores there are."""
    torch.set_num_threads(1)
    # What torch.use_deterministic_algorithms(True) does, without its import of the compiler, which takes over a second.
    torch.set_deterministic_debug_mode("error")


def _write(path, result, recorded, data_sha256):
    parameters, made_by = recorded
    write_json(path, result)
    write_sidecar(path, parameters, data_sha256, made_by)
    return path


def _begun(stage, experiment):
    """What is known before the work: what the provenance records of it, where its result goes, its section of params.yaml.

    The first is every parameter that the result depends on, and the digest of the code as it is now.
    """
    parameters = params.of_stage(experiment.parameters, experiment.profile, stage, experiment.task)
    return (parameters, code_of(stage, parameters)), experiment.result(stage), parameters[stage]


def _check_rules(settings, stage):
    """Before the work: whether every rule has the options that params.yaml gives it."""
    for name, entry in settings.get("rules", {}).items():
        check_options(f"rules.{name}", entry["engine"], entry)
    for name, grid in settings.get("grids", {}).items():
        check_options(f"{stage}.grids.{name}", settings["rules"][name]["engine"], grid)


def _compare_rules(experiment, dtype, seed):
    """In a worker: see `pcbench.measure.exactness.compare_rules`."""
    settings = params.section(experiment.parameters, "exactness")
    return exactness_measure.compare_rules(_matched(experiment), settings, dtype, seed, workers.advance)


def _conform(experiment, rule):
    """In a worker: see `pcbench.measure.conformance.of_rule`."""
    from pcbench.measure.conformance import of_rule

    found = of_rule(_matched(experiment), params.section(experiment.parameters, "conformance"), rule)
    workers.advance()
    return found


def _measure_conditions(experiment, what, value):
    """In a worker: see `pcbench.measure.conditions.measure`."""
    settings = params.section(experiment.parameters, "conditions")
    return conditions_measure.measure(_matched(experiment), settings, what, value, workers.advance)


def _train_seed(experiment, seed, epochs, checkpoint):
    """In a worker: train one seed as far as its checkpoint does not hold it already; return its result."""
    settings = params.section(experiment.parameters, "train")
    return train_one_seed(_matched(experiment), settings, seed, epochs, checkpoint, workers.advance)
