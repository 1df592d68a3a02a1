"""The figures of the report in one JSON value: results summarised over seeds, and nothing measured."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from pcbench.params import REFERENCE, Result
from pcbench.report import peers
from pcbench.report.fits import LEVEL, exponent
from pcbench.report.results import SCHEMA, Source, TaskResults, grouped
from pcbench.report.verdicts import verdict

MACHINE = ("cpu", "gpu", "threads", "platform")  # what of a provenance a time depends on, beside the software
UNKNOWN = "not recorded"


def summarise(
    tasks: Sequence[TaskResults],
    profile: str,
    zoo: Sequence[Source] = (),
    scaling: Sequence[Source] = (),
    libraries: Sequence[Source] = (),
) -> Result:
    """Return the content of ``metrics.json``, the verdicts on the claims excepted.

    Args:
        tasks: list of `pcbench.report.results.TaskResults`.
        profile: the profile's name.
        zoo: what `pcbench.report.results.read_zoo` returned.
        scaling: what `pcbench.report.results.read_scaling` returned.
        libraries: the sources of what `pcbench.report.peers.read` returned.

    Returns:
        ``{"schema", "profile", "labels": {rule: label}, "tasks": {task: {"family", "identities", "exactness", "cost",
        "accuracy", "weights", "proof", "conformance", "conditions"}}, "timed_on", "zoo": {model: {..., "proof"}},
        "scaling": {axis: {rule: {...}}}, "peers": {task: {rule: {...}}}}``; figures have the names and shapes that
        their stages gave them, those of conformance are `pcbench.report.verdicts.verdict`'s, those of ``peers`` (other
        people's libraries) `pcbench.report.peers.summary`'s, and ``timed_on`` is `machine` of the costs. None stands for a
        divergence that is not a finite number, and for an interval that the seeds, or the sizes, do not give.
    """
    return {
        "schema": SCHEMA,
        "profile": profile,
        "labels": {r["rule"]: r["label"] for task in tasks for source in task.sources for r in source.records},
        "tasks": {task.name: _summary(task) for task in tasks},
        "timed_on": machine(task.cost for task in tasks),
        "zoo": {source.task: _model(next(source.records)["metrics"]) for source in zoo},
        "scaling": {
            source.task: {rule: _growth(records) for rule, records in source.by_rule.items()} for source in scaling
        },
        "peers": peers.summary(libraries),
    }


def machine(sources: Iterable[Source]) -> dict[str, list[str]]:
    """Return ``{field: values}`` of what some results were timed on, from their provenance: one value, if on one machine.

    A result without provenance adds ``"not recorded"``.
    """
    found: dict[str, set[str]] = {name: set() for name in (*MACHINE, "torch", "instruction_set")}
    for source in sources:
        record = {} if source.provenance is None else source.provenance
        of_torch = {
            "torch": record.get("versions", {}).get("torch", UNKNOWN),
            "instruction_set": record.get("instruction_set", {}).get("force", UNKNOWN),
        }
        for name, values in found.items():
            values.add(str({**record, **of_torch}.get(name, UNKNOWN)))
    return {name: sorted(values) for name, values in found.items()}


def _summary(task):
    return {
        "family": task.family,
        "identities": task.exactness.files[0]["identities"],
        "exactness": {
            rule: {dtype: _exactness(of_dtype) for dtype, of_dtype in sorted(grouped(of_rule, "dtype").items())}
            for rule, of_rule in task.exactness.by_rule.items()
        },
        "cost": {rule: _cost(records[0]) for rule, records in task.cost.by_rule.items()},
        "accuracy": {rule: _accuracy(records) for rule, records in task.train.by_rule.items()},
        "weights": {
            rule: _weights(records, task.train.by_rule[REFERENCE])
            for rule, records in task.train.by_rule.items()
            if rule != REFERENCE
        },
        "proof": {rule: _certificate(records[0]["metrics"]) for rule, records in task.proof.by_rule.items()},
        "conformance": {rule: verdict(records) for rule, records in task.conformance.by_rule.items()},
        "conditions": {
            rule: conditions(records[0], task.conditions.files[0]["rounding"])
            for rule, records in task.conditions.by_rule.items()
        },
    }


def _model(metrics):
    return {**metrics, "proof": _certificate(metrics["proof"])}


def _certificate(metrics):
    """A certificate's figures; an update that is no program is not proven to be equal."""
    return {"equal": False, **metrics}


def worst(values: Iterable[float | None]) -> float | None:
    """The largest value; None, which is not finite, exceeds them all."""
    listed: list[Any] = list(values)
    return None if None in listed else max(listed)


def _exactness(records):
    metrics = [record["metrics"] for record in records]
    same = [entry["bitwise_equal"] for entry in metrics]
    return {
        **{key: worst(entry[key] for entry in metrics) for key in ("l2", "relative_l2", "max_ulp")},
        "bitwise_equal": all(same),
        "seeds": len(same),
        "seeds_equal": sum(same),
    }


CONDITIONS: dict[str, Callable[[Result], bool]] = {  # of Z-IL, and which points of the grid keep them
    "zero_initial_error": lambda point: point["sigma"] == 0,
    "unit_step": lambda point: point["gamma"] == 1,
    "layer_dependent": lambda point: point["layer_dependent"],
}


