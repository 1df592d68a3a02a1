"""The command line: parses, calls, prints."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from pcbench import data, params, stages
from pcbench.errors import PCBenchError
from pcbench.files import read_json, write_text
from pcbench.measure.verify import ABLATIONS, call_factory, load_factory
from pcbench.measure.verify import verify as run_verify
from pcbench.provenance import global_stream
from pcbench.report import gate, reproduction
from pcbench.tasks import TASKS

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Is predictive coding really backprop, bit for bit, and what does it cost? "
    "Run `make repro` for everything; the commands below are its stages, one by one.",
)
console = Console()

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="a task's name, see `pcbench tasks`")]
Profile = Annotated[str, typer.Option(help="the profile in params.yaml: seeds, epochs, rounds")]
ParamsFile = Annotated[Path, typer.Option("--params", help="the file with every number of the experiment")]
Datasets = Annotated[Path, typer.Option(help="the folder that holds the data sets")]


@app.command()
def tasks():
    """List what can be trained."""
    table = Table("task", "network", "data set")
    for task in TASKS.values():
        table.add_row(task.name, task.family, task.data)
    console.print(table)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="DATASET", help=f"one of: {', '.join(data.names())}")],
    datasets: Datasets = Path("datasets"),
):
    """Bring a data set into datasets/, verified byte by byte."""
    folder = data.fetch(name, datasets)
    loaded = data.load(name, datasets)
    sizes = f"{len(loaded.train.targets)} training and {len(loaded.test.targets)} test examples"
    console.print(f"{name}: {sizes} in {folder}, SHA-256 {loaded.sha256[:16]}… verified")


def _experiment(task, profile, params_file, datasets):
    parameters = params.load(params_file)
    params.task(parameters, task)
    params.profile(parameters, profile)
    return stages.Experiment(task, profile, parameters, datasets)


@app.command()
def exactness(
    task: TaskName,
    profile: Profile = "default",
    params_file: ParamsFile = Path("params.yaml"),
    datasets: Datasets = Path("datasets"),
):
    """Compare one weight update of every rule with backpropagation's (Table 1)."""
    console.print(f"wrote {stages.exactness(_experiment(task, profile, params_file, datasets))}")


@app.command()
def cost(
    task: TaskName,
    profile: Profile = "default",
    params_file: ParamsFile = Path("params.yaml"),
    datasets: Datasets = Path("datasets"),
):
    """Time every rule's weight update beside backpropagation's (Table 2)."""
    console.print(f"wrote {stages.cost(_experiment(task, profile, params_file, datasets))}")


@app.command()
def train(
    task: TaskName,
    profile: Profile = "default",
    params_file: ParamsFile = Path("params.yaml"),
    datasets: Datasets = Path("datasets"),
):
    """Train every rule from the same weights on the same batches (Table 3). Interrupted, it resumes when run again."""
    try:
        console.print(f"wrote {stages.train(_experiment(task, profile, params_file, datasets))}")
    except KeyboardInterrupt:
        console.print("interrupted; finished epochs are kept: run the same command again to go on")
        raise typer.Exit(130) from None


@app.command()
def zoo(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="a classifier of torchvision, such as resnet18")],
    profile: Profile = "default",
    params_file: ParamsFile = Path("params.yaml"),
):
    """Compare one weight update of Z-IL with backpropagation's on one of torchvision's classifiers (Table 4)."""
    parameters = params.load(params_file)
    params.profile(parameters, profile)
    console.print(f"wrote {stages.zoo(model, profile, parameters)}")


@app.command()
def graph(
    task: TaskName,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="an SVG file to draw it into")] = None,
    levelled: Annotated[bool, typer.Option(help="pad edges that skip levels with identity vertices")] = True,
    params_file: ParamsFile = Path("params.yaml"),
    datasets: Datasets = Path("datasets"),
):
    """Show a task's network as a graph of local functions, level by level; with -o, draw it."""
    from pcbench.report import drawing  # brings matplotlib, which the other commands need not wait for

    found = stages.graph(task, params.load(params_file), datasets)
    found = found.levelled() if levelled else found
    if output is None:
        console.print(str(found), soft_wrap=True, highlight=False, markup=False)
    else:
        write_text(output, drawing.draw(found, task))
        console.print(f"wrote {output}")


