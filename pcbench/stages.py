"""The stages of the pipeline: parameters and data in, one result out, its provenance beside it.

A stage is declared: what its independent parts are, what is measured of each, how they make its result. Parts become cells
(`pcbench.cells`), which this machine's processes compute, or a cluster's.

A stage raises `pcbench.errors.InvalidParameters` where there is no such profile, task, network, rule, or option of one,
`pcbench.errors.DataError` where its data set is missing or does not verify, and `pcbench.errors.PCBenchError` where its
result cannot be written; what a rule or a measurement raises beside these stands there.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pcbench import cells, code, data, devices, params, tasks, workers
from pcbench.cells import Cell, Experiment
from pcbench.files import alone, check_writable, read_json, write_json
from pcbench.graph import Graph
from pcbench.measure import certificates
from pcbench.measure import conditions as conditions_measure
from pcbench.measure import conformance as conformance_measure
from pcbench.measure import exactness as exactness_measure
from pcbench.measure.matched import Matched
from pcbench.measure.training import train as train_one_seed
from pcbench.params import Parameters
from pcbench.provenance import digest, sidecar, write_sidecar
from pcbench.rules import check_options
from pcbench.terminal import progress

Advance = Callable[[], None]


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline; called with an `Experiment`, it writes that one's result and returns the result's path.

    Attributes:
        name: as on the command line, and in params.yaml.
        parts: of what the result depends on (`pcbench.params.of_stage`), its parts, tuples of arguments of ``measure``.
        measure: called with a cell, and a function to call after every step, in a process that is `reproducible`; returns a
            JSON value.
        result: makes the result, of the experiment and what was measured of all parts, in their order.
        steps: how many steps there are, of all parts.
        folder: whether the result is a folder; then ``result`` gives a value for each of its files.
        begin, end: called with all cells before the work, and after the result is written.
    """

    name: str
    parts: Callable[[Parameters], Sequence[tuple[Any, ...]]]
    measure: Callable[[Cell, Advance], Any]
    result: Callable[[Experiment, list[Any]], Any]
    steps: Callable[[Parameters], int]
    folder: bool = False
    begin: Callable[[list[Cell]], None] = lambda cells: None
    end: Callable[[list[Cell]], None] = lambda cells: None

    def path(self, experiment: Experiment) -> Path:
        """Where the result goes."""
        suffix = "" if self.folder else ".json"
        return experiment.results / experiment.profile / self.name / (experiment.task + suffix)

    def cells(self, experiment: Experiment) -> list[Cell]:
        """The cells of the result, in the order of its parts.

        Raises:
            InvalidParameters, DataError: see `pcbench.stages`.
        """
        return self._cells(experiment, self._recorded(experiment))

    def cell(self, experiment: Experiment, part: tuple[Any, ...]) -> Cell:
        """The cell of one part, as this machine would compute it.

        Raises:
            InvalidParameters, DataError: see `pcbench.stages`.
        """
        return self._cell(experiment, part, self._recorded(experiment))

    def __call__(self, experiment: Experiment) -> Path:
        """Compute the cells that are not stored, put all into the result, and write it, its provenance beside it."""
        path = self.path(experiment)
        devices.named(experiment.parameters["device"])  # before the work, as what follows
        for place in (path, sidecar(path), experiment.kept):
            check_writable(place)
        recorded = self._recorded(experiment)
        asked = self._cells(experiment, recorded)
        lock = experiment.kept / "cells" / self.name / f"{experiment.task}.lock"
        with alone(lock, f"{self.name} of {experiment.task!r}"):
            self.begin(asked)
            records = self._computed(asked, recorded["parameters"])
            self._write(path, self.result(experiment, [record["value"] for record in records]))
            made_on = [(str(cell), record["made_on"]) for cell, record in zip(asked, records, strict=True)]
            write_sidecar(path, made_on=made_on, **recorded)
            self.end(asked)
            for cell in asked:
                cell.forget()
        return path

    def _recorded(self, experiment):
        """What is known before the work, and the provenance records: parameters, code and data that the result depends on."""
        parameters = params.of_stage(experiment.parameters, experiment.profile, self.name, experiment.task)
        found = {"parameters": parameters, "code_sha256": code_of(self.name, parameters), "data_sha256": None}
        if "task" in parameters:
            found["data_sha256"] = data.verify(parameters["task"]["data"], experiment.datasets)
        return found

    def _cells(self, experiment, recorded):
        return [self._cell(experiment, part, recorded) for part in self.parts(recorded["parameters"])]

    def _cell(self, experiment, part, recorded):
        # A part does not depend on what other seeds there are.
        parameters = {key: value for key, value in recorded["parameters"].items() if key != "seeds"}
        decided_by = cells.identity(self.name, part, {**recorded, "parameters": parameters})
        return Cell(self.name, part, experiment, decided_by)

    def _computed(self, asked, parameters):
        left = [cell for cell in asked if cell.stored() is None]
        if left:
            reproducible()
            with progress(f"{self.name} {asked[0].experiment.task}", self.steps(parameters)) as advance:
                if len(left) == 1:  # a process of its own would take seconds to start
                    compute(left[0], advance)
                else:
                    workers.in_processes(_in_worker, [(cell,) for cell in left], advance, reproducible)
        return [compute(cell) for cell in asked]

    def _write(self, path, result):
        if not self.folder:
            write_json(path, result)
            return
        shutil.rmtree(path, ignore_errors=True)
        for name, value in result.items():
            write_json(path / name, value)


