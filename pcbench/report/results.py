"""Reading the stages' results: checked for form on the way in, so that nothing behind this door has to doubt them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pcbench import params
from pcbench.errors import ResultError
from pcbench.files import read_json
from pcbench.forms import fault
from pcbench.grids import combinations
from pcbench.params import OF_TASKS, REFERENCE, STAGES, Parameters, Result
from pcbench.provenance import result_digest, sidecar
from pcbench.report.schema import FORMS

SCHEMA = 1
FAMILIES = ("mlp", "cnn", "rnn", "transformer")


@dataclass(frozen=True)
class Source:
    """One result of one stage, a file or (for training) a folder with a file for each seed.

    Attributes:
        stage, task: what it is the result of; in the zoo, a model's name stands for the task's, of scaling, an axis's.
        path: where it lies.
        files: the JSON values, one a file.
        sha256: of the bytes, see `pcbench.provenance.result_digest`.
        provenance: its sidecar's value; None if there is none, or if it describes other bytes than these.
    """

    stage: str
    task: str
    path: Path
    files: tuple[Result, ...]
    sha256: str
    provenance: Result | None

    @property
    def records(self) -> Iterator[Result]:
        """The entries under ``results`` of all files, each with its file's ``seed`` where the file has one."""
        for file in self.files:
            seed = {"seed": file["seed"]} if "seed" in file else {}
            for record in file["results"]:
                yield {**seed, **record}

    @property
    def by_rule(self) -> dict[str, list[Result]]:
        """The `records` of each rule, in the order of the result."""
        return grouped(self.records, "rule")


def grouped(records: Iterable[Result], key: str) -> dict[str, list[Result]]:
    """The records of each value that they have under ``key``, in their order."""
    groups: dict[str, list[Result]] = {}
    for record in records:
        groups.setdefault(record[key], []).append(record)
    return groups


@dataclass(frozen=True)
class TaskResults:
    """The results of one task."""

    name: str
    family: str
    exactness: Source
    cost: Source
    train: Source
    proof: Source
    conformance: Source
    conditions: Source

    @property
    def sources(self) -> tuple[Source, ...]:
        """The task's results in the order of the tables."""
        return self.exactness, self.cost, self.train, self.proof, self.conformance, self.conditions


def read(results: str | Path, parameters: Parameters, profile: str) -> list[TaskResults]:
    """Return a `TaskResults` for every task that the profile lists, by family (mlp, cnn, rnn, transformer), then by name.

    Args:
        results: the folder of one profile, ``results/<profile>``; what params.yaml does not list there, it ignores.
        parameters, profile: see `pcbench.params.load`, and the profile's name.

    Raises:
        InvalidParameters: there is no such profile.
        ResultError: a result is missing, unreadable, of another form, or made with other parameters.
    """
    results = Path(results)
    names = params.profile(parameters, profile)["tasks"]
    if not any((results / stage).is_dir() for stage in STAGES):
        raise ResultError(f"{str(results)!r} holds no results; run {params.remake(profile)}")
    return sorted((_task(results, name, parameters, profile) for name in names), key=_by_family)


def read_zoo(results: str | Path, parameters: Parameters, profile: str) -> list[Source]:
    """Return the `Source` of every model of the profile's zoo, by name; empty for a profile without a zoo.

    Raises:
        InvalidParameters, ResultError: see `read`.
    """
    names = sorted(params.profile(parameters, profile)["zoo"])
    return [_current("zoo", name, Path(results), parameters, profile) for name in names]


def read_scaling(results: str | Path, parameters: Parameters, profile: str) -> list[Source]:
    """Return the `Source` of every axis along which the profile measures how cost grows, in its order.

    Raises:
        InvalidParameters, ResultError: see `read`.
    """
    names = params.profile(parameters, profile)["scaling"]
    return [_current("scaling", name, Path(results), parameters, profile) for name in names]


