"""Write into dvc.yaml and datasets/dvc.yaml what code each stage depends on: `make profiles`.

The code of every stage is read off the imports, see `pcbench.code`; what a task's network and loader are stands in
params.yaml. Whatever else is a dependency (data, results, the lock of the environment) is left as it is written.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pcbench import code  # noqa: E402 (it needs no more than Python has: no environment is set up for this)

# What stands under `deps` for code that depends on the stage's item, and the modules that it stands for.
BY_ITEM = {
    "pcbench/tasks/${item.network}.py": "pcbench.tasks",
    "pcbench/data/${item.loader}.py": "pcbench.data",
}
SHIPPED = ("py", "j2", "css")
_STAGE = re.compile(r"^  (\w+):\n(?:    .*\n|\n)+", re.MULTILINE)
_DEPS = re.compile(r"^( +)deps:.*\n((?:\1  - .*\n)+)", re.MULTILINE)


def expected(stage):
    """The code that a stage of a pipeline depends on, as its ``deps`` list it.

    Args:
        stage: the stage's text.
    """
    (command,) = re.findall(r"^ +cmd: pcbench (\w+)", stage, re.MULTILINE)
    by_item = [place for place in BY_ITEM if place in stage]
    own = [files for place in by_item for files in _alternatives(BY_ITEM[place], command)]
    common = set(code.of_command(command))
    for path, files in own:  # what one of them needs beside itself, all have
        common |= files - {path}
    return by_item + _folded(common - {path for path, _ in own})


def _alternatives(package, command):
    """Every public module of a package that a name known at run time may mean: ``(its file, all that it brings)``."""
    for path in sorted(ROOT.joinpath(*package.split(".")).glob("[!_]*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name not in code.HARMLESS and name not in code.of_command(command):
            yield name, set(code.closure(f"{package}.{path.stem}"))


def _folded(files):
    """The files, with a folder's name in place of all that it holds."""
    folded = sorted(files)
    for folder in sorted({str(Path(file).parent) for file in files} - {"pcbench"}):
        inside = {path for kind in SHIPPED for path in (ROOT / folder).rglob(f"[!.]*.{kind}")}
        inside = {path.relative_to(ROOT).as_posix() for path in inside}
        if inside <= files:
            folded = [file for file in folded if file not in inside] + [folder]
    return sorted(folded)


def rewritten(text):
    """The text of a dvc.yaml with the code under every stage's ``deps`` as it must be."""

    def stage(found):
        deps = _DEPS.search(found[0])
        indent, lines = deps[1], deps[2].splitlines()
        kept = [line for line in lines if not line.strip().startswith("- pcbench/")]
        lines = [*kept, *(f"{indent}  - {path}" for path in expected(found[0]))]
        return found[0].replace(deps[0], f"{indent}deps:\n" + "\n".join(lines) + "\n")

    return _STAGE.sub(stage, text)


if __name__ == "__main__":
    for pipeline in (ROOT / "dvc.yaml", ROOT / "datasets" / "dvc.yaml"):
        pipeline.write_text(rewritten(pipeline.read_text(encoding="utf-8")), encoding="utf-8")
