"""Which module of this folder fetches and reads a data set.

No result depends on this file: the module stands in a task's entries under ``profiles`` in params.yaml too, from which the
pipeline knows what code the task depends on; a test holds the two together.
"""

from pcbench.errors import InvalidParameters

FAMILIES = {
    "embedded": ("digits", "surnames"),
    "images": ("mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "svhn"),
    "text": ("ag-news", "imdb", "sst2"),
}


def names():
    """The names of all data sets."""
    return tuple(name for family in FAMILIES.values() for name in family)


def loader(name):
    """The module in this folder that fetches and reads the data set called ``name``.

    Raises:
        InvalidParameters: no data set of that name.
    """
    for family, members in FAMILIES.items():
        if name in members:
            return family
    raise InvalidParameters(f"unknown data set {name!r}; the data sets are {', '.join(names())}")