def compute(cell: Cell, advance: Advance = lambda: None) -> dict[str, Any]:
    """Return a cell's record, see `pcbench.cells.computed`; in a process that is `reproducible`.

    Raises:
        PCBenchError: see `pcbench.stages`.
    """
    return cells.computed(cell, lambda: named(cell.stage).measure(cell, advance))


def named(name: str) -> Stage:
    """Return the stage of that name, one of `pcbench.params.STAGES`."""
    return globals()[name]


def _in_worker(cell):
    compute(cell, workers.advance)


def _matched(cell):
    return Matched.load(cell.experiment.parameters, cell.experiment.task, cell.experiment.datasets)


def _settings(cell):
    """The stage's section of params.yaml, as the cell depends on it."""
    return cell.identity["parameters"][cell.stage]


def _device(cell):
    return devices.named(cell.identity["parameters"]["device"])


def _task(experiment):
    return tasks.named(experiment.task, params.task(experiment.parameters, experiment.task)["network"])


def _whole(parameters):
    """Of a result that is one part."""
    return [()]


def _first(experiment, measured):
    return measured[0]


def _cost(cell, advance):
    from pcbench.measure import cost as cost_measure  # brings SciPy, which the other stages need not wait for

    return cost_measure.cost(_matched(cell), _settings(cell), cell.identity["parameters"]["rounds"], advance)


def _zoo(cell, advance):
    from pcbench.measure import zoo as zoo_measure  # brings torchvision, which the other stages need not wait for

    found = zoo_measure.zoo(cell.experiment.task, _settings(cell), _device(cell))
    advance()
    return found


def _scaling(cell, advance):
    from pcbench.measure import scaling as scaling_measure

    return scaling_measure.scaling(cell.experiment.task, _settings(cell), advance, _device(cell))


def _conform(cell, advance):
    found = conformance_measure.of_rule(_matched(cell), _settings(cell), *cell.part)
    advance()
    return found


def _go_on(cells):
    """Keep the epochs of a training that was interrupted, or is asked for another seed or another epoch: no more than that is
    trained, if no other parameter, nor the data, the code, PyTorch or the instruction set have changed.

    If one of them has, what was kept is deleted: nothing could go on from it. Asked for the same again (a forced run),
    everything is trained anew.
    """
    checkpoints = _checkpoint(cells[0]).parent
    for other in checkpoints.parent.glob("*"):
        if other != checkpoints:
            shutil.rmtree(other)
    finished = _finished(cells)
    if finished.exists() and read_json(finished) == _asked(cells) and not any(cell.path.exists() for cell in cells):
        shutil.rmtree(checkpoints)
    finished.unlink(missing_ok=True)


def _checkpoint(cell):
    """Where one seed's training keeps its finished epochs: what decides their bits names the folder."""
    decided_by = {key: value for key, value in cell.identity.items() if key != "part"}
    parameters = {key: value for key, value in cell.identity["parameters"].items() if key != "epochs"}
    same = digest({**decided_by, "parameters": parameters})[:16]
    home = cell.experiment.kept / "checkpoints" / cell.experiment.profile / cell.experiment.task
    return home / same / f"seed-{cell.part[0]}.pt"


def _finished(cells):
    return _checkpoint(cells[0]).with_name("finished.json")


def _asked(cells):
    return {"epochs": cells[0].identity["parameters"]["epochs"], "seeds": [cell.part[0] for cell in cells]}


exactness = Stage(
    "exactness",  # Table 1: divergence from backpropagation after one weight update
    parts=lambda parameters: exactness_measure.batches(parameters["exactness"]),
    measure=lambda cell, advance: exactness_measure.compare_rules(
        _matched(cell), _settings(cell), cell.part[0], cell.part[1], advance
    ),
    result=lambda experiment, measured: exactness_measure.exactness(_task(experiment), measured),
    steps=lambda parameters: exactness_measure.size(parameters["exactness"]),
)

