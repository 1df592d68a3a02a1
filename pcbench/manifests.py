"""Manifests: the files that each stage of the pipelines depends on, with their digests, which `pcbench code` writes.

The manifests are outputs of a stage of their own, profiles/dvc.yaml's, and dependencies of all others in place of the files:
a change of a file runs again what has it in its manifest, and dvc.lock, which DVC reads and writes at every stage, holds one
hash where it would hold fifty.
"""

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pcbench import code, params
from pcbench.files import write_text

FOLDER = Path(".pcbench/code")
STAGES = ("fetch", *params.STAGES, "report")
# What data sets of one kind share.
FORMATS = frozenset(f"pcbench/data/{name}.py" for name in ("_images", "_packages", "_text"))
# Of these packages a stage depends on the modules of its item (a task, a data set), which its pipeline names.
_OF_ITEM = {"fetch": ("pcbench.data",), **dict.fromkeys(params.OF_TASKS, ("pcbench.tasks", "pcbench.data"))}

_closure, _of_command = cache(code.closure), cache(code.of_command)  # the code stays as it is meanwhile


def files(stage: str, parameters: params.Parameters) -> list[str]:
    """Return the files that a stage depends on whatever its item is, relative to the repository's root folder, sorted.

    Args:
        stage: one of `STAGES`.
        parameters: see `pcbench.params.load`: rules are code.

    Raises:
        InvalidParameters: there is no such rule.
    """
    rules = params.rule_modules(params.section(parameters, stage)) if stage in params.STAGES else ()
    found, items = {*_of_command(stage, *rules)}, set()
    for package in _OF_ITEM.get(stage, ()):
        for path, needed in _alternatives(package, stage):
            items.add(path)
            found |= needed  # what one of them needs beside itself, all have
    if "pcbench.data" in _OF_ITEM.get(stage, ()):
        items |= FORMATS
    return sorted(found - items)


def write(parameters: params.Parameters, folder: str | Path = FOLDER) -> None:
    """Write ``<stage>.txt`` for every stage: a line a file, its SHA-256 and its path.

    Raises:
        InvalidParameters: there is no such rule.
        PCBenchError: the folder cannot be written to.
    """
    for stage in STAGES:
        lines = [f"{hashlib.sha256(code.content(file)).hexdigest()}  {file}\n" for file in files(stage, parameters)]
        write_text(Path(folder) / f"{stage}.txt", "".join(lines))


def _alternatives(package: str, stage: str) -> Iterator[tuple[str, set[str]]]:
    """Every public module of a package that an item may mean: ``(its file, all that it brings)``."""
    root = code.PACKAGE.parent
    for path in sorted(root.joinpath(*package.split(".")).glob("[!_]*.py")):
        name = path.relative_to(root).as_posix()
        if name not in code.HARMLESS and name not in _of_command(stage):
            yield name, {*_closure(f"{package}.{path.stem}")}