@app.command(name="report")
def report_command(profile: Profile = "default"):
    """Turn results into tables, figures and one page, reports/index.html."""
    from pcbench.report.build import build  # brings matplotlib and scipy, which the other commands need not wait for

    out = _report_folder(profile)
    build(Path("results") / profile, out, profile)
    console.print(f"wrote {out / 'index.html'}")


def _report_folder(profile):
    """The default profile's report stands in the front room; the others have a folder of their own."""
    return Path("reports") if profile == "default" else Path("reports") / profile


@app.command()
def check(
    profile: Profile = "default",
    expectations: Annotated[Path, typer.Option(help="what the figures have to meet")] = Path("expectations.yaml"),
    params_file: ParamsFile = Path("params.yaml"),
):
    """Hold the report's figures to what is expected of them: exit code 1, and what fell short, if they do not.

    Says too whether the deterministic results are the committed ones, bit for bit: the reproduction's verdict.
    """
    parameters = params.load(params_file)
    promised = params.profile(parameters, profile)
    metrics = read_json(_report_folder(profile) / "metrics.json")
    findings = gate.check(metrics, gate.load_expectations(expectations, parameters["tasks"]), promised)
    table = Table("verdict", Column("what", overflow="fold"), "measured", "expected")
    for finding in findings:
        if finding.verdict == gate.FAIL:
            table.add_row(finding.verdict, finding.what, str(finding.measured), finding.expected)
    if table.rows:
        console.print(table)
    counts = {
        verdict: sum(f.verdict == verdict for f in findings) for verdict in (gate.PASS, gate.FAIL, gate.NOT_COMPARABLE)
    }
    console.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    pipeline = Path("." if profile == "default" else f"profiles/{profile}") / "dvc.lock"
    for line in reproduction.verdict(pipeline):
        console.print(line, soft_wrap=True)
    if counts[gate.FAIL]:
        raise typer.Exit(1)


@app.command()
def verify(
    factory: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FACTORY",
            help="package.module:factory or path/to/file.py:factory; the function returns "
            "(model, inputs, targets, loss_fn)",
        ),
    ],
    rule: Annotated[str, typer.Option(help="the learning rule: zil, zil-state, il")] = "zil",
    steps: Annotated[int | None, typer.Option(help="inference steps T, for il and zil-state")] = None,
    gamma: Annotated[float | None, typer.Option(help="integration step γ, for il and zil-state")] = None,
    ablations: Annotated[bool, typer.Option(help="also break each of Z-IL's conditions: many times slower")] = True,
):
    """Check your own network: is a weight update of the rule bit-identical to backpropagation's?

    Prints a table with a row for each parameter, and exits with 0 if every bit is the same, else with 1.
    """
    options = {key: value for key, value in (("steps", steps), ("gamma", gamma)) if value is not None}
    sys.path.insert(0, "")  # as `python -m` does: the user's own module lies where the command is called
    model, inputs, targets, loss_fn = call_factory(load_factory(factory))
    with stages.progress(f"verify {factory}", 1 + len(ABLATIONS) * ablations) as advance, global_stream(0, "dropout"):
        found = run_verify(model, inputs, targets, loss_fn, rule, ablations, advance, **options)
    table = Table("parameter", "shape", "L2", "max ULP", "bitwise")
    for name, divergence in found.parameters.items():
        shape = "×".join(map(str, found.shapes[name])) or "scalar"
        if divergence is None:
            table.add_row(name, shape, "no gradient", "", "")
        else:
            table.add_row(name, shape, *_cells(divergence))
    table.add_section()
    table.add_row("all parameters", "", *_cells(found.total))
    table.add_row("all buffers", "", *_cells(found.buffers))
    table.add_section()
    for name, divergence in found.ablations.items():
        table.add_row(f"Z-IL, but {name}", "", *_cells(divergence))
    console.print(table)
    same = found.total.bitwise_equal and found.buffers.bitwise_equal
    console.print(f"{rule} {'is' if same else 'is NOT'} bit-identical to backpropagation on {type(model).__name__}")
    raise typer.Exit(0 if same else 1)


def _cells(divergence):
    ulps = "not finite" if divergence.max_ulp is None else f"{divergence.max_ulp}"
    return f"{divergence.l2:.3g}", ulps, "yes" if divergence.bitwise_equal else "no"


def main():
    """Run the command line: errors that the user can mend are one message and exit code 2, never a traceback."""
    try:
        app()
    except PCBenchError as error:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"error: {error}")
        sys.exit(2)