cost = Stage(
    "cost",  # Table 2: time and memory per weight update
    parts=_whole,
    measure=_cost,
    result=_first,
    steps=lambda parameters: parameters["cost"]["warmup"] + parameters["rounds"],
)

proof = Stage(
    "proof",  # Table 5: whether each rule's weight update is backpropagation's program
    parts=_whole,
    measure=lambda cell, advance: certificates.proof(_matched(cell), _settings(cell), advance),
    result=_first,
    steps=lambda parameters: len(parameters["proof"]["rules"]),
)

train = Stage(
    "train",  # Table 3: every seed trained; see `_go_on`
    parts=lambda parameters: [(seed,) for seed in parameters["seeds"]],
    measure=lambda cell, advance: train_one_seed(
        _matched(cell), _settings(cell), cell.part[0], cell.identity["parameters"]["epochs"], _checkpoint(cell), advance
    ),
    result=lambda experiment, measured: {f"seed-{value['seed']}.json": value for value in measured},
    steps=lambda parameters: parameters["epochs"] * len(parameters["seeds"]),
    folder=True,
    begin=_go_on,
    end=lambda cells: write_json(_finished(cells), _asked(cells)),
)

conformance = Stage(
    "conformance",  # Table 6: every published rule, over its settings, against backpropagation
    parts=lambda parameters: [(rule,) for rule in parameters["conformance"]["rules"]],
    measure=_conform,
    result=lambda experiment, measured: conformance_measure.conformance(_task(experiment), measured),
    steps=lambda parameters: len(parameters["conformance"]["rules"]),
)

conditions = Stage(
    "conditions",  # Tables 8 and 9: Z-IL's conditions on a grid, and the free energy
    parts=lambda parameters: conditions_measure.parts(parameters["conditions"]),
    measure=lambda cell, advance: conditions_measure.measure(
        _matched(cell), _settings(cell), cell.part[0], cell.part[1], advance
    ),
    result=lambda experiment, measured: conditions_measure.conditions(
        _task(experiment), params.section(experiment.parameters, "conditions"), measured
    ),
    steps=lambda parameters: conditions_measure.size(parameters["conditions"]),
)

zoo = Stage(
    "zoo",  # Tables 4 and 5, of one of torchvision's classifiers, which stands in the task's place
    parts=_whole,
    measure=_zoo,
    result=_first,
    steps=lambda parameters: 1,
)

scaling = Stage(
    "scaling",  # Table 7: how cost grows along one axis, which stands in the task's place
    parts=_whole,
    measure=_scaling,
    result=_first,
    steps=lambda parameters: sum(len(axis["sizes"]) for axis in parameters["scaling"]["axes"].values()),
)


def code_of(stage: str, parameters: params.Parameters) -> str:
    """The digest of the code, as it is now, that a result of a stage depends on.

    Args:
        stage: the stage's name.
        parameters: what the result depends on, see `pcbench.params.of_stage`.

    Raises:
        InvalidParameters: a rule has not the options that params.yaml gives it.
        PCBenchError: there is no such module.
    """
    _check_rules(parameters[stage], stage)
    task = parameters.get("task")
    own = (code.module_name("network", task["network"]), code.module_name("data set", task["data"])) if task else ()
    return code.digest(stage, *own, *params.rule_modules(parameters[stage]))


def graph(task: str, parameters: params.Parameters, datasets: str | Path) -> Graph:
    """The `pcbench.graph.Graph` of a task's network, on the first batch that its first seed sees."""
    matched = Matched.load(params.on(parameters, devices.CPU.type), task, datasets)  # it is the same one everywhere
    inputs, _ = matched.first_batch(seed=0)
    return Graph.from_module(matched.model(seed=0), inputs)


def reproducible() -> None:
    """Ask PyTorch for the same bits every time: one thread, so that no sum depends on how many cores there are."""
    torch.set_num_threads(1)
    # What torch.use_deterministic_algorithms(True) does, without its import of the compiler, which takes over a second.
    torch.set_deterministic_debug_mode("error")
    devices.deterministic()


def _check_rules(settings, stage):
    """Before the work: whether every rule has the options that params.yaml gives it."""
    for name, entry in settings.get("rules", {}).items():
        check_options(f"rules.{name}", entry["engine"], entry)
    for name, grid in settings.get("grids", {}).items():
        check_options(f"{stage}.grids.{name}", settings["rules"][name]["engine"], grid)
