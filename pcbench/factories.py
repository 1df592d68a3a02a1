"""A user's own network, for `pcbench verify`: found, made, and checked."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pcbench.errors import InvalidParameters, foreign_code
from pcbench.rules import Loss


def load_factory(specification: str) -> Callable[[], Any]:
    """Return the callable named by ``package.module:factory`` or ``path/to/file.py:factory``.

    Raises:
        InvalidParameters: no such file, module or attribute, or it is not callable.
    """
    place, separator, name = specification.rpartition(":")
    if not separator or not place or not name:
        raise InvalidParameters(f"{specification!r} is neither package.module:factory nor path/to/file.py:factory")
    with foreign_code(f"cannot import {place!r}", "name a module that this Python can import, or a file"):
        module = _from_file(place) if place.endswith(".py") else importlib.import_module(place)
    factory = getattr(module, name, None)
    if not callable(factory):
        raise InvalidParameters(f"{place!r} has no function {name!r}; it returns (model, inputs, targets, loss_fn)")
    return factory


def call_factory(
    factory: Callable[[], Any],
) -> tuple[torch.nn.Module, Any, Any, Loss]:
    """Call ``factory`` under a fixed seed and check what it returned.

    Returns:
        ``(model, inputs, targets, loss_fn)``, see `pcbench.divergence`.

    Raises:
        InvalidParameters: it raised an exception, or returned something else.
    """
    name = getattr(factory, "__name__", repr(factory))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with foreign_code(f"the factory {name}() failed", "it must return (model, inputs, targets, loss_fn)"):
            made = factory()
    if not isinstance(made, tuple) or len(made) != 4 or not isinstance(made[0], torch.nn.Module):
        raise InvalidParameters(
            f"{name}() returned {type(made).__name__}; it must return (model, inputs, targets, loss_fn)"
        )
    return made


def _from_file(path):
    path = Path(path).resolve()
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    specification.loader.exec_module(module)
    return module
