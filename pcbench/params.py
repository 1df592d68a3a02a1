"""Reading params.yaml: every number that an experiment depends on."""

from collections.abc import Callable
from dataclasses import dataclass

from pcbench.errors import InvalidParameters
from pcbench.files import read_yaml
from pcbench.rules import NAMES
from pcbench.tasks import get


@dataclass(frozen=True)
class _Kind:
    """What a single value must be, in words and as a test."""

    words: str
    fits: Callable
    optional: bool = False


def _integer(least):
    return _Kind(f"an integer >= {least}", lambda value: type(value) is int and value >= least)


def _one_of(*values):
    return _Kind(f"one of {', '.join(values)}", lambda value: value in values)


def _different(words, fits, least=0):
    def all_fit(value):
        return isinstance(value, list) and all(map(fits, value)) and least <= len(set(value)) == len(value)

    return _Kind(f"a list of different {words}", all_fit)


_ANY = _Kind("a value", lambda value: value is not None)
_TEXT = _Kind("text", lambda value: isinstance(value, str) and value)
_SEEDS = _different("integers >= 0, at least one", lambda seed: type(seed) is int and seed >= 0, least=1)
_DTYPES = _different("names, float32 or float64", lambda dtype: dtype in ("float32", "float64"), least=1)

# The form of params.yaml. Under `...` stands the form of the keys that are not named; without it there are no others. Where
# only such keys are known, there must be one at least: a table of nothing would be no answer.
_OPTIONS = {...: _ANY}
_FLAG = _Kind("true or false", lambda value: isinstance(value, bool), optional=True)
_RULE = {"label": _TEXT, "rule": _one_of(*NAMES), "captured": _FLAG, ...: _ANY}
_RULES = {"bp": {"label": _TEXT, "rule": _one_of("bp")}, ...: _RULE}  # the reference is always there
_SIZES = _different("integers >= 1", lambda size: type(size) is int and size >= 1, least=1)
_LARGEST = _Kind(
    "a table of rules and integers",
    lambda value: isinstance(value, dict) and all(type(size) is int for size in value.values()),
    optional=True,
)
_AXES = {
    "depth": {"sizes": _SIZES, "width": _integer(1), "batch": _integer(1), "largest": _LARGEST},
    "length": {"sizes": _SIZES, "width": _integer(1), "batch": _integer(1), "largest": _LARGEST},
    "width": {"sizes": _SIZES, "depth": _integer(1), "batch": _integer(1), "largest": _LARGEST},
    "batch": {"sizes": _SIZES, "depth": _integer(1), "width": _integer(1), "largest": _LARGEST},
}
_FORM = {
    "profiles": {
        ...: {
            "seeds": _SEEDS,
            "rounds": _integer(1),
            "zoo": _different("names of models", lambda name: isinstance(name, str)),
            "scaling": _different(f"axes, of {', '.join(_AXES)}", lambda name: name in _AXES),
            "tasks": {...: {"network": _TEXT, "data": _TEXT, "loader": _TEXT, "epochs": _integer(1)}},
        }
    },
    "tasks": {...: {"model": _OPTIONS, "batch_size": _integer(1), "optimizer": {"name": _TEXT, ...: _ANY}}},
    "exactness": {"dtypes": _DTYPES, "seeds": _SEEDS, "rules": {...: _RULE}},
    "cost": {"warmup": _integer(0), "rules": _RULES},
    "scaling": {"warmup": _integer(0), "rounds": _integer(1), "rules": _RULES, "axes": _AXES},
    "train": {"rules": _RULES},
    "proof": {"rules": {"zil": _RULE, ...: _RULE}},
    "zoo": {"batch_size": _integer(1), "seed": _integer(0)},
}


def load(path="params.yaml"):
    """Return the parameters as nested dicts.

    Raises:
        InvalidParameters: the file is missing or no YAML, or a key is missing, unknown, or has a value that makes no
            sense; names the file and the key. What only a model, a rule or an optimizer knows, its own options, is
            checked where that is made.
    """
    parameters = read_yaml(path, remedy="mend it, and run pcbench in the repository's root folder")
    _check(parameters, _FORM, str(path), "")
    for name, entry in parameters["profiles"].items():
        for missing in entry["tasks"].keys() - parameters["tasks"].keys():
            raise InvalidParameters(
                f"{str(path)!r}: profiles.{name}.tasks names {missing!r}, which `tasks` does not have"
            )
    return parameters


