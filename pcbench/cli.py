"""The command line: parses, calls, prints."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pcbench import brief, code, data, executors, instructions, judging, manifests, params, pipeline, stages
from pcbench.cells import Experiment
from pcbench.errors import InvalidParameters
from pcbench.files import write_text
from pcbench.options import Datasets, Device, ParamsFile, Profile, TaskName, report_folder
from pcbench.terminal import run, say, table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Is predictive coding really backprop, bit for bit, and what does it cost? "
    "Run `make repro` for everything; the commands below are its stages, one by one.",
)


@app.callback()
def start(context: typer.Context) -> None:
    """What holds for every command: no code but the checkout's own, except on a user's own network, wherever it lies."""
    instructions.asked()
    if context.invoked_subcommand != "verify":
        code.check_beside()


@app.command()
def tasks(params_file: ParamsFile = Path("params.yaml")) -> None:
    """List what can be trained."""
    listed = params.load(params_file)["tasks"]
    table(("task", "network", "data set"), [[(name, task["network"], task["data"]) for name, task in listed.items()]])


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="DATASET", help=f"one of: {', '.join(data.names())}")],
    datasets: Datasets = Path("datasets"),
) -> None:
    """Bring a data set into datasets/, verified byte by byte."""
    folder = data.fetch(name, datasets)
    loaded = data.load(name, datasets)
    sizes = f"{len(loaded.train.targets)} training and {len(loaded.test.targets)} test examples"
    say(f"{name}: {sizes} in {folder}, SHA-256 {loaded.sha256[:16]}… verified")


@app.command(name="code")
def code_command(params_file: ParamsFile = Path("params.yaml")) -> None:
    """Write the manifests: the files that each stage depends on, which DVC looks at to know what to run again."""
    manifests.write(params.load(params_file))
    say(f"wrote {len(manifests.STAGES)} manifests into {manifests.FOLDER}")


def _experiment(task, profile, params_file, datasets, device):
    parameters = params.on(params.load(params_file), device)
    params.task(parameters, task)
    params.profile(parameters, profile)
    return Experiment(task, profile, parameters, datasets)


def _wrote(stage, name, path):
    say(brief.found(stage, name, path))


@app.command()
def exactness(
    task: TaskName,
    profile: Profile = "default",
    params_file: ParamsFile = Path("params.yaml"),
    datasets: Datasets = Path("datasets"),
    device: Device = None,
) -> None:
    """Compare one weight update of every rule with backpropagation's (Table 1)."""
    _wrote("exactness", task, stages.exactness(_experiment(task, profile, params_file, datasets, device)))


@app.command()
def cost(
    task: TaskName,
    profile: Profile = "default",
    params_file: ParamsFile = Path("params.yaml"),
    datasets: Datasets = Path("datasets"),
    device: Device = None,
) -> None:
    """Time every rule's weight update beside backpropagation's (Table 2)."""
    _wrote("cost", task, stages.cost(_experiment(task, profile, params_file, datasets, device)))


@app.command()
def train(
    task: TaskName,
    profile: Profile = "default",
    params_file: ParamsFile = Path("params.yaml"),
    datasets: Datasets = Path("datasets"),
    device: Device = None,
) -> None:
    """Train every rule from the same weights on the same batches (Table 3). Interrupted, it resumes when run again."""
    try:
        _wrote("train", task, stages.train(_experiment(task, profile, params_file, datasets, device)))
    except (KeyboardInterrupt, SystemExit):
        say("interrupted; finished epochs are kept: run the same command again to go on")
        raise


@app.command()
def proof(
    task: TaskName,
    profile: Profile = "default",
    params_file: ParamsFile = Path("params.yaml"),
    datasets: Datasets = Path("datasets"),
    device: Device = None,
) -> None:
    """Compare every rule's weight update with backpropagation's as programs: the certificates (Table 5)."""
    _wrote("proof", task, stages.proof(_experiment(task, profile, params_file, datasets, device)))


@app.command()
def conformance(
    task: TaskName,
    profile: Profile = "default",
    params_file: ParamsFile = Path("params.yaml"),
    datasets: Datasets = Path("datasets"),
    device: Device = None,
) -> None:
    """Compare every published rule, at each of its settings, with backpropagation (Table 6)."""
    _wrote("conformance", task, stages.conformance(_experiment(task, profile, params_file, datasets, device)))


