"""Reading params.yaml: every number that an experiment depends on."""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from pcbench import code
from pcbench.errors import InvalidParameters
from pcbench.files import read_yaml
from pcbench.forms import Different, Form, Given, Natural, Open, Positive, Some, Table, Text, fault

# Tables of texts, numbers, lists and tables, as YAML and JSON give them; their form is checked where they are read.
Parameters = dict[str, Any]  # params.yaml, or what of it a result depends on
Settings = dict[str, Any]  # a section of a YAML file, or an entry in one: a profile, a task, a rule
Result = dict[str, Any]  # what a stage writes, a record of it, its provenance, or a report's metrics

_PACKAGE = code.PACKAGE
REFERENCE = "bp"  # the rule that all others are held to
STAGES = ("exactness", "cost", "train", "proof", "conformance", "conditions", "zoo", "scaling")
OF_TASKS = STAGES[:6]
DEVICES = r"cpu|cuda(:\d+)?"  # the names that a device may have, and in words:
DEVICES_SAID = "the devices are cpu, cuda, and cuda:1 where there are several GPUs"


def _identifier(name: str) -> str:
    if not re.fullmatch(r"[\w-]+", name, re.ASCII):
        raise ValueError("an identifier has letters, digits, - and _, and no dot: figures are named task.rule.key")
    return name


def _with_reference(rules: list[str]) -> list[str]:
    if REFERENCE not in rules:
        raise ValueError(f"{REFERENCE!r}, the reference, must be among them")
    return rules


def _with_zil(rules: list[str]) -> list[str]:
    if "zil" not in rules:
        raise ValueError("'zil', whose certificate it is, must be among them")
    return rules


def _device(name: str) -> str:
    if not re.fullmatch(DEVICES, name):
        raise ValueError(DEVICES_SAID)
    return name


def _option(value: Any) -> Any:
    if not isinstance(value, int | float | str):
        raise ValueError("an option's value is a number, a text or a truth value")
    return value


_Name = Annotated[str, AfterValidator(_identifier)]
_Rules = Some[Text]
_Compared = Annotated[Some[Text], AfterValidator(_with_reference)]


class _Profile(Form):
    seeds: Some[Natural]
    rounds: Positive
    zoo: Different[Text]
    scaling: Different[Literal["depth", "length", "width", "batch"]]
    tasks: Table[Positive]


class _Optimizer(Open):
    name: Text
    __pydantic_extra__: dict[str, Given]


class _Task(Form):
    network: Text
    data: Text
    model: dict[str, Given]
    batch_size: Positive
    optimizer: _Optimizer


class _Rule(Open):
    label: Text
    engine: Text
    captured: bool = False
    __pydantic_extra__: dict[str, Given]


class _Exactness(Form):
    dtypes: Some[Literal["float32", "float64"]]
    seeds: Some[Natural]
    rules: _Rules


class _Cost(Form):
    warmup: Natural
    rules: _Compared


class _Train(Form):
    rules: _Compared
    only: dict[str, Some[Text]] = Field(default_factory=dict)


class _Proof(Form):
    rules: Annotated[Some[Text], AfterValidator(_with_zil)]


class _Conformance(Form):
    seeds: Some[Natural]
    rules: _Rules
    grids: dict[str, Table[Some[Annotated[Any, AfterValidator(_option)]]]]


_Step = Annotated[float, Field(gt=0)]
_Deviation = Annotated[float, Field(ge=0)]


def _both_sides(kept: float) -> AfterValidator:
    """Of values of one condition: the one that keeps it, and others."""

    def check(values: list[float]) -> list[float]:
        if kept not in values or len(values) < 2:
            raise ValueError(f"{kept:g}, which keeps the condition, must be among them, and another that does not")
        return values

    return AfterValidator(check)


class _FreeEnergy(Form):
    reductions: Some[Literal["mean", "sum"]]
    residual: Annotated[float, Field(gt=0)]
    evaluations: Positive


class _Conditions(Form):
    dtype: Literal["float32", "float64"]
    seed: Natural
    rounding: Annotated[float, Field(gt=0)]
    rules: Annotated[_Rules, Field(max_length=1)]
    gammas: Annotated[Some[_Step], _both_sides(1)]
    sigmas: Annotated[Some[_Deviation], _both_sides(0)]
    free_energy: _FreeEnergy


