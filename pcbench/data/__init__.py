"""Fetching, verifying and loading data sets; one file a family."""

import importlib
from dataclasses import replace
from pathlib import Path

from pcbench.data import _store
from pcbench.data._types import Dataset, Split
from pcbench.errors import DataError, InvalidParameters

__all__ = ["Dataset", "Split", "fetch", "load", "names"]

# The module of each family is imported when one of its data sets is asked for: torchvision alone takes a second and a
# half, and most stages of the pipeline need none of it.
_FAMILIES = {
    "embedded": ("digits", "surnames"),
    "images": ("mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "svhn"),
    "text": ("ag-news", "imdb", "sst2"),
}


def names():
    """The names of all data sets."""
    return tuple(name for family in _FAMILIES.values() for name in family)


def fetch(name, root="datasets"):
    """Materialise a data set in ``<root>/<name>/data``, whole and verified, and return that folder.

    Raises:
        InvalidParameters: no data set of that name.
        DataError: see `pcbench.data._store.fetch`.
    """
    return _store.fetch(_spec(name), root)


def load(name, root="datasets"):
    """Verify a fetched data set and load it into memory.

    Returns:
        `Dataset`.

    Raises:
        InvalidParameters: no data set of that name.
        DataError: a file is missing or its content is not what it must be.
    """
    spec = _spec(name)
    folder = Path(root) / name / "data"
    wrong = _store.problem(spec, folder)
    if wrong is not None:
        raise DataError(f"{name}: {wrong}; run `pcbench fetch {name}`")
    return replace(spec.read(folder), sha256=_store.digest(spec, folder))


def _spec(name):
    for family, members in _FAMILIES.items():
        if name in members:
            return importlib.import_module(f"pcbench.data.{family}").SPECS[name]
    raise InvalidParameters(f"unknown data set {name!r}; the data sets are {', '.join(names())}")
