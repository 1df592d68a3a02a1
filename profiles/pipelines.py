"""Write into the pipelines what follows from params.yaml and from the code: `make profiles`.

dvc.yaml is the default profile's pipeline, written by hand but for what is generated here: its tasks, with the modules that
they alone depend on, and under every stage its rules. profiles/*/dvc.yaml are the same for the other profiles. Of
datasets/dvc.yaml it is the data sets, of profiles/dvc.yaml the code that any stage depends on, see `pcbench.manifests`.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pcbench import code, manifests, params  # noqa: E402
from pcbench.errors import PCBenchError  # noqa: E402

SHIPPED = ("py", "j2", "css", "js", "yaml")
_STAGE = re.compile(r"^  (\w+):\n(?:    .*\n|\n)+", re.MULTILINE)
_RULES = re.compile(
    r"^( +)- (exactness|cost|train|proof|conformance|conditions|scaling)\n((?:\1- rules\..*\n)*)", re.MULTILINE
)
_MADE = re.compile(r"^( +)(\w+): # by `make profiles`\n((?:\1  .*\n)*)", re.MULTILINE)


def depended(parameters: params.Parameters) -> list[str]:
    """All code that any manifest lists, and what writes them, with a folder's name in place of all that it holds."""
    found = {file for stage in manifests.STAGES for file in manifests.files(stage, parameters)}
    found |= {*code.of_command("code"), "pcbench/code.py"}
    folded = sorted(found)
    # Another rule, whose file is put beside these, is no matter of theirs.
    for folder in sorted({str(Path(file).parent) for file in found} - {"pcbench", "pcbench/rules"}):
        inside = {path for kind in SHIPPED for path in (ROOT / folder).rglob(f"[!.]*.{kind}")}
        inside = {path.relative_to(ROOT).as_posix() for path in inside}
        if inside <= found:
            folded = [file for file in folded if file not in inside] + [folder]
    return sorted(folded)


def rewritten(text: str, parameters: params.Parameters, profile: str = "default") -> str:
    """The text of a dvc.yaml with the items, the rules and the code as they must be.

    Args:
        text: as it is; those of data sets and of code are other ones than the rest.
        parameters: the content of params.yaml.
        profile: whose tasks it is to have.
    """
    tasks = {name: _task(parameters["tasks"][name]) for name in parameters["profiles"][profile]["tasks"]}
    made = {
        "tasks": [f"{name}: {item}" for name, item in tasks.items()],
        "foreach": [f"{name}: {{{_of_data(name)}}}" for name in code.names("data set")],
        "deps": [f"- {path}" for path in depended(parameters)],
    }

    def listed(found):
        indent, key, old = found.groups()
        return found[0].removesuffix(old) + "".join(f"{indent}  {line}\n" for line in made[key])

    def rules(found):
        indent, section, old = found.groups()
        names = params.section(parameters, section)["rules"]
        return found[0].removesuffix(old) + "".join(f"{indent}- rules.{name}\n" for name in names)

    def stage(found):
        return _RULES.sub(rules, found[0]) if found[1] in params.STAGES else found[0]

    return _STAGE.sub(stage, _MADE.sub(listed, text))


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
    (shared,) = manifests.FORMATS & set(code.closure(module))
    return f"module: {module.rpartition('.')[2]}, format: {Path(shared).stem}"


def main() -> None:
    """Write all pipelines."""
    numbers, own = params.load(ROOT / "params.yaml"), ROOT / "dvc.yaml"
    for pipeline in (own, ROOT / "datasets" / "dvc.yaml", ROOT / "profiles" / "dvc.yaml"):
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
