"""The stored run: what a profile's accuracies and times are held to, and how a new run takes its place.

A baseline is written on purpose, and so no report can move it: reports/metrics.json is made anew by every run, and a run
that is held to itself cannot fail. Only what has no bound of its own is in it: accuracies by seed, and times.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from scipy import stats

from pcbench import code, params, stages
from pcbench.check.gate import FAIL, NOT_COMPARABLE, PASS, Finding, interval_text
from pcbench.errors import ResultError
from pcbench.files import read_json, write_json
from pcbench.forms import Form, Table, fault
from pcbench.params import REFERENCE, Parameters, Result, Settings
from pcbench.report.metrics import UNKNOWN, summarise
from pcbench.report.results import read

SCHEMA = 1
FOLDER = Path("baselines")
# Sign flips: all of them up to 13 pairs, so many random ones beyond.
_RESAMPLES = 9999
_INTERVAL = ("median", "low", "high")


class _Interval(Form):
    median: float
    low: float | None
    high: float | None


class _Task(Form):
    accuracy: dict[str, Table[float]]
    time: dict[str, _Interval]


class _Behind(Form):
    device: str
    epochs: dict[str, int]
    tasks: dict[str, Settings]
    train: dict[str, Settings]
    cost: dict[str, Settings]


class _Baseline(Form):
    schema_: Literal[1] = Field(alias="schema")
    profile: str
    git_commit: str | None
    timed_on: dict[str, list[str]]
    parameters: _Behind
    tasks: Table[_Task]


def place(profile: str) -> Path:
    """The file of a profile's baseline."""
    return FOLDER / f"{profile}.json"


def load(profile: str) -> Result | None:
    """Return the profile's baseline; None if none has been written.

    Raises:
        ResultError: it is unreadable, of another form, or of another profile.
    """
    path = place(profile)
    if not path.exists():
        return None
    baseline = read_json(path, _command(profile))
    wrong = fault(baseline, _Baseline)
    if wrong is None and baseline["profile"] != profile:
        wrong = f"profile is {baseline['profile']!r}"
    if wrong is not None:
        raise ResultError(
            f"{str(path)!r} is no baseline of profile {profile!r} ({wrong}); take the committed one "
            f"(`git checkout HEAD -- {path}`), or delete it and write it anew with {_command(profile)}"
        )
    return baseline


def _command(profile):
    return f"`pcbench check --profile {profile} --update-baseline`"


def hold(
    metrics: Result, baseline: Result | None, bounds: Settings, parameters: Parameters, profile: str
) -> list[Finding]:
    """Hold a run to the stored one.

    An accuracy is compared seed by seed: the same seed is the same initial weights and batches. Where any seed differs, an
    exact permutation test (of the signs of the differences) asks whether the accuracy has fallen by more than
    ``bounds["accuracy"]["beyond"]``: of each rule on each task, and of each rule on all tasks together, since a few seeds
    of one task can give no p below the level. What can give none is not comparable, never a pass.

    A time is the ratio to backpropagation, round by round. It fails where the interval of its median lies wholly beyond
    ``bounds["time"]["beyond"]`` times the upper end of the baseline's; on another machine it is not comparable.

    Args:
        metrics: the content of metrics.json.
        baseline: see `load`.
        bounds: the section ``baseline`` of the expectations.
        parameters: see `pcbench.params.load`.
        profile: the profile's name.

    Returns:
        ``[Finding]``; one alone, not comparable, without a baseline.
    """
    file = str(place(profile))
    if baseline is None:
        return [Finding(NOT_COMPARABLE, "baseline", "no baseline", f"{file}; {_command(profile)} writes it", file)]
    now, before = _contents(metrics), baseline["tasks"]
    experiments = [baseline["parameters"], _behind(parameters, profile)]
    machines = [run.get("timed_on", {}) for run in (metrics, baseline)]
    other = sorted(key for key in {*machines[0], *machines[1]} if machines[0].get(key) != machines[1].get(key))
    unknown = any(values == [UNKNOWN] for values in machines[1].values())
    findings: list[Finding] = []
    pooled: dict[str, list[list[float]]] = {}
    for kind, stage in (("accuracy", "train"), ("time", "cost")):
        names = [(task, rule) for tasks in (before, now) for task in tasks for rule in tasks[task][kind]]
        for task, rule in dict.fromkeys(names):
            what = f"baseline.{kind}.{task}.{rule}"
            old, new = (run.get(task, {}).get(kind, {}).get(rule) for run in (before, now))
            reason = _incomparable(stage, task, rule, old, *experiments)
            if reason is None and new is None:
                findings.append(Finding(FAIL, what, "missing", "as in the baseline", file))
            elif reason is not None:
                findings.append(Finding(NOT_COMPARABLE, what, reason, "the baseline's", file))
            elif kind == "accuracy":
                differences = [new[seed] - old[seed] for seed in old if seed in new]
                pooled.setdefault(rule, []).append(differences)
                findings.append(_accuracy(what, differences, bounds["accuracy"], file))
            elif other or unknown:
                reason = f"timed on another machine ({', '.join(other) or UNKNOWN})"
                findings.append(Finding(NOT_COMPARABLE, what, reason, "the baseline's", file))
            else:
                findings.append(_time(what, new, old, bounds["time"]["beyond"], file))
    for rule, of_tasks in pooled.items():
        if len(of_tasks) > 1:
            every = [difference for differences in of_tasks for difference in differences]
            findings.append(_accuracy(f"baseline.accuracy.*.{rule}", every, bounds["accuracy"], file))
    return findings


