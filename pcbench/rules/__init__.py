"""The learning rules: one file each, under the rule's own name, all with the interface of `Rule`."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Generator, nn

from pcbench.errors import InvalidParameters
from pcbench.rules._base import ENGINES, Rule
from pcbench.rules._captured import Captured
from pcbench.rules.bp import Backprop
from pcbench.rules.il import InferenceLearning
from pcbench.rules.zil import ZIL
from pcbench.rules.zil_state import Dynamics, Schedule

__all__ = [
    "ENGINES",
    "ZIL",
    "Backprop",
    "Captured",
    "Dynamics",
    "InferenceLearning",
    "Rule",
    "Schedule",
    "by_name",
    "module_name",
    "names",
]


def names() -> tuple[str, ...]:
    """The names of all rules, which are those of the files here, with hyphens."""
    return tuple(sorted(path.stem.replace("_", "-") for path in Path(__file__).parent.glob("[!_]*.py")))


def module_name(name: str) -> str:
    """The full name of a rule's module.

    Raises:
        InvalidParameters: no rule of that name.
    """
    if name not in names():
        raise InvalidParameters(f"unknown rule {name!r}; the rules are {', '.join(names())}")
    return f"{__name__}.{name.replace('-', '_')}"


def by_name(name: str, model: nn.Module, *, generator: Generator | None = None, **options: Any) -> Rule:
    """Make a rule by its name, under which its file registers it, see `pcbench.rules._base.engine`.

    Args:
        name: such as ``"bp"``, ``"il"``, ``"zil"``, or ``"zil-state"``, the state form.
        model: the module that learns.
        generator: for rules that draw noise.
        options: the rule's own.

    Raises:
        InvalidParameters: no such rule, or it has no such option.
    """
    # By name, so that a stage depends on the code of its own rules and on no other's.
    importlib.import_module(module_name(name))
    try:
        return ENGINES[name].from_options(model, generator, **options)
    except TypeError as error:
        raise InvalidParameters(f"rule {name!r} with options {options}: {error}") from error


def from_entry(entry: Mapping[str, Any], model: nn.Module, generator: Generator | None) -> Rule:
    """Make the rule of an entry under ``rules`` in params.yaml, captured if it says so; ``generator`` is its noise's.

    Raises:
        InvalidParameters: see `by_name`.
    """
    options = {key: value for key, value in entry.items() if key not in ("label", "engine", "captured")}
    rule = by_name(entry["engine"], model, generator=generator, **options)
    return Captured(rule) if entry.get("captured") else rule
