"""Reading result files and summarising them over seeds. Nothing here measures."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

from pcbench.errors import ResultError
from pcbench.files import read_json
from pcbench.provenance import result_digest, sidecar

STAGES = ("exactness", "cost", "train", "zoo")
FAMILIES = ("mlp", "cnn", "rnn", "transformer")
CONFIDENCE, RESAMPLES, BOOTSTRAP_SEED = 0.95, 9999, 0


@dataclass(frozen=True)
class Record:
    """One rule's metrics in one result file.

    Attributes:
        stage, task, family, rule, label: as in the file.
        dtype, seed: None where the stage has none.
        metrics: as in the file.
        source: the file's path.
    """

    stage: str
    task: str
    family: str
    rule: str
    label: str
    dtype: str | None
    seed: int | None
    metrics: dict
    source: str


def read_results(folder):
    """Read every result under ``folder`` (``results/<profile>``), tasks in the order of their families and names.

    Raises:
        ResultError: there are no results, or a file is unreadable or of another schema.
    """
    records = []
    for stage in STAGES:
        for path in sorted((Path(folder) / stage).rglob("*.json")):
            if not path.name.endswith(".provenance.json"):
                records += _records(path, stage)
    if not records:
        raise ResultError(f"no results in {str(folder)!r}; run `make repro`, or the stages one by one")
    return sorted(records, key=lambda record: (FAMILIES.index(record.family), record.task))


def _records(path, stage):
    result = read_json(path)
    if not isinstance(result, dict) or result.get("schema") != 1 or result.get("stage") != stage:
        raise ResultError(
            f"{str(path)!r} is no result of stage {stage!r} in schema 1; delete it and run the stage again"
        )
    try:
        return [
            Record(
                stage,
                result["task"],
                result["family"],
                record["rule"],
                record["label"],
                record.get("dtype"),
                record.get("seed", result.get("seed")),
                record["metrics"],
                path.as_posix(),
            )
            for record in result["results"]
        ]
    except KeyError as error:
        raise ResultError(f"{str(path)!r} has no {error}; delete it and run the stage again") from error


def provenance_of(records):
    """The provenance of every result, by the path of its sidecar's result; None if not recorded for these very bytes."""
    found = {}
    for record in records:
        result = Path(record.source).parent if record.stage == "train" else Path(record.source)
        if result.as_posix() not in found:
            path = sidecar(result)
            recorded = read_json(path) if path.exists() else None
            matches = recorded is not None and recorded.get("result_sha256") == result_digest(result)
            found[result.as_posix()] = recorded if matches else None
    return found


def summarise(records, profile):
    """Return what goes into metrics.json, the claims and the gate.

    Divergences are the worst over seeds, accuracies are means with a bootstrapped 95 % interval over seeds.
    """
    tasks = {}
    for record in records:
        if record.stage == "zoo":
            continue
        task = tasks.setdefault(record.task, {"family": record.family})
        if record.stage == "exactness":
            rule = task.setdefault("exactness", {}).setdefault(record.rule, {"label": record.label})
            rule[record.dtype] = _worse(rule.get(record.dtype), record.metrics)
        elif record.stage == "cost":
            task.setdefault("cost", {})[record.rule] = {
                "label": record.label,
                **{f"seconds_{key}": record.metrics["seconds"][key] for key in ("median", "q1", "q3")},
                **{f"ratio_{key}": record.metrics["ratio"][key] for key in ("median", "q1", "q3")},
                "peak_bytes": record.metrics["peak_bytes"],
                "peak_ratio": record.metrics["peak_ratio"],
            }
    for task in tasks:
        trained = [record for record in records if record.stage == "train" and record.task == task]
        for rule in dict.fromkeys(record.rule for record in trained):
            runs = [record for record in trained if record.rule == rule]
            tasks[task].setdefault("accuracy", {})[rule] = _accuracy(runs)
            if runs[0].metrics["divergence"] is not None:
                tasks[task].setdefault("weights", {})[rule] = _weights(runs)
    zoo = {record.task: record.metrics for record in records if record.stage == "zoo"}
    return {"schema": 1, "profile": profile, "tasks": tasks, "zoo": zoo}


def _worse(so_far, metrics):
    """The worse of two measurements, metric by metric; None, which is not finite, is worst."""
    if so_far is None:
        return dict(metrics)
    worst = {"bitwise_equal": so_far["bitwise_equal"] and metrics["bitwise_equal"]}
    for key in ("l2", "relative_l2", "max_abs", "max_ulp"):
        worst[key] = None if None in (so_far[key], metrics[key]) else max(so_far[key], metrics[key])
    return worst


def _accuracy(runs):
    accuracies = np.array([run.metrics["test_accuracy"] for run in runs])
    low, high = _interval(accuracies)
    return {
        "label": runs[0].label,
        "mean": float(accuracies.mean()),
        "low": low,
        "high": high,
        "seeds": len(runs),
        "majority": runs[0].metrics["majority_accuracy"],
    }


def _interval(values):
    """Bootstrapped interval of the mean; None, None if there are too few or equal values to speak of one."""
    if len(set(values.tolist())) < 2:
        return None, None
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    found = bootstrap(
        (values,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, method="percentile", rng=rng
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _weights(runs):
    """How far the weights went from backpropagation's: the worst at any update of any seed, and at the end."""
    ulps = [value for run in runs for value in run.metrics["divergence"]["max_ulp"]]
    final = [run.metrics["divergence"]["l2"][-1] for run in runs]
    return {
        "label": runs[0].label,
        "updates": len(ulps),
        "identical_updates": sum(value == 0 for value in ulps),
        "max_ulp": None if None in ulps else max(ulps),
        "final_l2": None if None in final else max(final),
    }


def bytes_text(count):
    """A number of bytes for people."""
    return f"{count / 2**20:.2f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def number(value, digits=2):
    """A divergence for people: 0 is exactly zero, None is not finite."""
    if value is None:
        return "not finite"
    if value == 0:
        return "0"
    if isinstance(value, int) and value < 10**6:
        return f"{value:,}".replace(",", "\u202f")
    return (
        f"{value:.{digits - 1}e}"
        if not 1e-3 <= abs(value) < 1e4
        else f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
    )
