"""What other people's libraries are of backpropagation, from the results that `make peers` leaves: they may be absent."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pcbench import params
from pcbench.params import Parameters, Result, Settings
from pcbench.report.results import Source, read_source
from pcbench.report.verdicts import verdict

FOLDER = Path("benchmarks/peers/results")
# The dtype in which distances are measured, see `pcbench.measure.conformance`.
DISTANCES = "float64"
# What a library's cell has beside the figures of a verdict.
BESIDE = ("label", "like", "summed", "title", "version", "ours")


@dataclass(frozen=True)
class Peers:
    """The libraries' results.

    Attributes:
        sources: those that the report shows, by task in the profile's order, then by library.
        outdated: the paths of those that were made with other parameters than params.yaml has, or do not say with which.
    """

    sources: tuple[Source, ...] = ()
    outdated: tuple[Path, ...] = ()


def decided_by(parameters: Parameters, task: str, rules: Sequence[str]) -> Parameters:
    """Every parameter that a library's result depends on, as its provenance records them.

    Args:
        parameters: see `pcbench.params.load`.
        task: the task's name.
        rules: our rules that the library's stand for.

    Raises:
        InvalidParameters: there is no such task.
    """
    settings = parameters["conformance"]
    return {
        "task": params.task(parameters, task),
        "seeds": settings["seeds"],
        "rules": {rule: parameters["rules"].get(rule) for rule in rules},
        "grids": {rule: settings["grids"].get(rule, {}) for rule in rules},
    }


def read(folder: str | Path, parameters: Parameters, profile: str) -> Peers:
    """Read ``<folder>/<library>/<task>.json`` of the tasks that a profile lists.

    Raises:
        InvalidParameters: there is no such profile.
        ResultError: a result is unreadable or of another form.
    """
    sources, outdated = [], []
    for task in params.profile(parameters, profile)["tasks"]:
        for path in sorted(Path(folder).glob(f"[!.]*/{task}.json")):
            source = read_source("peers", task, path)
            recorded = {} if source.provenance is None else source.provenance.get("parameters", {})
            if recorded == decided_by(parameters, task, list(recorded.get("rules", ()))):
                # Each library's has a place of its own under *Provenance*.
                sources.append(replace(source, stage=f"peers-{source.files[0]['library']['name']}"))
            else:
                outdated.append(path)
    return Peers(tuple(sources), tuple(outdated))


def summary(sources: Sequence[Source]) -> Result:
    """Return ``{task: {rule: cell}}``: `pcbench.report.verdicts.verdict`'s figures, and what the rule is of ours.

    Of ours: ``{"like", "summed", "title", "version", "ours": {"settings", "largest"}}``: our rule that it stands for, on
    which loss the library infers, and the largest relative distance from that rule's gradient, on the same loss, over the
    settings that both have; ``ours`` is None where there are none, the distance where it is no finite number.
    """
    found: dict[str, Settings] = {}
    for source in sources:
        library = source.files[0]["library"]
        for rule, records in source.by_rule.items():
            distances = [record["ours"] for record in records if record["dtype"] == DISTANCES]
            compared = [each["relative_l2"] for each in distances if each is not None]
            found.setdefault(source.task, {})[rule] = {
                **verdict(records),
                **{key: records[0][key] for key in ("label", "like", "summed")},
                **{key: library[key] for key in ("title", "version")},
                "ours": {"settings": len(compared), "largest": None if None in compared else max(compared)}
                if compared
                else None,
            }
    return found


def heading(cell: Result) -> str:
    """What a library's rule is called beside ours: library, version, its own name, and the loss, where that is another."""
    loss = ", summed loss" if cell["summed"] else ""
    return f"{cell['title']} {cell['version']}: {cell['label']}{loss}"
