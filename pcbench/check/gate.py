"""The regression gate: the report's figures against what is expected of them.

Exact figures are held to exact bounds; timings by the interval of the median ratio, which fails where all of it is beyond the
bound. What is held to a stored run's figures is in `pcbench.check.baseline`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from pydantic import Field, model_validator

from pcbench import params
from pcbench.errors import InvalidParameters, ResultError
from pcbench.files import read_json, read_yaml
from pcbench.forms import Form, fault
from pcbench.params import Parameters, Result, Settings
from pcbench.provenance import digest

PASS, FAIL, NOT_COMPARABLE = "pass", "fail", "not comparable"
_OfTasks = Literal["exactness", "weights", "accuracy", "cost", "proof", "conformance", "conditions"]
_OwnNames = Literal["zoo", "scaling"]  # whose figures are of models and axes, not of tasks
OF_TASKS: tuple[str, ...] = get_args(_OfTasks)
OWN_NAMES: tuple[str, ...] = get_args(_OwnNames)
SECTIONS = (*OF_TASKS, *OWN_NAMES)


class _Bounds(Form):
    min: float | None = None
    max: float | None = None
    equals: bool | int | float | str | None = None
    same_as: str | None = None
    at_most: float | None = None
    at_least: float | None = None

    @model_validator(mode="after")
    def _some(self):
        if not self.model_fields_set:
            raise ValueError(f"one bound at least, of {', '.join(type(self).model_fields)}, belongs there")
        return self


class _Fall(Form):
    beyond: float = Field(ge=0, lt=1)
    level: float = Field(gt=0, lt=1)


class _Slower(Form):
    beyond: float = Field(ge=1)


class _Baseline(Form):
    accuracy: _Fall
    time: _Slower


class _Expectations(Form):
    exactness: dict[str, _Bounds] = Field(default_factory=dict)
    weights: dict[str, _Bounds] = Field(default_factory=dict)
    accuracy: dict[str, _Bounds] = Field(default_factory=dict)
    cost: dict[str, _Bounds] = Field(default_factory=dict)
    proof: dict[str, _Bounds] = Field(default_factory=dict)
    conformance: dict[str, _Bounds] = Field(default_factory=dict)
    conditions: dict[str, _Bounds] = Field(default_factory=dict)
    zoo: dict[str, _Bounds] = Field(default_factory=dict)
    scaling: dict[str, _Bounds] = Field(default_factory=dict)
    baseline: _Baseline = Field(default=cast(Any, None))  # it may be left out, but not be empty
    not_comparable: dict[str, list[Literal[_OfTasks, _OwnNames]]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One figure held against one expectation.

    Attributes:
        verdict: pass, fail, or not comparable: the profile does not measure it, or ``not_comparable`` lists the section.
        what: which figure, as a path into metrics.json.
        measured: its value.
        expected: the bound, for people.
        file: the file that expects it.
    """

    verdict: str
    what: str
    measured: object
    expected: str
    file: str = "expectations.yaml"


def load_expectations(path: str | Path, tasks: Collection[str]) -> Settings:
    """Read the expectations.

    Args:
        path: the file.
        tasks: the names of all tasks, of whatever profile.

    Raises:
        InvalidParameters: the file is missing, no YAML, or has a section, a task or a bound that does not exist.
    """
    expectations = read_yaml(path)
    wrong = fault(expectations, _Expectations) or _unknown(expectations, tasks)
    if wrong is not None:
        raise InvalidParameters(f"{str(path)!r}: {wrong}")
    return expectations


def _unknown(expectations, tasks):
    """The first task that there is not, in words."""
    for section in OF_TASKS:
        for figure in expectations.get(section, ()):
            task = figure.partition(".")[0]
            if task not in ("*", *tasks):
                return f"{section}.{figure}: unknown task {task!r}; the tasks are {', '.join(tasks)}"
    return None


def load_metrics(path: str | Path, parameters: Parameters, profile: str) -> Result:
    """Read the metrics of a profile's report.

    Raises:
        InvalidParameters: there is no such profile.
        ResultError: they are missing, unreadable, not those of a report, of another profile, or made with other parameters
            than ``parameters`` (see `pcbench.params.load`): they say nothing of what would be measured now.
    """
    remake = params.remake(profile)
    metrics = read_json(path, remake)
    anew = f"make it anew with {remake}"
    if not isinstance(metrics, dict) or not metrics.get("profile") or not metrics.get("tasks"):
        raise ResultError(f"{str(path)!r} is no report's metrics.json: it has no profile or no tasks; {anew}")
    if metrics["profile"] != profile:
        raise ResultError(f"{str(path)!r} is of profile {metrics['profile']!r}, not of {profile!r}; {anew}")
    if metrics.get("parameters_sha256") != digest(params.of_profile(parameters, profile)):
        raise ResultError(f"{str(path)!r} was made with other parameters than params.yaml has now; {anew}")
    return metrics


