"""Fetching, verifying and loading data sets; one file a family."""

from dataclasses import replace
from pathlib import Path

from pcbench.data import _store, embedded, images, text
from pcbench.data._types import Dataset, Split
from pcbench.errors import DataError, InvalidParameters

__all__ = ["Dataset", "Split", "fetch", "load", "names"]

_SPECS = {spec.name: spec for spec in (*embedded.SPECS, *images.SPECS, *text.SPECS)}


def names():
    """The names of all data sets."""
    return tuple(_SPECS)


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
    if name not in _SPECS:
        raise InvalidParameters(f"unknown data set {name!r}; the data sets are {', '.join(_SPECS)}")
    return _SPECS[name]
