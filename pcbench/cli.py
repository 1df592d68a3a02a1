"""The command line: parses, calls, prints."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pcbench import brief, code, data, devices, executors, instructions, params, pipeline, printing, stages
from pcbench.cells import Experiment
from pcbench.check import gate, outcome, reproduction
from pcbench.errors import InvalidParameters, ResultError
from pcbench.factories import call_factory, load_factory
from pcbench.files import write_text
from pcbench.measure.verify import BROKEN, certificate
from pcbench.measure.verify import verify as run_verify
from pcbench.randomness import global_stream
from pcbench.terminal import progress, run, say, table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Is predictive coding really backprop, bit for bit, and what does it cost? "
    "Run `make repro` for everything; the commands below are its stages, one by one.",
)

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="a task's name, see `pcbench tasks`")]
Profile = Annotated[str, typer.Option(help="the profile in params.yaml: seeds, epochs, rounds")]
ParamsFile = Annotated[Path, typer.Option("--params", help="the file with every number of the experiment")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; params.yaml's unless told")]
Datasets = Annotated[Path, typer.Option(help="the folder that holds the data sets")]


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
    results, out = Path("results") / profile, _report_folder(profile)
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


def _report_folder(profile):
    """The default profile's report stands in the front room; the others have a folder of their own."""
    return Path("reports") if profile == "default" else Path("reports") / profile


@app.command()
def check(
    profile: Profile = "default",
    expectations: Annotated[Path, typer.Option(help="what the figures have to meet")] = Path("expectations.yaml"),
    params_file: ParamsFile = Path("params.yaml"),
    write: Annotated[list[Path] | None, typer.Option(help="a .json or (JUnit) .xml file for every finding")] = None,
    annotate: Annotated[bool, typer.Option("--annotate", help="print GitHub's annotations of what fell short")] = False,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="make these figures the stored run that later ones are held to")
    ] = False,
) -> None:
    """Hold the report's figures to what is expected of them, and to a stored run's: exit code 1, and what fell short, if not.

    Says too whether the deterministic results are the committed ones, bit for bit: the reproduction's verdict. With
    --update-baseline the stored run is replaced, if all that is expected beside it is met, and what changes is printed.
    """
    from pcbench.check import baseline  # brings scipy, which the other commands need not wait for

    parameters = params.load(params_file)
    promised = params.profile(parameters, profile)
    held = gate.load_expectations(expectations, parameters["tasks"])
    metrics = gate.load_metrics(_report_folder(profile) / "metrics.json", parameters, profile)
    findings = gate.check(metrics, held, promised)
    if update_baseline:
        _update_baseline(metrics, findings, parameters, profile)
        return
    if "baseline" in held:
        findings += baseline.hold(metrics, baseline.load(profile), held["baseline"], parameters, profile)
    for path in write or ():
        outcome.write(path, findings)
    for line in outcome.annotations(findings) if annotate else ():
        say(line)
    printing.shortfalls(findings)
    counts = {
        verdict: sum(f.verdict == verdict for f in findings) for verdict in (gate.PASS, gate.FAIL, gate.NOT_COMPARABLE)
    }
    say(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    for line in baseline.told(findings):
        say(line)
    for line in reproduction.verdict(pipeline.folder(profile) / "dvc.lock", promised):
        say(line)
    if counts[gate.FAIL]:
        raise typer.Exit(1)
    if not counts[gate.PASS]:
        raise ResultError(f"no figure of profile {profile!r} was held to anything: that is no pass; see {expectations}")


def _update_baseline(metrics, findings, parameters, profile):
    from pcbench.check import baseline  # as in `check`

    if printing.shortfalls(findings):
        say(
            f"{baseline.place(profile)} stays as it is: a run that falls short of what is expected is no measure for others"
        )
        raise typer.Exit(1)
    baseline.check_current(metrics, parameters, profile, Path("results") / profile)
    for line in baseline.write(metrics, baseline.load(profile), parameters, profile):
        say(line)


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


@app.command()
def compare(
    first: Annotated[
        str, typer.Argument(metavar="A", help="a folder such as results/default, an archive, a git revision")
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="the other run")],
    profile: Annotated[str, typer.Option(help="of a git revision: which profile's results")] = "default",
) -> None:
    """Compare two runs: environments first, then whether, and at which update, parameter and bit, their results part.

    Exits with 0 if all are identical or (timings, accuracies) compatible, with 1 if one differs, with 2 if one cannot be
    compared.
    """
    from pcbench.check import runs  # with comparison's SciPy: the other commands need not wait for them
    from pcbench.check.comparison import compare_runs

    home = pipeline.folder(profile)
    with runs.opened(first, profile, home) as a, runs.opened(second, profile, home) as b:
        _compared(compare_runs(a, b), first, second)


