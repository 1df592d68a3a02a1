"""Write into the pipelines what follows from params.yaml and from the code: `make profiles`.

dvc.yaml is the default profile's pipeline, written by hand but for what is generated here: its tasks with the modules that
they alone depend on, and under every stage its rules and the code that it depends on, read off the imports, see
`pcbench.code`. profiles/*/dvc.yaml are the same for the other profiles. Of datasets/dvc.yaml it is the data sets.
"""

import re
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pcbench import code, params  # noqa: E402
from pcbench.errors import PCBenchError  # noqa: E402

closure, of_command = cache(code.closure), cache(code.of_command)  # the code stays as it is meanwhile

# What stands under `deps` for code that depends on the stage's item, and the package that it is a module of.
BY_ITEM = {
    "pcbench/tasks/${item.network}.py": "pcbench.tasks",
    "pcbench/data/${item.module}.py": "pcbench.data",
}
# What the data sets of one kind share: each depends on one of these, which is its item's too.
BY_FORMAT = "pcbench/data/${item.format}.py"
FORMATS = {f"pcbench/data/{name}.py" for name in ("_images", "_packages", "_text")}
SHIPPED = ("py", "j2", "css", "js", "yaml")
_STAGE = re.compile(r"^  (\w+):\n(?:    .*\n|\n)+", re.MULTILINE)
_DEPS = re.compile(r"^( +)deps:.*\n((?:\1  - .*\n)+)", re.MULTILINE)
_RULES = re.compile(
    r"^( +)- (exactness|cost|train|proof|conformance|conditions|scaling)\n((?:\1- rules\..*\n)*)", re.MULTILINE
)
_ITEMS = re.compile(r"^( +)(\w+): # by `make profiles`\n((?:\1  .*\n)*)", re.MULTILINE)


def expected(stage: str, parameters: params.Parameters) -> list[str]:
    """The code that a stage of a pipeline depends on, as its ``deps`` list it.

    Args:
        stage: the stage's text.
        parameters: the content of params.yaml.
    """
    (command,) = re.findall(r"^ +cmd: pcbench (\w+)", stage, re.MULTILINE)
    by_item = [place for place in BY_ITEM if place in stage]
    own = [files for place in by_item for files in _alternatives(BY_ITEM[place], command)]
    rules = params.rule_modules(params.section(parameters, command)) if command in params.STAGES else ()
    common = set(of_command(command, *rules))
    for path, files in own:  # what one of them needs beside itself, all have
        common |= files - {path}
    if BY_FORMAT in stage:
        by_item, common = [*by_item, BY_FORMAT], common - FORMATS
    return by_item + _folded(common - {path for path, _ in own})


def _alternatives(package, command):
    """Every public module of a package that a name known at run time may mean: ``(its file, all that it brings)``."""
    for path in sorted(ROOT.joinpath(*package.split(".")).glob("[!_]*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name not in code.HARMLESS and name not in of_command(command):
            yield name, set(closure(f"{package}.{path.stem}"))


def _folded(files):
    """The files, with a folder's name in place of all that it holds."""
    folded = sorted(files)
    # Another rule, whose file is put beside these, is no matter of theirs.
    for folder in sorted({str(Path(file).parent) for file in files} - {"pcbench", "pcbench/rules"}):
        inside = {path for kind in SHIPPED for path in (ROOT / folder).rglob(f"[!.]*.{kind}")}
        inside = {path.relative_to(ROOT).as_posix() for path in inside}
        if inside <= files:
            folded = [file for file in folded if file not in inside] + [folder]
    return sorted(folded)


def rewritten(text: str, parameters: params.Parameters, profile: str = "default") -> str:
    """The text of a dvc.yaml with the items, rules and code of every stage as they must be.

    Args:
        text: as it is; datasets/dvc.yaml is another one than the rest.
        parameters: the content of params.yaml.
        profile: whose tasks it is to have.
    """
    items = {
        "tasks": {name: _task(parameters["tasks"][name]) for name in parameters["profiles"][profile]["tasks"]},
        "foreach": {name: f"{{{_of_data(name)}}}" for name in code.names("data set")},
    }

    def listed(found):
        indent, key, old = found.groups()
        lines = (f"{indent}  {name}: {item}\n" for name, item in items[key].items())
        return found[0].removesuffix(old) + "".join(lines)

    def rules(found):
        indent, section, old = found.groups()
        names = params.section(parameters, section)["rules"]
        return found[0].removesuffix(old) + "".join(f"{indent}- rules.{name}\n" for name in names)

    def stage(found):
        deps = _DEPS.search(found[0])
        indent, lines = deps[1], deps[2].splitlines()
        kept = [line for line in lines if not line.strip().startswith("- pcbench/")]
        lines = [*kept, *(f"{indent}  - {path}" for path in expected(found[0], parameters))]
        whole = found[0].replace(deps[0], f"{indent}deps:\n" + "\n".join(lines) + "\n")
        return whole if found[1] == "report" else _RULES.sub(rules, whole)

    return _STAGE.sub(stage, _ITEMS.sub(listed, text))


def derived(text: str, parameters: params.Parameters, profile: str) -> str:
    """The default profile's dvc.yaml for another profile: its own tasks, results and report, run in the repository's root."""
    body = rewritten(text, parameters, profile)
    body = body[body.index("vars:") :].replace("  - params.yaml", "  - ../../params.yaml", 1)
    for default, other in (
        ("profiles.default", f"profiles.{profile}"),
        ("--profile default", f"--profile {profile}"),
        ("results/default", f"results/{profile}"),
        ("reports/", f"reports/{profile}/"),
        # Git has the default profile's report. Of another one the cache has what runs are compared by: `dvc exp show`.
        ("headline.json:\n          cache: false", "headline.json"),
        ("plots:\n          cache: false", "plots"),
        ("    do:\n", "    do:\n      wdir: ../..\n"),
        ("  report:\n", "  report:\n    wdir: ../..\n"),
    ):
        body = body.replace(default, other)
    stages, head, plots = body.partition("\nplots:")  # which DVC looks for beside the pipeline, wherever its stages run
    body = stages + head + plots.replace("{reports/", "{../../reports/")
    return f"# The pipeline of profile {profile}: made from dvc.yaml by `make profiles`, not edited by hand.\n{body}"


def _task(settings):
    return f"{{network: {settings['network']}, data: {settings['data']}, {_of_data(settings['data'])}}}"


def _of_data(name):
    """A data set's own module, and the one that it shares with others of its kind."""
    module = code.module_name("data set", name)
    (shared,) = FORMATS & set(closure(module))
    return f"module: {module.rpartition('.')[2]}, format: {Path(shared).stem}"


def main() -> None:
    """Write all pipelines."""
    numbers, own = params.load(ROOT / "params.yaml"), ROOT / "dvc.yaml"
    for pipeline in (own, ROOT / "datasets" / "dvc.yaml"):
        pipeline.write_text(rewritten(pipeline.read_text(encoding="utf-8"), numbers), encoding="utf-8")
    for name in numbers["profiles"].keys() - {"default"}:
        place = ROOT / "profiles" / name / "dvc.yaml"
        place.parent.mkdir(exist_ok=True)
        place.write_text(derived(own.read_text(encoding="utf-8"), numbers, name), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except PCBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