def found(results: str | Path) -> dict[tuple[str, str], Path]:
    """Return ``{(stage, name): path}`` of every result that lies in a profile's folder, read or not."""
    return {
        (stage, path.stem): path
        for stage in STAGES
        for path in sorted(_results(Path(results) / stage, "" if stage == "train" else ".json"))
    }


def stale(results: str | Path, parameters: Parameters, profile: str) -> list[Path]:
    """Return the paths of results that params.yaml does not list for the profile: no table is made of them.

    Raises:
        InvalidParameters: there is no such profile.
    """
    listed = params.profile(parameters, profile)
    names = {stage: listed[stage if stage in ("zoo", "scaling") else "tasks"] for stage in STAGES}
    seeds = {f"seed-{seed}" for seed in listed["seeds"]}
    unlisted = []
    for (stage, name), path in found(results).items():
        if name not in names[stage]:
            unlisted.append(path)
        elif stage == "train":
            unlisted += sorted(each for each in path.glob("seed-*.json") if each.stem not in seeds)
    return unlisted


def _results(folder, suffix):
    # A dot begins the name of a temporary file; two end a sidecar's.
    return [path for path in folder.glob("[!.]*") if path.suffix == suffix and "." not in path.stem]


def _by_family(task):
    return (FAMILIES.index(task.family) if task.family in FAMILIES else len(FAMILIES), task.family, task.name)


def _task(results, name, parameters, profile):
    exactness, *others = (_current(stage, name, results, parameters, profile) for stage in OF_TASKS)
    family = exactness.files[0]["family"]
    for source in others:
        if any(file["family"] != family for file in source.files):
            raise _foreign(source.path, f"calls the family other than {str(exactness.path)!r} does, {family!r}")
    return TaskResults(name, family, exactness, *others)


def _current(stage, name, results, parameters, profile):
    """The result of a stage, if it was made with the parameters that params.yaml has now."""
    expected = params.of_stage(parameters, profile, stage, name)
    path = results / stage / (name if stage == "train" else f"{name}.json")
    source = read_source(stage, name, path, expected.get("seeds"))
    if source.provenance is not None:
        other = params.differing(expected, source.provenance.get("parameters"))
        if other:
            raise _foreign(path, f"was made with other parameters than params.yaml has ({', '.join(other)})")
    for what, listed, found in _listed(stage, expected, source):
        if listed != found:
            raise _foreign(path, f"has {what} {found}, but params.yaml lists {listed}")
    return source


def _listed(stage, expected, source):
    """What params.yaml lists and what a result holds of it, known without any provenance: ``(what, listed, found)``."""
    records = list(source.records)
    if stage == "zoo":
        yield "the seeds", [expected["zoo"]["seed"]], sorted({record["seed"] for record in records})
        return
    rules = {rule: entry["label"] for rule, entry in expected[stage]["rules"].items()}
    yield "the rules", rules, {record["rule"]: record["label"] for record in records}
    if stage == "scaling":
        axis = expected[stage]["axes"][source.task]
        largest = axis.get("largest", {})
        sizes = {rule: [size for size in axis["sizes"] if size <= largest.get(rule, size)] for rule in rules}
        yield "the sizes", sizes, {rule: [r["size"] for r in records if r["rule"] == rule] for rule in rules}
    if stage == "conformance":
        grids, levels = expected[stage]["grids"], source.files[0]["levels"]
        settings = {rule: combinations(grids.get(rule, {}), levels) for rule in rules}
        distances = [record for record in records if record["dtype"] == "float64"]
        for seed in expected[stage]["seeds"]:
            of_seed = [record for record in distances if record["seed"] == seed]
            found = {rule: [r["options"] for r in of_seed if r["rule"] == rule] for rule in rules}
            yield "the settings", settings, found
    if stage == "exactness":
        for key in ("dtypes", "seeds"):
            yield f"the {key}", sorted(expected[stage][key]), sorted({record[key[:-1]] for record in records})
    if stage == "conditions":
        for record in records:
            yield from _listed_of_grid(expected[stage], record["metrics"])
    if stage == "train":
        yield "epochs:", [expected["epochs"]], sorted({len(record["metrics"]["epochs"]) for record in records})


