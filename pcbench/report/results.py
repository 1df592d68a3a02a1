"""Reading the stages' results: checked for form on the way in, so that nothing behind this door has to doubt them."""

import math
from dataclasses import dataclass
from pathlib import Path

from pcbench import params
from pcbench.errors import ResultError
from pcbench.files import read_json
from pcbench.provenance import result_digest, sidecar

SCHEMA = 1
STAGES = ("exactness", "cost", "train", "proof", "zoo", "scaling")
FAMILIES = ("mlp", "cnn", "rnn", "transformer")
REFERENCE = "bp"
ABLATIONS = ("not-layer-dependent", "sigma-0.01", "sigma-0.6", "gamma-0.5", "not-levelled")
RULES = (
    *(REFERENCE, "bp-captured", "zil", "zil-captured", "zil-state", *ABLATIONS),
    *("il", "il-2", "il-L", "il-20", "il-20-captured", "il-100"),
)

_NUMBER = (int, float)
_DIVERGENCE = (int, float, type(None))  # None: not a finite number
_QUARTILES = {"median": _NUMBER, "q1": _NUMBER, "q3": _NUMBER}
_HEAD = {"schema": int, "stage": str, "task": str, "family": str}
_DISTANCES = {
    "l2": _DIVERGENCE,
    "relative_l2": _DIVERGENCE,
    "max_abs": _DIVERGENCE,
    "max_ulp": _DIVERGENCE,
    "bitwise_equal": bool,
}
_METRICS = {
    "exactness": _DISTANCES,
    "cost": {
        "seconds": _QUARTILES,
        "ratio": _QUARTILES,
        "peak_bytes": int,
        "peak_ratio": _NUMBER,
        "operations": int,
        "flops": int,
    },
    "scaling": {"seconds": _QUARTILES, "ratio": _QUARTILES, "operations": int, "flops": int},
    "train": {
        "test_accuracy": _NUMBER,
        "majority_accuracy": _NUMBER,
        "epochs": [{"train_loss": _NUMBER, "test_accuracy": _NUMBER}],
        "updates": int,
        "weights_sha256": str,
    },
    "zoo": {
        **_DISTANCES,
        "parameters": int,
        "elements": int,
        "side": int,
        "buffers_equal": bool,
        "bp_repeats_itself": bool,
        "proof": {},
    },
    "proof": {},
}
_CERTIFICATE = {"equal": bool, "operations": int, "own_operations": int, "digest": str}
_NAME = (str, type(None))
_PARTING = {"result": str, "step": _NAME, "expected": _NAME, "line": _NAME, "explanation": str}
_IDENTITY = {
    "exactness": {"rule": str, "label": str, "dtype": str, "seed": int},
    "zoo": {"rule": str, "label": str, "dtype": str, "seed": int},
    "cost": {"rule": str, "label": str},
    "scaling": {"rule": str, "label": str, "size": int},
    "train": {"rule": str, "label": str},
    "proof": {"rule": str, "label": str},
}
_REFUSED = {"refused": str, "metrics": type(None)}  # a rule that cannot be captured, and why
_CAPTURED = {"capture_seconds": _NUMBER, "captured_ratio": {"median": _NUMBER, "low": _DIVERGENCE, "high": _DIVERGENCE}}
_TRAJECTORY = {"l2": [_DIVERGENCE], "relative_l2": [_DIVERGENCE], "max_ulp": [_DIVERGENCE]}


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
    files: tuple[dict, ...]
    sha256: str
    provenance: dict | None

    @property
    def records(self):
        """The entries under ``results`` of all files, each with its file's ``seed`` where the file has one."""
        for file in self.files:
            seed = {"seed": file["seed"]} if "seed" in file else {}
            for record in file["results"]:
                yield {**seed, **record}


@dataclass(frozen=True)
class Task:
    """The results of one task."""

    name: str
    family: str
    exactness: Source
    cost: Source
    train: Source
    proof: Source

    @property
    def sources(self):
        """The task's results in the order of the tables."""
        return self.exactness, self.cost, self.train, self.proof


def read(results, parameters, profile):
    """Return a `Task` for every task that the profile lists, by family (mlp, cnn, rnn, transformer), then by name.

    Args:
        results: the folder of one profile, ``results/<profile>``; what params.yaml does not list there, it ignores.
        parameters, profile: see `pcbench.params.load`, and the profile's name.

    Raises:
        ResultError: a result is missing, unreadable, of another form, or made with other parameters.
    """
    results = Path(results)
    names = params.profile(parameters, profile)["tasks"]
    if not any((results / stage).is_dir() for stage in STAGES):
        raise ResultError(f"{str(results)!r} holds no results; run `make repro` for this profile")
    return sorted((_task(results, name, parameters, profile) for name in names), key=_by_family)


def read_zoo(results, parameters, profile):
    """Return the `Source` of every model of the profile's zoo, by name; empty for a profile without a zoo.

    Raises:
        ResultError: see `read`.
    """
    names = sorted(params.profile(parameters, profile)["zoo"])
    return [_current("zoo", name, Path(results), parameters, profile) for name in names]


def read_scaling(results, parameters, profile):
    """Return the `Source` of every axis along which the profile measures how cost grows, in its order.

    Raises:
        ResultError: see `read`.
    """
    names = params.profile(parameters, profile)["scaling"]
    return [_current("scaling", name, Path(results), parameters, profile) for name in names]


