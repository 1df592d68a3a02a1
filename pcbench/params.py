"""Reading params.yaml: every number that an experiment depends on."""

from pathlib import Path

import yaml

from pcbench.errors import InvalidParameters
from pcbench.tasks import get


def load(path="params.yaml"):
    """Return the parameters as nested dicts.

    Raises:
        InvalidParameters: the file is missing, is no YAML, or lacks a section.
    """
    try:
        parameters = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidParameters(
            f"cannot read {str(path)!r} ({error.strerror}); run pcbench in the repository's root folder"
        ) from error
    except yaml.YAMLError as error:
        raise InvalidParameters(f"{str(path)!r} is not valid YAML: {error}") from error
    for section in ("profiles", "tasks", "exactness", "cost", "train", "zoo"):
        if not isinstance(parameters, dict) or section not in parameters:
            raise InvalidParameters(f"{str(path)!r} has no section {section!r}")
    return parameters


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


def rule_options(entry):
    """Split a rule's entry in params.yaml into its registered name and its options."""
    options = {key: value for key, value in entry.items() if key not in ("label", "rule")}
    return entry["rule"], options
