"""The learning rules: one file each, all with the interface of `Rule`."""

from pcbench.errors import InvalidParameters
from pcbench.rules._base import Rule
from pcbench.rules.backprop import Backprop
from pcbench.rules.captured import Captured
from pcbench.rules.dynamics import Dynamics, InferenceLearning, Schedule
from pcbench.rules.zil import ZIL

__all__ = ["ZIL", "Backprop", "Captured", "Dynamics", "InferenceLearning", "Rule", "Schedule", "by_name"]

NAMES = ("bp", "il", "zil", "zil-state")


def by_name(name, model, *, generator=None, **options):
    """Make the rule called ``name`` in params.yaml and on the command line.

    Args:
        name: ``"bp"``, ``"il"``, ``"zil"``, or ``"zil-state"``: the state form, whose options (the fields of
            `Schedule`) can break Z-IL's conditions.
        model: the module that learns.
        generator: for rules that draw noise.
        options: the rule's own.

    Raises:
        InvalidParameters: no such rule, or it has no such option.
    """
    makers = {
        "bp": Backprop,
        "il": InferenceLearning,
        "zil": ZIL,
        "zil-state": lambda model, **options: Dynamics(model, Schedule(**options), generator),
    }
    if name not in makers:
        raise InvalidParameters(f"unknown rule {name!r}; the rules are {', '.join(NAMES)}")
    try:
        return makers[name](model, **options)
    except TypeError as error:
        raise InvalidParameters(f"rule {name!r} with options {options}: {error}") from error
