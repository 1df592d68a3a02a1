"""The learning rules: one file each, under the rule's own name, all with the interface of `Rule`."""

import importlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Generator, nn

from pcbench import code
from pcbench.errors import InvalidParameters
from pcbench.rules._base import ENGINES, Loss, Rule
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
    "Loss",
    "Rule",
    "Schedule",
    "by_name",
    "check_options",
    "from_entry",
    "options_of",
]

_OF_ENTRY = ("label", "engine", "captured")


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
    check_options(f"rule {name!r}", name, options)
    try:
        return ENGINES[name].from_options(model, generator, **options)
    except TypeError as error:
        raise InvalidParameters(f"rule {name!r} with options {options}: {error}") from error


def options_of(name: str) -> tuple[str, ...]:
    """The options of the rule called ``name``.

    Raises:
        InvalidParameters: no such rule.
    """
    # By name, so that a stage depends on the code of its own rules and on no other's.
    importlib.import_module(code.module_name("rule", name))
    kind, found = ENGINES[name], []
    for each in inspect.signature(kind).parameters.values():
        if is_dataclass(each.default):  # made of the options
            return tuple(field.name for field in fields(each.default))
        if each.kind is each.VAR_KEYWORD:  # handed on to the class above
            above = inspect.signature(kind.__mro__[1]).parameters.values()
            found += [other.name for other in above if other.kind is other.KEYWORD_ONLY]
        elif each.name not in ("model", "generator"):
            found.append(each.name)
    return tuple(found)


def check_options(where: str, name: str, options: Iterable[str]) -> None:
    """Make sure, before a rule is made, that it has the options that it will be given.

    Args:
        where: what gives them, for the message: ``rules.il-20`` of params.yaml, say.
        name: the rule's name.
        options: their names; ``label``, ``engine`` and ``captured`` are an entry's own.

    Raises:
        InvalidParameters: no such rule, or it has no such option; names those that it has.
    """
    known = options_of(name)
    for option in options:
        if option not in (*known, *_OF_ENTRY):
            its = f"its options are {', '.join(known)}" if known else "it has none"
            raise InvalidParameters(f"{where} has the option {option!r}, which the rule {name!r} does not have; {its}")


def from_entry(entry: Mapping[str, Any], model: nn.Module, generator: Generator | None) -> Rule:
    """Make the rule of an entry under ``rules`` in params.yaml, captured if it says so; ``generator`` is its noise's.

    Raises:
        InvalidParameters: see `by_name`.
    """
    options = {key: value for key, value in entry.items() if key not in _OF_ENTRY}
    rule = by_name(entry["engine"], model, generator=generator, **options)
    return Captured(rule) if entry.get("captured") else rule
