"""Fetching, verifying and loading data sets; one file a family."""

import importlib
from dataclasses import replace
from pathlib import Path

from pcbench.data import _store
from pcbench.data._types import Dataset, Split
from pcbench.data.table import loader, names
from pcbench.errors import DataError

__all__ = ["Dataset", "Split", "fetch", "load", "names"]


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
    # When one of its data sets is asked for: torchvision alone takes a second and a half to import, most stages need none of
    # it, and a stage depends on its own loader's code and on no other's.
    return importlib.import_module(f"{__name__}.{loader(name)}").SPECS[name]