@app.command()
def conditions(
    task: TaskName,
    profile: Profile = "default",
    params_file: ParamsFile = Path("params.yaml"),
    datasets: Datasets = Path("datasets"),
    device: Device = None,
) -> None:
    """Break Z-IL's conditions on a grid, and compare its update with the free energy's gradients (Tables 8 and 9)."""
    _wrote("conditions", task, stages.conditions(_experiment(task, profile, params_file, datasets, device)))


@app.command()
def zoo(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="a classifier of torchvision, such as resnet18")],
    profile: Profile = "default",
    params_file: ParamsFile = Path("params.yaml"),
    device: Device = None,
) -> None:
    """Compare one weight update of Z-IL with backpropagation's on one of torchvision's classifiers (Table 4)."""
    parameters = params.on(params.load(params_file), device)
    params.profile(parameters, profile)
    _wrote("zoo", model, stages.zoo(Experiment(model, profile, parameters, Path("datasets"))))


@app.command()
def scaling(
    axis: Annotated[str, typer.Argument(metavar="AXIS", help="depth, length, width or batch")],
    profile: Profile = "default",
    params_file: ParamsFile = Path("params.yaml"),
    device: Device = None,
) -> None:
    """Time weight updates of synthetic networks that grow along one axis (Table 7)."""
    parameters = params.on(params.load(params_file), device)
    params.profile(parameters, profile)
    _wrote("scaling", axis, stages.scaling(Experiment(axis, profile, parameters, Path("datasets"))))


@app.command()
def graph(
    task: TaskName,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="an SVG file to draw it into")] = None,
    levelled: Annotated[bool, typer.Option(help="pad edges that skip levels with identity vertices")] = True,
    params_file: ParamsFile = Path("params.yaml"),
    datasets: Datasets = Path("datasets"),
) -> None:
    """Show a task's network as a graph of local functions, level by level; with -o, draw it."""
    from pcbench.report import drawing  # brings matplotlib, which the other commands need not wait for

    found = stages.graph(task, params.load(params_file), datasets)
    found = found.levelled() if levelled else found
    if output is None:
        say(str(found))
    else:
        write_text(output, drawing.draw(found, task))
        say(f"wrote {output}")


@app.command(name="report")
def report_command(
    profile: Profile = "default",
    table_name: Annotated[
        str | None,
        typer.Option("--table", metavar="TABLE", help="print one table, by number or name, and write nothing"),
    ] = None,
    form: Annotated[str | None, typer.Option("--format", help="of that table: md (unless told), latex or csv")] = None,
    params_file: ParamsFile = Path("params.yaml"),
) -> None:
    """Turn results into tables, figures and one page, reports/index.html; or print one table of them."""
    # They bring matplotlib and scipy, which the other commands need not wait for.
    from pcbench.report import peers
    from pcbench.report.build import build, one_table
    from pcbench.report.results import stale

    parameters = params.load(params_file)
    results, out = Path("results") / profile, report_folder(profile)
    libraries = peers.read(peers.FOLDER, parameters, profile)
    if table_name is not None:
        say(one_table(results, profile, parameters, table_name, form or "md", libraries.sources).removesuffix("\n"))
        return
    if form is not None:
        raise InvalidParameters(f"--format {form} is of one table; add --table and its number or name")
    build(results, out, profile, parameters, libraries.sources)
    for path in stale(results, parameters, profile):
        say(f"left out: {path} (params.yaml does not list it)")
    for path in libraries.outdated:
        say(f"left out: {path} (made with other parameters than params.yaml has; `make peers` makes it anew)")
    say(f"wrote {out / 'index.html'}")


@app.command(name="run")
def run_command(
    profile: Profile = "default",
    executor: Annotated[str, typer.Option(help=f"who computes: {', '.join(executors.NAMES)}")] = "local",
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="an option of the executor, see the README")
    ] = None,
) -> None:
    """Bring every result and the report up to date: what `make repro` runs, one run at a time."""
    options = dict(_pair(each) for each in option or ())
    try:
        pipeline.run(profile, params.load(), executor, options)
    except (KeyboardInterrupt, SystemExit):
        print("interrupted; what is finished is kept: run the same command again to go on", file=sys.stderr)
        raise


def _pair(option):
    name, sign, value = option.partition("=")
    if not sign:
        raise InvalidParameters(f"--option {option!r} is no NAME=VALUE")
    return name, value


for judge in (judging.check, judging.compare, judging.reproduce, judging.pack, judging.verify):
    app.command()(judge)


def main() -> None:
    """Run the command line; see `pcbench.terminal.run` for its exit codes."""
    run(app)