def check(metrics: Result, expectations: Settings, profile: Settings) -> list[Finding]:
    """Hold every expectation against the metrics.

    A figure is named ``task.rule.key``, or ``task.rule.dtype.key`` for exactness, ``model.key`` for the zoo, or
    ``axis.rule.key`` for scaling; the task ``*`` stands for every task of the profile. The bound ``same_as`` names another
    figure of the same task and section (``rule.key``), which it equals. ``at_most`` and ``at_least`` are of figures with an
    interval (``low`` and ``high``), and fail where the whole interval is beyond them. A figure that is missing is a failure,
    also if its whole task is: a check that cannot fail is none. One whose measurements are too few for an interval is not
    comparable.

    Args:
        metrics: the content of metrics.json.
        expectations: see `load_expectations`.
        profile: the profile in params.yaml: its ``tasks``, its ``zoo`` and its ``scaling`` are what must have been measured.

    Returns:
        ``[Finding]``, one for each figure.

    Raises:
        ResultError: the metrics are not those of a report.
    """
    lacking = [key for key in ("profile", "tasks") if not isinstance(metrics, dict) or not metrics.get(key)]
    if lacking:
        raise ResultError(f"metrics.json has no {' and no '.join(lacking)}; make it anew with `pcbench report`")
    parts = [*_values(metrics["tasks"]), metrics["tasks"], *(metrics.get(name, {}) for name in OWN_NAMES)]
    if not isinstance(metrics["profile"], str) or not all(isinstance(part, dict) for part in parts):
        raise ResultError("metrics.json is damaged; make it anew with `pcbench report`")
    findings = []
    skipped = expectations.get("not_comparable", {}).get(metrics["profile"], [])
    for section in SECTIONS:
        if section in OWN_NAMES:
            names, measured = profile[section], metrics.get(section, {})
        else:
            names = profile["tasks"]
            measured = {name: task.get(section, {}) for name, task in metrics["tasks"].items()}
        for figure, bounds in expectations.get(section, {}).items():
            task, _, key = figure.partition(".")
            tasks = [name for name in names if task in ("*", name)]
            if section in skipped or not tasks:
                findings.append(Finding(NOT_COMPARABLE, f"{section}.{figure}", "not of this profile", _text(bounds)))
                continue
            for name in tasks:
                value, other = (_look_up(measured.get(name), each) for each in (key, bounds.get("same_as", key)))
                findings.append(_hold(f"{section}.{name}.{key}", value, bounds, other))
    return findings


def _values(tasks):
    return tasks.values() if isinstance(tasks, dict) else ()


_MISSING = object()


def _look_up(found, key):
    for part in key.split(".") if key else ():
        if not isinstance(found, dict) or part not in found:
            return _MISSING
        found = found[part]
    return found


def _hold(what, value, bounds, other):
    """Hold a figure to its bounds; ``other`` is the one that ``same_as`` names."""
    if value is _MISSING:
        return Finding(FAIL, what, "missing", _text(bounds))
    if _INTERVALS & bounds.keys():
        return _hold_interval(what, value, bounds)
    if value is None:  # not finite: beyond every upper bound, within every lower one
        met = "min" in bounds and len(bounds) == 1
        return Finding(PASS if met else FAIL, what, "not finite", _text(bounds))
    if "same_as" in bounds and other is _MISSING:
        return Finding(FAIL, what, value, f"{_text(bounds)}, which is missing")
    if set(bounds) != {"equals"} and type(value) not in (int, float):
        return Finding(FAIL, what, value, _text(bounds))
    met = (
        ("equals" not in bounds or (value == bounds["equals"] and type(value) is type(bounds["equals"])))
        and ("min" not in bounds or value >= bounds["min"])
        and ("max" not in bounds or value <= bounds["max"])
        and ("same_as" not in bounds or (value == other and type(value) is type(other)))
    )
    text = _text(bounds)
    return Finding(PASS if met else FAIL, what, value, f"{text} ({other})" if "same_as" in bounds else text)


_INTERVALS = {"at_most", "at_least"}


def _hold_interval(what, value, bounds):
    text = _text(bounds)
    if bounds.keys() - _INTERVALS or not isinstance(value, dict) or not {"low", "high"} <= value.keys():
        return Finding(FAIL, what, f"{value}, which is no interval", text)
    low, high = value["low"], value["high"]
    if low is None or high is None:
        return Finding(NOT_COMPARABLE, what, "no interval: too few measurements", text)
    met = low <= bounds.get("at_most", low) and high >= bounds.get("at_least", high)
    return Finding(PASS if met else FAIL, what, interval_text(value), text)


def interval_text(value: Settings) -> str:
    """Write a figure with its interval: ``1.47 (1.36 to 1.54)``."""
    middle = value.get("median", value.get("value"))
    return f"{middle:.3g} ({value['low']:.3g} to {value['high']:.3g})"


def _text(bounds):
    signs = {"min": "≥", "max": "≤", "equals": "=", "same_as": "=", "at_most": "not all >", "at_least": "not all <"}
    return ", ".join(f"{signs[kind]} {bound}" for kind, bound in bounds.items())
