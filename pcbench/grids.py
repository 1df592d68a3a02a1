"""The settings that a rule is tried at: every combination of its options' values."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

LEVELS = "levels"  # stands for the number of a network's levels


def combinations(grid: Mapping[str, Sequence[Any]], levels: int) -> list[dict[str, Any]]:
    """Return every combination of the options' values, each once; the last option's values change first.

    Args:
        grid: ``{option: values}``, a rule's entry under ``conformance.grids`` of params.yaml; an empty one has one
            combination, without options.
        levels: the number of the network's levels, for which ``levels`` stands among the values.
    """
    values = [dict.fromkeys(levels if value == LEVELS else value for value in listed) for listed in grid.values()]
    return [dict(zip(grid, combined, strict=True)) for combined in product(*values)]