def _check(value, form, path, where):
    """Raise InvalidParameters unless ``value`` has ``form``: a `_Kind`, or a dict of forms by key."""
    at = f"{path!r}: {where or 'the file'}"
    if isinstance(form, _Kind):
        if not form.fits(value):
            raise InvalidParameters(f"{at} is {value!r}; it must be {form.words}")
        return
    if not isinstance(value, dict):
        raise InvalidParameters(f"{at} is {value!r}; it must have keys with values: {_keys(form)}")
    if not value and set(form) == {...} and form is not _OPTIONS:
        raise InvalidParameters(f"{at} is empty; it must hold one at least")
    for key in form:
        if key is not ... and key not in value and not getattr(form[key], "optional", False):
            raise InvalidParameters(f"{at} has no key {key!r}; its keys are {_keys(form)}")
    for key, inner in value.items():
        if key not in form and ... not in form:
            raise InvalidParameters(f"{at} has an unknown key {key!r}; its keys are {_keys(form)}")
        _check(inner, form.get(key, form.get(...)), path, f"{where}.{key}".lstrip("."))


def _keys(form):
    return ", ".join("any other" if key is ... else key for key in form)


def profile(parameters, name):
    """Return the profile called ``name``.

    Raises:
        InvalidParameters: there is none of that name.
    """
    if name not in parameters["profiles"]:
        raise InvalidParameters(f"unknown profile {name!r}; the profiles are {', '.join(parameters['profiles'])}")
    return parameters["profiles"][name]


def task(parameters, name):
    """Return the task called ``name`` and its numbers.

    Raises:
        InvalidParameters: there is no such task, or params.yaml has no numbers for it.
    """
    found = get(name)
    if name not in parameters["tasks"]:
        raise InvalidParameters(f"task {name!r} has no entry under `tasks` in params.yaml; add one")
    return found, parameters["tasks"][name]


def epochs(profile, task):
    """Return how many epochs a profile trains a task.

    Raises:
        InvalidParameters: the profile does not contain the task.
    """
    if task not in profile["tasks"]:
        raise InvalidParameters(f"this profile trains no task {task!r}; it trains {', '.join(profile['tasks'])}")
    return profile["tasks"][task]["epochs"]


def of_stage(parameters, profile_name, stage, name):
    """Return every parameter that a result depends on, as its provenance records them.

    Args:
        parameters: see `load`.
        profile_name: the profile's name.
        stage: ``exactness``, ``cost``, ``train``, ``proof``, ``zoo`` or ``scaling``.
        name: the task's name; in the zoo, the model's; of scaling, the axis.

    Raises:
        InvalidParameters: there is no such profile or task, or the profile does not train it.
    """
    entry = profile(parameters, profile_name)
    if stage == "zoo":
        return {"zoo": parameters["zoo"]}
    if stage == "scaling":
        settings = parameters["scaling"]
        if name not in settings["axes"]:
            raise InvalidParameters(f"cost is not measured along {name!r}; the axes are {', '.join(settings['axes'])}")
        return {"scaling": {**settings, "axes": {name: settings["axes"][name]}}}
    _, numbers = task(parameters, name)
    found = {"task": numbers, stage: parameters[stage]}
    if stage == "cost":
        found["rounds"] = entry["rounds"]
    if stage == "train":
        found |= {"epochs": epochs(entry, name), "seeds": entry["seeds"]}
    return found


def of_profile(parameters, name):
    """Return every parameter that a profile's report depends on: what is only of other profiles is left out."""
    entry = profile(parameters, name)
    stages = {stage: parameters[stage] for stage in ("exactness", "cost", "train", "proof", "zoo", "scaling")}
    return {"profile": entry, "tasks": {task: parameters["tasks"][task] for task in entry["tasks"]}, **stages}


def differing(first, second, at=""):
    """Return the dotted keys at which two JSON values differ, without what is equal below them."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = [*first, *(key for key in second if key not in first)]
        return [
            found for key in keys for found in differing(first.get(key), second.get(key), f"{at}.{key}".lstrip("."))
        ]
    return [] if first == second else [at]


def rule_options(entry):
    """Split a rule's entry in params.yaml into its registered name and its options."""
    options = {key: value for key, value in entry.items() if key not in ("label", "rule", "captured")}
    return entry["rule"], options