def _listed_of_grid(settings, metrics):
    """The same of one rule's grid, every point of which must be there: what was not measured speaks against nothing."""
    axes = {"gamma": settings["gammas"], "sigma": settings["sigmas"], "layer_dependent": [False, True]}
    for key, values in axes.items():
        yield f"points of {key}", sorted(values), sorted({point[key] for point in metrics["grid"]})
    points = {tuple(point[key] for key in axes) for point in metrics["grid"]}
    yield "so many points of the grid:", math.prod(map(len, axes.values())), len(points)
    yield "the free energy of", sorted(settings["free_energy"]["reductions"]), sorted(metrics["free_energy"])


def read_source(stage: str, name: str, path: Path, seeds: Sequence[int] | None = None) -> Source:
    """Read one result, checked for form.

    Args:
        stage, name: what it is the result of: a task's name, or a model's. ``"peers"`` is the stage of another's library.
        path: its file, or, of training, its folder.
        seeds: of training, which seeds are read; None for all that are there.

    Returns:
        `Source`.

    Raises:
        ResultError: it is missing, unreadable or of another form.
    """
    paths = [path]
    if stage == "train":
        named = sorted(path.glob("seed-*.json"), key=lambda seed: (len(seed.name), seed.name))
        paths = named if seeds is None else [path / f"seed-{seed}.json" for seed in sorted(seeds)]
        if not named:
            raise ResultError(f"{str(path)!r} holds no seed-*.json; run `make repro`, which trains what is missing")
    files = tuple(_file(stage, name, each) for each in paths)
    if stage == "train" and len({_length(record) for file in files for record in file["results"]}) > 1:
        raise _foreign(path, "holds seeds or rules that were trained for different numbers of epochs or updates")
    sha256 = result_digest(path)
    provenance = read_json(sidecar(path)) if sidecar(path).exists() else None
    if not isinstance(provenance, dict) or provenance.get("result_sha256", sha256) != sha256:
        provenance = None
    return Source(stage, name, path, files, sha256, provenance)


def _length(record):
    return len(record["metrics"]["epochs"]), record["metrics"]["updates"]


def _file(stage, task, path):
    value = read_json(path)
    head = value if isinstance(value, dict) else {}
    for key, wanted in {"schema": SCHEMA, "stage": stage, "task": task}.items():
        if key in head and head[key] != wanted:
            raise _foreign(path, f"says {key} {head[key]!r}, but {wanted!r} belongs there", stage)
    wrong = fault(value, FORMS[stage]) or ("it has no key 'schema'" if "schema" not in head else None)
    if wrong is not None:
        raise _foreign(path, f"is not as a result must be: {wrong}", stage)
    if stage == "train":
        for record in value["results"]:
            _check_trajectory(record, path)
        if all(record["rule"] != REFERENCE for record in value["results"]):
            raise _foreign(path, f"has no rule {REFERENCE!r}, the reference of all others")
    return value


def _check_trajectory(record, path):
    """A followed rule has one distance for every weight update: a shorter list would hide the updates it lacks."""
    metrics, where = record["metrics"], f"results.{record['rule']}.metrics.divergence"
    if record["rule"] == REFERENCE:
        return
    if metrics["divergence"] is None:
        raise _foreign(path, f"lacks {where}")
    for key, values in metrics["divergence"].items():
        if len(values) != metrics["updates"]:
            raise _foreign(path, f"has {len(values)} values in {where}.{key} for {metrics['updates']} updates")


def _foreign(path, what, stage=None):
    command = "make peers" if stage == "peers" else "make repro"
    return ResultError(f"{str(path)!r} {what}; delete it and run `{command}`, which makes it anew")