def conditions(record: Result, rounding: float) -> Result:
    """Judge sufficiency and necessity apart: all three conditions kept, and one of them alone given up.

    Args:
        record: a rule's, of the stage conditions.
        rounding: the largest relative distance that is zero to rounding.

    Returns:
        ``sufficient`` and ``relative_l2`` of the point that keeps all three. Under the name of each condition, of the points
        without it that keep the other two: whether it is ``necessary`` (none of them is zero), how many ``points`` there
        are, how many of them are ``zero``, and the ``least`` and ``largest`` distance. Under ``otherwise`` the same of all
        points that lack any. Under ``free_energy``, by reduction, F along Z-IL's inference and at its least, and Z-IL's
        update beside −∂F/∂θ.
    """
    kept: dict[tuple[bool, ...], list[float | None]] = {}
    for point in record["metrics"]["grid"]:
        key = tuple(holds(point) for holds in CONDITIONS.values())
        kept.setdefault(key, []).append(point["relative_l2"])
    whole = kept.pop((True,) * len(CONDITIONS))
    without = {
        name: kept[tuple(other != place for other in range(len(CONDITIONS)))] for place, name in enumerate(CONDITIONS)
    }
    counted = {name: _spread(values, rounding) for name, values in without.items()}
    return {
        "sufficient": all(_is_zero(value, rounding) for value in whole),
        "relative_l2": worst(whole),
        **{name: {"necessary": spread["zero"] == 0, **spread} for name, spread in counted.items()},
        "otherwise": _spread([value for values in kept.values() for value in values], rounding),
        "free_energy": {reduction: _energy(found) for reduction, found in record["metrics"]["free_energy"].items()},
    }


def _spread(values, rounding):
    finite = [value for value in values if value is not None]
    zero = sum(_is_zero(value, rounding) for value in values)
    return {"points": len(values), "zero": zero, "least": min(finite, default=None), "largest": worst(values)}


def _is_zero(value, rounding):
    return value is not None and value <= rounding


def _energy(found):
    """F along Z-IL's inference and at its least, Z-IL's update beside its slopes; at one time, the nearest of all times."""
    energies, passed = found["energy"], found["at_one_time"]
    finite = [(cosine, t) for t, cosine in enumerate(passed["cosine"]) if cosine is not None]
    cosine, t = max(finite, default=(None, None))
    distances = [value for value in passed["relative_l2"] if value is not None]
    return {
        "start": energies[0],
        "end": energies[-1],
        "largest": worst(energies),
        "settled": found["settled"],
        "at_one_time": {"cosine": cosine, "t": t, "relative_l2": min(distances, default=None)},
    }


def _cost(record):
    if "refused" in record:
        return {"refused": record["refused"]}
    return _without_samples(record["metrics"])


def _without_samples(metrics):
    seconds = {key: value for key, value in metrics["seconds"].items() if key != "samples"}
    return {**metrics, "seconds": seconds}


def _growth(records):
    """The exponents with which time and operations grow, fitted as lines through their logarithms, and the last size."""
    sizes = [record["size"] for record in records]
    exponents = {
        what: exponent(sizes, [pick(record["metrics"]) for record in records])
        for what, pick in (
            ("seconds", lambda metrics: metrics["seconds"]["median"]),
            ("operations", lambda metrics: metrics["operations"]),
        )
    }
    return {
        "exponent": exponents,
        "smallest": sizes[0],
        "largest": sizes[-1],
        **_without_samples(records[-1]["metrics"]),
    }


def _accuracy(records):
    by_seed = {str(record["seed"]): record["metrics"]["test_accuracy"] for record in records}
    values = list(by_seed.values())
    low, high = interval(values)
    return {
        "by_seed": by_seed,
        "mean": float(np.mean(values)),
        "low": low,
        "high": high,
        "seeds": len(values),
        "majority": records[0]["metrics"]["majority_accuracy"],
    }


def interval(values: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    """Return the bootstrapped percentile interval (95 %) of the mean, or (None, None) where there is nothing to draw.

    One value, or values that are all equal, give no interval: a resample of them says nothing about their spread.
    """
    if len(set(values)) < 2:
        return None, None
    rng = np.random.default_rng(0)
    found = bootstrap((values,), np.mean, confidence_level=LEVEL, method="percentile", rng=rng).confidence_interval
    return float(found.low), float(found.high)


def _weights(records, references):
    """Distances of a rule's weights from BP's. ``bitwise_equal``: the final weights of every seed have BP's SHA-256."""
    expected = {record["seed"]: record["metrics"]["weights_sha256"] for record in references}
    ulps = [ulp for record in records for ulp in record["metrics"]["divergence"]["max_ulp"]]
    return {
        "updates": len(ulps),
        "updates_equal": sum(ulp == 0 for ulp in ulps),
        "max_ulp": worst(ulps),
        "bitwise_equal": all(record["metrics"]["weights_sha256"] == expected[record["seed"]] for record in records),
        "final_l2": worst(record["metrics"]["divergence"]["l2"][-1] for record in records),
    }