def _contents(metrics):
    """What of a report's metrics a baseline holds."""
    tasks = {}
    for name, task in metrics["tasks"].items():
        times = {rule: entry.get("ratio", {}) for rule, entry in task.get("cost", {}).items()}
        tasks[name] = {
            "accuracy": {
                rule: entry["by_seed"] for rule, entry in task.get("accuracy", {}).items() if "by_seed" in entry
            },
            "time": {
                rule: {key: ratio[key] for key in _INTERVAL}
                for rule, ratio in times.items()
                if rule != REFERENCE and set(_INTERVAL) <= ratio.keys()
            },
        }
    return tasks


def _behind(parameters, profile):
    """Every parameter that the accuracies and times of a profile depend on, but for seeds and rounds."""
    epochs = params.profile(parameters, profile)["tasks"]
    return {
        "device": parameters["device"],
        "epochs": epochs,
        "tasks": {task: parameters["tasks"][task] for task in epochs},
        **{stage: params.section(parameters, stage)["rules"] for stage in ("train", "cost")},
    }


def _incomparable(stage, task, rule, old, then, now):
    """Why a figure of the baseline and one of now are not of the same experiment, or None."""
    if old is None:
        return "not in the baseline"
    if task not in now["tasks"] or rule not in now[stage]:
        return "params.yaml does not list it any more"
    experiments = [
        {
            "device": of["device"],
            "task": of["tasks"].get(task),
            "rule": {key: value for key, value in of[stage].get(rule, {}).items() if key != "label"},
            "epochs": of["epochs"].get(task) if stage == "train" else None,
        }
        for of in (then, now)
    ]
    other = params.differing(*experiments)
    return f"other parameters: {', '.join(other)}" if other else None


def _accuracy(what, differences, bounds, file):
    beyond, level = bounds["beyond"], bounds["level"]
    expected = f"not fallen by more than {100 * beyond:.3g} points (p ≥ {level})"
    if not differences:
        return Finding(NOT_COMPARABLE, what, "no seed in common", expected, file)
    count = f"{len(differences)} {'pair' if '*' in what else 'seed'}{'s' * (len(differences) > 1)}"
    if not any(differences):
        return Finding(PASS, what, f"identical: {count}", expected, file)
    measured = f"{100 * np.mean(differences):+.2f} points in {count}"
    least = max(0.5 ** len(differences), 1 / (_RESAMPLES + 1))
    if least >= level:
        return Finding(NOT_COMPARABLE, what, f"{measured}, too few: p is at least {least:.2g}", expected, file)
    p = fallen(differences, beyond)
    return Finding(FAIL if p < level else PASS, what, f"{measured} (p = {p:.2g})", expected, file)


