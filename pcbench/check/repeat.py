"""One result made again from its provenance, and compared with what it was."""

from pathlib import Path
from tempfile import TemporaryDirectory

from pcbench import params, stages
from pcbench.cells import Experiment
from pcbench.check.comparison import Comparison, compare_sources, environment
from pcbench.errors import InvalidParameters, ResultError
from pcbench.params import STAGES
from pcbench.report.results import found, read_source

_AGAIN = "again"


def repeat(result: str | Path, datasets: str | Path) -> Comparison:
    """Run the stage that made ``result`` again, with the parameters of its provenance; nothing of it is overwritten.

    Args:
        result: ``results/<profile>/<stage>/<task>.json``; of training the
            folder ``.../train/<task>``, or one seed's file in it.
        datasets: the folder that holds the data sets.

    Returns:
        `pcbench.check.comparison.Comparison` of one result: the recorded one first.

    Raises:
        InvalidParameters: that is not the path of a result.
        ResultError: the result is unreadable, or nothing says what it was made of.
        PCBenchError: what the stage raises, see `pcbench.stages`.
    """
    path, seeds = Path(result), None
    if path.stem.startswith("seed-") and path.parent.parent.name == "train":
        number = path.stem.removeprefix("seed-")
        path, seeds = path.parent, [int(number)] if number.isdecimal() else None
    stage = path.parent.name
    if stage not in STAGES:
        raise InvalidParameters(f"{str(result)!r} is no result; name one such as results/default/train/digits-mlp")
    if not path.exists():
        beside = ", ".join(str(other) for (kind, _), other in found(path.parents[1]).items() if kind == stage)
        remake = params.remake(path.parents[1].name)
        raise InvalidParameters(
            f"{str(result)!r} does not exist. Results are not in git, {remake} makes them; of this stage there "
            f"is {beside or 'none'}"
        )
    recorded = read_source(stage, path.stem, path, seeds)
    parameters = {} if recorded.provenance is None else recorded.provenance.get("parameters", {})
    if stage not in parameters:
        raise ResultError(
            f"{str(path)!r} has no provenance of its own bytes beside it, so nothing says what to run again"
        )
    with TemporaryDirectory(prefix="pcbench-") as folder:
        made = getattr(stages, stage)(_experiment(stage, path.stem, parameters, seeds, Path(datasets), Path(folder)))
        again = read_source(stage, path.stem, made, seeds)
        return Comparison(environment([recorded], [again]), [compare_sources(recorded, again)])


def _experiment(stage, name, recorded, seeds, datasets, folder):
    """The experiment that a provenance's parameters describe: the inverse of `pcbench.params.of_stage`."""
    profile = {
        "seeds": seeds or recorded.get("seeds", [0]),
        "rounds": recorded.get("rounds", 1),
        "zoo": [name],
        "scaling": [name],
        "tasks": {name: recorded.get("epochs", 1)},
    }
    parameters = {"profiles": {_AGAIN: profile}, "tasks": {name: recorded.get("task")}, stage: recorded[stage]}
    parameters["rules"] = recorded[stage].get("rules", {})
    parameters["device"] = recorded.get("device", "cpu")  # before it was recorded there was no other
    return Experiment(name, _AGAIN, parameters, datasets, folder / "results", folder / "kept")
