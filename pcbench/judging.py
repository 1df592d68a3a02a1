"""The commands on what there is already, a report, a run or a network: they make no result; a verdict is the exit code."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pcbench import devices, params, pipeline, printing
from pcbench.check import gate, outcome, reproduction
from pcbench.errors import ResultError
from pcbench.factories import call_factory, load_factory
from pcbench.measure.verify import BROKEN, certificate
from pcbench.measure.verify import verify as run_verify
from pcbench.options import Datasets, ParamsFile, Profile, report_folder
from pcbench.randomness import global_stream
from pcbench.terminal import progress, say


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
    metrics = gate.load_metrics(report_folder(profile) / "metrics.json", parameters, profile)
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


def reproduce(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="such as results/default/train/digits-mlp")],
    datasets: Datasets = Path("datasets"),
) -> None:
    """Make one result again from its provenance, and say whether it is the same: exit codes as `pcbench compare`.

    It is compared with the result that lies here, which `make repro` has made: results themselves are not in git.
    """
    from pcbench.check.repeat import repeat

    _compared(repeat(result, datasets), str(result), "again")


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