def fallen(differences: Sequence[float], beyond: float) -> float:
    """Return the one-sided p of an exact permutation test: that values, in pairs, have not fallen by more than ``beyond``.

    Under that hypothesis a difference from ``-beyond`` is as likely of one sign as of the other; p is the part of all ways to
    give them signs in which their mean is as low as it is, or lower. More than 13 pairs have too many ways: 9999 are drawn.

    Args:
        differences: of each pair the later value less the earlier one.
        beyond: not negative.
    """
    found = stats.permutation_test(
        (np.asarray(differences) + beyond,),
        np.mean,
        permutation_type="samples",
        alternative="less",
        n_resamples=_RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def _time(what, new, old, beyond, file):
    if None in (new["low"], new["high"], old["low"], old["high"]):
        return Finding(NOT_COMPARABLE, what, "no interval: too few rounds", "the baseline's", file)
    expected = f"not all > {beyond} × {interval_text(old)}"
    return Finding(PASS if new["low"] <= beyond * old["high"] else FAIL, what, interval_text(new), expected, file)


def told(findings: Sequence[Finding]) -> list[str]:
    """Say in a few lines how a run compares with the baseline: what is identical, what was tested, and what cannot be told.

    Args:
        findings: of `hold`; those of expectations are left out.
    """
    alike: dict[str, int] = {}
    for finding in findings:
        kind = finding.what.split(".")[1] if finding.what.startswith("baseline.") else None
        if finding.what == "baseline":
            return [f"baseline: {finding.measured}: {finding.expected}"]
        if kind is None:
            continue
        if finding.verdict == NOT_COMPARABLE:
            said = f"{kind} not comparable: {str(finding.measured).rpartition('seeds, ')[2]}"
        elif str(finding.measured).startswith("identical"):
            said = f"{kind} identical in every seed"
        else:
            said = f"{kind} {'no worse' if finding.verdict == PASS else 'worse'}"
        alike[said] = alike.get(said, 0) + 1
    return [f"baseline: {'; '.join(f'{count} × {said}' for said, count in alike.items())}"] if alike else []


def check_current(metrics: Result, parameters: Parameters, profile: str, results: Path) -> None:
    """Raise unless the metrics are those of the results that lie here, and these were made by the code that lies here.

    Raises:
        ResultError: they are not, a result is missing, or nothing says what made it.
    """
    anew = f"make them anew with {params.remake(profile)}"
    tasks = read(results, parameters, profile)
    if _contents(summarise(tasks, profile)) != _contents(metrics):
        raise ResultError(
            f"metrics.json is not of the results in {str(results)!r}; `pcbench report --profile {profile}`"
        )
    for task in tasks:
        for source in (task.cost, task.train):
            _check_code(source, parameters, profile, anew)


def _check_code(source, parameters, profile, anew):
    recorded = None if source.provenance is None else source.provenance["code_sha256"]
    if recorded is None:
        raise ResultError(f"nothing beside {str(source.path)!r} says what code made it; {anew}")
    behind = params.of_stage(parameters, profile, source.stage, source.task)
    if recorded != stages.code_of(source.stage, behind):
        raise ResultError(f"{str(source.path)!r} was made by other code than lies here; {anew}")


def write(metrics: Result, before: Result | None, parameters: Parameters, profile: str) -> list[str]:
    """Make the metrics the profile's baseline; return what changes by that, in lines of text.

    Args:
        metrics: the content of metrics.json, see `check_current`.
        before: the baseline so far, see `load`.
        parameters, profile: see `hold`.

    Raises:
        PCBenchError: the file cannot be written.
    """
    commit, dirty = code.version()
    now = {
        "schema": SCHEMA,
        "profile": profile,
        "git_commit": None if dirty else commit,
        "timed_on": metrics["timed_on"],
        "parameters": _behind(parameters, profile),
        "tasks": _contents(metrics),
    }
    write_json(place(profile), now)
    return [*_changes(before, now), f"wrote {place(profile)}"]


def _changes(before, now):
    if before is None:
        counts = {kind: sum(len(task[kind]) for task in now["tasks"].values()) for kind in ("accuracy", "time")}
        return [f"the first baseline of this profile: {counts['accuracy']} accuracies, {counts['time']} times"]
    lines, same, quotients = [], 0, []
    runs = [_flat(run) for run in (before, now)]
    for key in sorted({*runs[0], *runs[1]}):
        old, new = (run.get(key) for run in runs)
        if old is None or new is None:
            lines.append(f"{'.'.join(key)}: {'new' if old is None else 'gone'}")
        elif key[0] == "time":
            quotients.append(new["median"] / old["median"])
        elif old == new:
            same += 1
        else:
            means = [100 * float(np.mean(list(run.values()))) for run in (old, new)]
            lines.append(f"{'.'.join(key)}: {means[0]:.2f} % → {means[1]:.2f} %, seeds {', '.join(new)}")
    lines.append(f"{same} accuracies as they were")
    if quotients:
        lines.append(f"{len(quotients)} times, {min(quotients):.3g} to {max(quotients):.3g} × what they were")
    moved = params.differing(before["timed_on"], now["timed_on"])
    changed = params.differing(before["parameters"], now["parameters"])
    lines += [f"another machine: {', '.join(moved)}"] if moved else []
    return lines + ([f"other parameters: {', '.join(changed)}"] if changed else [])


def _flat(run):
    return {
        (kind, name, rule): value
        for kind in ("accuracy", "time")
        for name, task in run["tasks"].items()
        for rule, value in task[kind].items()
    }