class _Zoo(Form):
    batch_size: Positive
    seed: Natural


class _Axis(Form):
    sizes: Some[Positive]
    largest: dict[str, Positive] = Field(default_factory=dict)


class _Layers(_Axis):
    width: Positive
    batch: Positive


class _Width(_Axis):
    depth: Positive
    batch: Positive


class _Batch(_Axis):
    depth: Positive
    width: Positive


class _Axes(Form):
    depth: _Layers
    length: _Layers
    width: _Width
    batch: _Batch


class _Scaling(Form):
    warmup: Natural
    rounds: Positive
    rules: _Compared
    axes: _Axes


class _Parameters(Form):
    profiles: Table[_Profile]
    tasks: Annotated[dict[_Name, _Task], Field(min_length=1)]
    rules: Annotated[dict[_Name, _Rule], Field(min_length=1)]
    exactness: _Exactness
    cost: _Cost
    train: _Train
    proof: _Proof
    conformance: _Conformance
    conditions: _Conditions
    zoo: _Zoo
    scaling: _Scaling
    device: Annotated[str, AfterValidator(_device)]


def load(path: str | Path = "params.yaml") -> Parameters:
    """Return the parameters as nested dicts, as they stand in the file.

    Raises:
        InvalidParameters: the file is missing or no YAML, or a key is missing, unknown, or has a value that makes no
            sense; names the file and the key. What only a model, a rule or an optimizer knows, its own options, is
            checked where that is made.
    """
    parameters = read_yaml(path, remedy="mend it, and run pcbench in the repository's root folder")
    wrong = fault(parameters, _Parameters) or _dangling(parameters)
    if wrong is not None:
        raise InvalidParameters(f"{str(path)!r}: {wrong}")
    return parameters


def _dangling(parameters: Parameters) -> str | None:
    """The first name that means nothing, in words."""
    for name, entry in parameters["profiles"].items():
        for missing in entry["tasks"].keys() - parameters["tasks"].keys():
            return f"profiles.{name}.tasks names {missing!r}, which `tasks` does not have"
    for table, key, kind in (
        ("tasks", "network", "network"),
        ("tasks", "data", "data set"),
        ("rules", "engine", "rule"),
    ):
        known = code.names(kind, _PACKAGE)
        for name, entry in parameters[table].items():
            if entry[key] not in known:
                return f"{table}.{name}.{key} is {entry[key]!r}, which is none of {', '.join(known)}"
    for axis, entry in parameters["scaling"]["axes"].items():
        for missing in entry.get("largest", {}).keys() - set(parameters["scaling"]["rules"]):
            return f"scaling.axes.{axis}.largest names {missing!r}, which scaling.rules does not have"
    for missing in parameters["conformance"]["grids"].keys() - set(parameters["conformance"]["rules"]):
        return f"conformance.grids names {missing!r}, which conformance.rules does not have"
    for rule, names in parameters["train"].get("only", {}).items():
        if rule in parameters["train"]["rules"]:
            return f"train.only names {rule!r}, which train.rules has for every task"
        for missing in set(names) - parameters["tasks"].keys():
            return f"train.only.{rule} names {missing!r}, which `tasks` does not have"
    for stage in STAGES:
        listed = [*parameters[stage].get("rules", ()), *parameters[stage].get("only", ())]
        for missing in [name for name in listed if name not in parameters["rules"]]:
            return f"{stage}.rules names {missing!r}, which `rules` does not have"
    if parameters["rules"][REFERENCE]["engine"] != REFERENCE:
        return f"rules.{REFERENCE}.engine is {parameters['rules'][REFERENCE]['engine']!r}; the reference is backpropagation"
    return None


def profile(parameters: Parameters, name: str) -> Settings:
    """Return the profile called ``name``.

    Raises:
        InvalidParameters: there is none of that name.
    """
    return _named("profile", name, parameters["profiles"])


def task(parameters: Parameters, name: str) -> Settings:
    """Return the settings of the task called ``name``: its network, its data set, and the numbers of its training.

    Raises:
        InvalidParameters: there is none of that name.
    """
    return _named("task", name, parameters["tasks"])


