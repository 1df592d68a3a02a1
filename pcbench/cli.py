"""The command line: parses, calls, prints."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pcbench import data, params, report, stages
from pcbench.errors import PCBenchError
from pcbench.files import read_json
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
    console.print(f"wrote {stages.train(_experiment(task, profile, params_file, datasets))}")


@app.command(name="report")
def report_command(
    profile: Profile = "default",
    results: Annotated[Path, typer.Option(help="the folder of results; default: results/PROFILE")] = None,
    out: Annotated[Path, typer.Option(help="where the report goes; default: see `report_folder`")] = None,
):
    """Turn results into tables, figures and the page reports/index.html."""
    out = out or report_folder(profile)
    report.build(results or Path("results") / profile, out, profile)
    console.print(f"wrote {out / 'index.html'}")


def report_folder(profile):
    """The default profile's report is the one in the repository's front room; the others have a folder of their own."""
    return Path("reports") if profile == "default" else Path("reports") / profile


@app.command()
def check(
    profile: Profile = "default",
    metrics: Annotated[Path, typer.Option(help="the report's metrics.json; default: the profile's")] = None,
    expectations: Annotated[Path, typer.Option(help="what the metrics have to meet")] = Path("expectations.yaml"),
):
    """Compare the report's figures with what is expected of them; exit with 1 if any falls short."""
    raise NotImplementedError


def main():
    """Run the command line: errors that the user can mend are one message and exit code 2, never a traceback."""
    try:
        app(standalone_mode=False)
    except PCBenchError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error[/]: {error}", highlight=False)
        sys.exit(2)
