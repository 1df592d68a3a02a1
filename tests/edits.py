"""Nested tables with one thing changed, for tests of what is made of them."""

import copy


def put(whole, where, value):
    """A copy of ``whole`` with ``value`` at the path ``where``, ``a/b/c``; ``...`` removes what is there."""
    changed = copy.deepcopy(whole)
    *parents, last = where.split("/")
    inner = changed
    for key in parents:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return changed
