"""The learning rules: one file each, under the rule's own name, all with the interface of `Rule`."""

import importlib
from collections.abc import Mapping
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
    "from_entry",
]


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
    importlib.import_module(code.module_name("rule", name))
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