def found(results):
    """Return ``{(stage, name): path}`` of every result that lies in a profile's folder, read or not."""
    return {
        (stage, path.stem): path
        for stage in STAGES
        for path in sorted(_results(Path(results) / stage, "" if stage == "train" else ".json"))
    }


def stale(results, parameters, profile):
    """Return the paths of results that params.yaml does not list for the profile: no table is made of them."""
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


def ordered(rules):
    """Sort rules' names: BP, Z-IL, its state form, its ablations, IL, and then those that the tables do not know."""
    return sorted(rules, key=lambda rule: (RULES.index(rule) if rule in RULES else len(RULES), rule))


def _results(folder, suffix):
    # A dot begins the name of a temporary file; two end a sidecar's.
    return [path for path in folder.glob("[!.]*") if path.suffix == suffix and "." not in path.stem]


def _by_family(task):
    return (FAMILIES.index(task.family) if task.family in FAMILIES else len(FAMILIES), task.family, task.name)


def _task(results, name, parameters, profile):
    exactness, cost, train, proof = (_current(stage, name, results, parameters, profile) for stage in STAGES[:4])
    family = exactness.files[0]["family"]
    for source in (cost, train, proof):
        if any(file["family"] != family for file in source.files):
            raise _foreign(source.path, f"calls the family other than {str(exactness.path)!r} does, {family!r}")
    return Task(name, family, exactness, cost, train, proof)


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
    if stage == "exactness":
        for key in ("dtypes", "seeds"):
            yield f"the {key}", sorted(expected[stage][key]), sorted({record[key[:-1]] for record in records})
    if stage == "train":
        yield "epochs:", [expected["epochs"]], sorted({len(record["metrics"]["epochs"]) for record in records})


def read_source(stage, name, path, seeds=None):
    """Read one result, checked for form.

    Args:
        stage, name: what it is the result of: a task's name, or a model's.
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
    _check(value, _HEAD, path, "")
    expected = {"schema": SCHEMA, "stage": stage, "task": task}
    for key, wanted in expected.items():
        if value[key] != wanted:
            raise _foreign(path, f"says {key} {value[key]!r}, but {wanted!r} belongs there")
    _check(value, {"results": [_IDENTITY[stage]]}, path, "")
    for i, record in enumerate(value["results"]):
        _check(record, _REFUSED if "refused" in record else {"metrics": _METRICS[stage]}, path, f"results[{i}]")
        if "captured_ratio" in (record["metrics"] or ()):
            _check(record["metrics"], _CAPTURED, path, f"results[{i}].metrics")
    if stage == "exactness":
        _check(value, {"identities": int}, path, "")
    for record in value["results"] if stage in ("proof", "zoo") else ():
        metrics = record["metrics"]["proof"] if stage == "zoo" else record["metrics"]
        _check_certificate(metrics, path, f"results.{record['rule']}.metrics")
    if stage == "train":
        _check(value, {"seed": int}, path, "")
        for record in value["results"]:
            _check_trajectory(record, path)
        if all(record["rule"] != REFERENCE for record in value["results"]):
            raise _foreign(path, f"has no rule {REFERENCE!r}, the reference of all others")
    return value


def _check_certificate(metrics, path, where):
    """A certificate, with the place where the programs part unless they are equal; or why there is none, and nothing else."""
    if set(metrics) == {"refused"}:
        _check(metrics, {"refused": str}, path, where)
        return
    _check(metrics, _CERTIFICATE, path, where)
    if not metrics["equal"]:
        _check(metrics, _PARTING, path, where)


def _check_trajectory(record, path):
    """A followed rule has one distance for every weight update: a shorter list would hide the updates it lacks."""
    metrics, where = record["metrics"], f"results.{record['rule']}.metrics"
    if record["rule"] == REFERENCE:
        return
    _check(metrics, {"divergence": _TRAJECTORY}, path, where)
    for key in _TRAJECTORY:
        if len(metrics["divergence"][key]) != metrics["updates"]:
            found = len(metrics["divergence"][key])
            raise _foreign(path, f"has {found} values in {where}.divergence.{key} for {metrics['updates']} updates")


def _check(value, form, path, where):
    """Raise ResultError unless ``value`` has the form: a dict of forms, a list of one form, or types."""
    if isinstance(form, dict):
        if not isinstance(value, dict):
            raise _foreign(path, f"has no object at {where or 'its root'}")
        for key, inner in form.items():
            if key not in value:
                raise _foreign(path, f"lacks {f'{where}.{key}'.lstrip('.')}")
            _check(value[key], inner, path, f"{where}.{key}".lstrip("."))
    elif isinstance(form, list):
        if not isinstance(value, list) or not value:
            raise _foreign(path, f"has no list, or an empty one, at {where}")
        for i, item in enumerate(value):
            _check(item, form[0], path, f"{where}[{i}]")
    elif not isinstance(value, form) or (isinstance(value, float) and not math.isfinite(value)):
        raise _foreign(path, f"has {value!r} at {where}")


def _foreign(path, what):
    return ResultError(f"{str(path)!r} {what}; delete it and run `make repro`, which makes it anew")
