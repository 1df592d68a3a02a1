"""The learning rules: one file each, all with the interface of `Rule`. A file that is put here is found."""

import importlib
import pkgutil

from pcbench.errors import InvalidParameters
from pcbench.rules._base import ENGINES, Rule
from pcbench.rules.backprop import Backprop
from pcbench.rules.captured import Captured
from pcbench.rules.dynamics import Dynamics, InferenceLearning, Schedule
from pcbench.rules.zil import ZIL

__all__ = ["ENGINES", "ZIL", "Backprop", "Captured", "Dynamics", "InferenceLearning", "Rule", "Schedule", "by_name"]

for _, name, _ in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(name)


def by_name(name, model, *, generator=None, **options):
    """Make a rule by the name of its engine, see `pcbench.rules._base.engine`.

    Args:
        name: such as ``"bp"``, ``"il"``, ``"zil"``, or ``"zil-state"``, the state form.
        model: the module that learns.
        generator: for rules that draw noise.
        options: the rule's own.

    Raises:
        InvalidParameters: no such rule, or it has no such option.
    """
    if name not in ENGINES:
        raise InvalidParameters(f"unknown rule {name!r}; the rules are {', '.join(sorted(ENGINES))}")
    try:
        return ENGINES[name].from_options(model, generator, **options)
    except TypeError as error:
        raise InvalidParameters(f"rule {name!r} with options {options}: {error}") from error


def from_entry(entry, model, generator):
    """Make the rule of an entry under ``rules`` in params.yaml, captured if it says so; ``generator`` is its noise's."""
    options = {key: value for key, value in entry.items() if key not in ("label", "engine", "captured")}
    rule = by_name(entry["engine"], model, generator=generator, **options)
    return Captured(rule) if entry.get("captured") else rule