def section(parameters: Parameters, stage: str) -> Settings:
    """Return the section of a stage, with the entries of its rules in place of their identifiers, in the table's order."""
    found, rules = dict(parameters[stage]), parameters["rules"]
    if "rules" in found:
        listed = {*found["rules"], *found.get("only", ())}
        found["rules"] = {name: rules[name] for name in rules if name in listed}
    return found


def combinations(grid: Mapping[str, Sequence[Any]], levels: int) -> list[Settings]:
    """Return every combination of the values of a rule's options, each once, the last option's values changing first.

    Args:
        grid: a rule's entry under ``conformance.grids``: ``{option: values}``; empty, the rule's own options alone.
        levels: what ``levels`` stands for in it, the number of the network's levels.
    """
    values = [dict.fromkeys(levels if value == "levels" else value for value in listed) for listed in grid.values()]
    return [dict(zip(grid, combined, strict=True)) for combined in product(*values)]


def rule_modules(settings: Settings) -> list[str]:
    """The modules of the rules of a stage, which are code that it depends on.

    Args:
        settings: the stage's section, see `section`.

    Raises:
        InvalidParameters: no rule of that name.
    """
    return sorted({code.module_name("rule", entry["engine"]) for entry in settings.get("rules", {}).values()})


def on(parameters: Parameters, device: str | None) -> Parameters:
    """Return the parameters with another device, if one is named."""
    return parameters if device is None else {**parameters, "device": device}


def epochs(profile: Settings, task: str) -> int:
    """Return how many epochs a profile trains a task.

    Raises:
        InvalidParameters: the profile does not contain the task.
    """
    if task not in profile["tasks"]:
        raise InvalidParameters(f"this profile trains no task {task!r}; it trains {', '.join(profile['tasks'])}")
    return profile["tasks"][task]


def of_stage(parameters: Parameters, profile_name: str, stage: str, name: str) -> Parameters:
    """Return every parameter that a result depends on, as its provenance records them.

    Args:
        parameters: see `load`.
        profile_name: the profile's name.
        stage: one of `STAGES`.
        name: the task's name; in the zoo, the model's; of scaling, the axis.

    Raises:
        InvalidParameters: there is no such profile or task, or the profile does not train it.
    """
    entry, settings = profile(parameters, profile_name), section(parameters, stage)
    device: Parameters = {"device": parameters["device"]}
    if stage == "zoo":
        return device | {"zoo": settings}
    if stage == "scaling":
        if name not in settings["axes"]:
            raise InvalidParameters(f"cost is not measured along {name!r}; the axes are {', '.join(settings['axes'])}")
        return device | {"scaling": {**settings, "axes": {name: settings["axes"][name]}}}
    found = device | {"task": task(parameters, name), stage: settings}
    if stage == "cost":
        found["rounds"] = entry["rounds"]
    if stage == "train":
        only = settings.pop("only", {})
        settings["rules"] = {rule: entry for rule, entry in settings["rules"].items() if name in only.get(rule, [name])}
        found |= {"epochs": epochs(entry, name), "seeds": entry["seeds"]}
    return found


def of_profile(parameters: Parameters, name: str) -> Parameters:
    """Return every parameter that a profile's report depends on: what is only of other profiles is left out.

    Raises:
        InvalidParameters: there is no such profile.
    """
    entry = profile(parameters, name)
    stages = {stage: section(parameters, stage) for stage in STAGES}
    tasks = {task: parameters["tasks"][task] for task in entry["tasks"]}
    return {"device": parameters["device"], "profile": entry, "tasks": tasks, **stages}


def remake(profile_name: str) -> str:
    """The command that brings a profile's results and report up to date, for messages."""
    return "`make repro`" if profile_name == "default" else f"`make repro PROFILE={profile_name}`"


def differing(first: Any, second: Any, at: str = "") -> list[str]:
    """Return the dotted keys at which two JSON values differ, without what is equal below them."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = [*first, *(key for key in second if key not in first)]
        return [
            found for key in keys for found in differing(first.get(key), second.get(key), f"{at}.{key}".lstrip("."))
        ]
    return [] if first == second else [at]


def _named(kind: str, name: str, table: Settings) -> Any:
    if name not in table:
        raise InvalidParameters(f"unknown {kind} {name!r}; the {kind}s are {', '.join(table)}")
    return table[name]
