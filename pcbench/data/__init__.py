"""Fetching, verifying and loading data sets: one file each, under the data set's own name, and what several share."""

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from pcbench import code
from pcbench.data import _store
from pcbench.data._types import Dataset, Split
from pcbench.errors import DataError

__all__ = ["Dataset", "Split", "fetch", "folder", "load", "module", "names", "verify"]


def names() -> tuple[str, ...]:
    """The names of all data sets."""
    return code.names("data set")


def module(name: str) -> ModuleType:
    """The module of a data set: its docstring is the data set's card, its ``SPEC`` says how to fetch and to read it.

    Raises:
        InvalidParameters: no data set of that name.
    """
    # When it is asked for: torchvision alone takes a second and a half to import, most stages need none of it, and a stage
    # depends on its own data set's code and on no other's.
    return importlib.import_module(code.module_name("data set", name))


def fetch(name: str, root: str | Path = "datasets") -> Path:
    """Materialise a data set in ``<root>/<name>/data``, whole and verified, and return that folder.

    Raises:
        InvalidParameters: no data set of that name.
        DataError: see `pcbench.data._store.fetch`.
    """
    return _store.fetch(module(name).SPEC, root)


def folder(name: str, root: str | Path = "datasets") -> Path:
    """Where a data set lies, or is to lie."""
    return Path(root) / name / "data"


def verify(name: str, root: str | Path = "datasets") -> str:
    """Verify a fetched data set, and return its SHA-256, without loading it.

    Raises:
        InvalidParameters: no data set of that name.
        DataError: a file is missing or its content is not what it must be.
    """
    spec, place = module(name).SPEC, folder(name, root)
    wrong = _store.problem(spec, place)
    if wrong is not None:
        raise DataError(f"{name}: {wrong}; run `pcbench fetch {name}`")
    return _store.digest(spec, place)


def load(name: str, root: str | Path = "datasets") -> Dataset:
    """Verify a fetched data set and load it into memory.

    Raises:
        InvalidParameters, DataError: see `verify`.
    """
    sha256 = verify(name, root)
    return replace(module(name).SPEC.read(folder(name, root)), sha256=sha256)
