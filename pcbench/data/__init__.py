"""Fetching, verifying and loading data sets: one file each, under the data set's own name, and what several share."""

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from pcbench.data import _store
from pcbench.data._types import Dataset, Split
from pcbench.errors import DataError, InvalidParameters

__all__ = ["Dataset", "Split", "fetch", "load", "module", "module_name", "names"]


def names() -> tuple[str, ...]:
    """The names of all data sets, which are those of the files here, with hyphens."""
    return tuple(sorted(path.stem.replace("_", "-") for path in Path(__file__).parent.glob("[!_]*.py")))


def module(name: str) -> ModuleType:
    """The module of a data set: its docstring is the data set's card, its ``SPEC`` says how to fetch and to read it.

    Raises:
        InvalidParameters: no data set of that name.
    """
    # When it is asked for: torchvision alone takes a second and a half to import, most stages need none of it, and a stage
    # depends on its own data set's code and on no other's.
    return importlib.import_module(module_name(name))


def module_name(name: str) -> str:
    """The full name of a data set's module.

    Raises:
        InvalidParameters: no data set of that name.
    """
    if name not in names():
        raise InvalidParameters(f"unknown data set {name!r}; the data sets are {', '.join(names())}")
    return f"{__name__}.{name.replace('-', '_')}"


def fetch(name: str, root: str | Path = "datasets") -> Path:
    """Materialise a data set in ``<root>/<name>/data``, whole and verified, and return that folder.

    Raises:
        InvalidParameters: no data set of that name.
        DataError: see `pcbench.data._store.fetch`.
    """
    return _store.fetch(module(name).SPEC, root)


def load(name: str, root: str | Path = "datasets") -> Dataset:
    """Verify a fetched data set and load it into memory.

    Raises:
        InvalidParameters: no data set of that name.
        DataError: a file is missing or its content is not what it must be.
    """
    spec = module(name).SPEC
    folder = Path(root) / name / "data"
    wrong = _store.problem(spec, folder)
    if wrong is not None:
        raise DataError(f"{name}: {wrong}; run `pcbench fetch {name}`")
    return replace(spec.read(folder), sha256=_store.digest(spec, folder))
