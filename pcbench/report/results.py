"""Reading the stages' results: checked for form on the way in, so that nothing behind this door has to doubt them."""

import math
from dataclasses import dataclass
from pathlib import Path

from pcbench.errors import ResultError
from pcbench.files import read_json
from pcbench.provenance import result_digest, sidecar

SCHEMA = 1
STAGES = ("exactness", "cost", "train", "zoo")
FAMILIES = ("mlp", "cnn", "rnn", "transformer")
REFERENCE = "bp"
ABLATIONS = ("not-layer-dependent", "sigma-0.01", "sigma-0.6", "gamma-0.5", "not-levelled")
RULES = (REFERENCE, "zil", "zil-state", *ABLATIONS, "il", "il-L", "il-20", "il-100")

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
    "cost": {"seconds": _QUARTILES, "ratio": _QUARTILES, "peak_bytes": int, "peak_ratio": _NUMBER},
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
    },
}
_IDENTITY = {
    "exactness": {"rule": str, "label": str, "dtype": str, "seed": int},
    "zoo": {"rule": str, "label": str, "dtype": str, "seed": int},
    "cost": {"rule": str, "label": str},
    "train": {"rule": str, "label": str},
}
_TRAJECTORY = {"l2": [_DIVERGENCE], "relative_l2": [_DIVERGENCE], "max_ulp": [_DIVERGENCE]}


@dataclass(frozen=True)
class Source:
    """One result of one stage, a file or (for training) a folder with a file for each seed.

    Attributes:
        stage, task: what it is the result of; in the zoo, a model's name stands for the task's.
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
    """The three results of one task."""

    name: str
    family: str
    exactness: Source
    cost: Source
    train: Source

    @property
    def sources(self):
        """The task's results in the order of the tables."""
        return self.exactness, self.cost, self.train


def read(results):
    """Return every `Task` that has a result under ``results``, by family (mlp, cnn, rnn, transformer), then by name.

    Args:
        results: the folder of one profile, ``results/<profile>``.

    Raises:
        ResultError: there is no result; a task lacks one of its three; or one is unreadable or of another form.
    """
    results = Path(results)
    names = {path.stem for stage in ("exactness", "cost") for path in _results(results / stage, ".json")}
    names |= {path.name for path in _results(results / "train", "") if path.is_dir()}
    if not names:
        raise ResultError(f"{str(results)!r} holds no results; run `make repro` for this profile")
    return sorted((_task(results, name) for name in names), key=_by_family)


def read_zoo(results):
    """Return the `Source` of every model under ``results/zoo``, by name; empty for a profile without a zoo.

    Raises:
        ResultError: one is unreadable or of another form.
    """
    paths = sorted(_results(Path(results) / "zoo", ".json"))
    return [_source("zoo", path.stem, path) for path in paths]


def ordered(rules):
    """Sort rules' names: BP, Z-IL, its state form, its ablations, IL, and then those that the tables do not know."""
    return sorted(rules, key=lambda rule: (RULES.index(rule) if rule in RULES else len(RULES), rule))


def _results(folder, suffix):
    # A dot begins the name of a temporary file; two end a sidecar's.
    return [path for path in folder.glob("[!.]*") if path.suffix == suffix and "." not in path.stem]


def _by_family(task):
    return (FAMILIES.index(task.family) if task.family in FAMILIES else len(FAMILIES), task.family, task.name)


def _task(results, name):
    exactness, cost = (_source(stage, name, results / stage / f"{name}.json") for stage in ("exactness", "cost"))
    train = _source("train", name, results / "train" / name)
    family = exactness.files[0]["family"]
    for source in (cost, train):
        if any(file["family"] != family for file in source.files):
            raise _foreign(source.path, f"calls the family other than {str(exactness.path)!r} does, {family!r}")
    return Task(name, family, exactness, cost, train)


def _source(stage, task, path):
    paths = [path]
    if stage == "train":
        paths = sorted(path.glob("seed-*.json"), key=lambda seed: (len(seed.name), seed.name))
        if not paths:
            raise ResultError(f"{str(path)!r} holds no seed-*.json; run `make repro`, which trains what is missing")
    files = tuple(_file(stage, task, each) for each in paths)
    if stage == "train" and len({_length(record) for file in files for record in file["results"]}) > 1:
        raise _foreign(path, "holds seeds or rules that were trained for different numbers of epochs or updates")
    sha256 = result_digest(path)
    provenance = read_json(sidecar(path)) if sidecar(path).exists() else None
    if provenance is not None and provenance.get("result_sha256", sha256) != sha256:
        provenance = None
    return Source(stage, task, path, files, sha256, provenance)


def _length(record):
    return len(record["metrics"]["epochs"]), record["metrics"]["updates"]


def _file(stage, task, path):
    value = read_json(path)
    _check(value, _HEAD, path, "")
    expected = {"schema": SCHEMA, "stage": stage, "task": task}
    for key, wanted in expected.items():
        if value[key] != wanted:
            raise _foreign(path, f"says {key} {value[key]!r}, but {wanted!r} belongs there")
    _check(value, {"results": [{**_IDENTITY[stage], "metrics": _METRICS[stage]}]}, path, "")
    if stage == "exactness":
        _check(value, {"identities": int}, path, "")
    if stage == "train":
        _check(value, {"seed": int}, path, "")
        for record in value["results"]:
            _check_trajectory(record, path)
        if all(record["rule"] != REFERENCE for record in value["results"]):
            raise _foreign(path, f"has no rule {REFERENCE!r}, the reference of all others")
    return value


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