@app.command()
def reproduce(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="such as results/default/train/digits-mlp")],
    datasets: Datasets = Path("datasets"),
) -> None:
    """Make one result again from its provenance, and say whether it is the same: exit codes as `pcbench compare`.

    It is compared with the result that lies here, which `make repro` has made: results themselves are not in git.
    """
    from pcbench.check.repeat import repeat

    _compared(repeat(result, datasets), str(result), "again")


@app.command()
def pack(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="the archive, a zip file")],
    profile: Profile = "default",
) -> None:
    """Write results, provenance, parameters and locks into one archive, which `pcbench compare` reads anywhere."""
    from pcbench.check import runs

    runs.pack(out, profile, pipeline.folder(profile))
    say(f"wrote {out}")


def _compared(found, first, second):
    """Print a comparison, and exit with its code."""
    printing.comparison(found, first, second)
    raise typer.Exit(found.code)


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
    rule: Annotated[
        str,
        typer.Option(
            help="the learning rule: zil, zil-state, il, or another file of pcbench/rules, such as fixed-prediction"
        ),
    ] = "zil",
    steps: Annotated[int | None, typer.Option(help="inference steps T, for rules with inference")] = None,
    gamma: Annotated[float | None, typer.Option(help="integration step γ, for rules with inference")] = None,
    ablations: Annotated[bool, typer.Option(help="also break each of Z-IL's conditions: many times slower")] = True,
    prove: Annotated[
        bool, typer.Option("--prove", help="also compare the updates as programs, for every input")
    ] = False,
    keep_fused: Annotated[
        bool, typer.Option("--keep-fused", help="leave nn.LSTM, nn.GRU and nn.RNN whole: one vertex, not local in time")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:1; where the factory has put the network unless told")
    ] = None,
) -> None:
    """Check your own network: is a weight update of the rule bit-identical to backpropagation's?

    Prints a table with a row for each parameter, and exits with 0 if every bit is the same, else with 1. With --prove the
    programs must be the same too; where one cannot be captured, the exit code is 2.
    """
    options: dict[str, Any] = {key: value for key, value in (("steps", steps), ("gamma", gamma)) if value is not None}
    options["convert"] = not keep_fused
    to = None if device is None else devices.named(device)
    devices.deterministic()
    sys.path.insert(0, "")  # as `python -m` does: the user's own module lies where the command is called
    made = call_factory(load_factory(factory))
    model, inputs, targets, loss_fn = made if to is None else devices.moved(made, to)
    with progress(f"verify {factory}", 1 + len(BROKEN) * ablations) as advance, global_stream(0, "dropout"):
        found = run_verify(model, inputs, targets, loss_fn, rule, ablations, advance, **options)
    printing.verification(found)
    same = found.total.bitwise_equal and found.buffers.bitwise_equal
    say(f"{rule} {'is' if same else 'is NOT'} bit-identical to backpropagation on {type(model).__name__}")
    if prove:
        proven = certificate(model, inputs, targets, loss_fn, rule, **options)
        say(str(proven))
        same = same and proven.equal
    raise typer.Exit(0 if same else 1)


def main() -> None:
    """Run the command line; see `pcbench.terminal.run` for its exit codes."""
    run(app)
