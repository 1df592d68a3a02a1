"""A library's gradients of a task's first weight update, held to backpropagation's and to our own rule's."""

import inspect
from collections.abc import Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import Gradients, Peer, PeerRule
from benchmarks.peers.problem import Problem
from pcbench.errors import PCBenchError
from pcbench.files import finite_or_none, write_json
from pcbench.grids import combinations
from pcbench.measure.conformance import DISTANCES, EQUALITY, claims, figures, levels
from pcbench.measure.divergence import compare
from pcbench.measure.first import FirstUpdate
from pcbench.measure.matched import Matched, make_rule
from pcbench.params import Parameters, Result, Settings
from pcbench.provenance import digest, environment, write_sidecar
from pcbench.report.peers import decided_by
from pcbench.rules import Backprop

# Two libraries add the same numbers in another order: in float64, whose rounding is 1e-16, that leaves some 1e-15. A weight
# that lies elsewhere, or another reduction, leaves 0.1 and more.
ROUNDING = 1e-12
HERE = Path(__file__).parent


class NotCarriedOver(PCBenchError):
    """The library's own loss or backpropagation differs from PyTorch's: what it was given is not our network."""


def result(matched: Matched, peer: Peer, parameters: Parameters) -> Result:
    """Measure all rules of a library, at the settings of ours that they stand for.

    Args:
        matched: the task.
        peer: the library.
        parameters: see `pcbench.params.load`.

    Returns:
        A JSON value: the form of a result of the stage ``conformance``, with the library's name and version.

    Raises:
        NotCarriedOver: see there; nothing is measured then.
        InvalidParameters: the network is not one that the libraries are given.
        NonFiniteLoss: the loss is NaN or infinite.
    """
    settings = parameters["conformance"]
    depth, records = levels(matched), []
    for seed in settings["seeds"]:
        firsts = {dtype: FirstUpdate.of(matched, dtype, seed) for dtype in (DISTANCES, EQUALITY)}
        expected = {dtype: first.gradients(Backprop) for dtype, first in firsts.items()}
        problems = {dtype: Problem.of(first) for dtype, first in firsts.items()}
        check_carried_over(peer, problems[DISTANCES], expected[DISTANCES])
        for name, rule in peer.rules.items():
            for options in combinations(settings["grids"].get(rule.like, {}), depth):
                for dtype in (DISTANCES, EQUALITY):
                    actual = rule.gradients(problems[dtype], options)
                    metrics = figures(actual, expected[dtype])
                    ours = _of_ours(firsts[dtype], parameters["rules"][rule.like], rule, options, actual)
                    head = {"rule": name, "label": rule.label, "like": rule.like, "summed": rule.summed}
                    head |= {"options": options, "dtype": dtype, "seed": seed}
                    records.append({**head, "metrics": metrics, "ours": ours})
                    if not claims(metrics):
                        break
    return {
        "schema": 1,
        "stage": "peers",
        "task": matched.task.name,
        "family": matched.task.family,
        "levels": depth,
        "library": {"name": peer.name, "title": peer.title, "version": peer.version},
        "results": records,
    }


def check_carried_over(peer: Peer, problem: Problem, expected: Mapping[str, Any]) -> None:
    """Hold the library's own loss and backpropagation to PyTorch's, on what it was given.

    Raises:
        NotCarriedOver: one of them is not the same to rounding.
    """
    loss, found = peer.backprop(problem)
    own = problem.loss().item()
    if not abs(loss - own) <= ROUNDING * abs(own):
        raise NotCarriedOver(f"{peer.title}'s loss is {loss!r}, PyTorch's {own!r}; mend the adapter {peer.name!r}")
    distance = compare(found, expected).relative_l2
    if not distance <= ROUNDING:
        raise NotCarriedOver(
            f"{peer.title}'s backpropagation is {distance:.2g} from PyTorch's, relative; mend the adapter {peer.name!r}"
        )


def _of_ours(
    first: FirstUpdate, entry: Settings, rule: PeerRule, options: Settings, actual: Gradients
) -> Result | None:
    """At which options our rule is the same, and how far its gradient is on the same loss."""
    own = rule.as_ours(options)
    if own is None:
        return None
    size = len(first.targets) if rule.summed else 1
    found = first.gradients(
        partial(make_rule, {**entry, **own}, seed=first.seed),
        lambda outputs, targets: size * first.loss(outputs, targets),
    )
    divided = {name: None if gradient is None else gradient / size for name, gradient in found.items()}
    return {"options": own, "relative_l2": finite_or_none(compare(actual, divided).relative_l2)}


def write(path: Path, value: Result, matched: Matched, peer: Peer, parameters: Parameters) -> None:
    """Write a result and, beside it, what it was made on and from.

    Raises:
        PCBenchError: it cannot be written.
    """
    write_json(path, value)
    where = environment()
    versions = where["versions"] | {package: metadata.version(package) for package in peer.packages}
    recorded = decided_by(parameters, matched.task.name, sorted({rule.like for rule in peer.rules.values()}))
    own = Path(inspect.getfile(peer.backprop))
    files = (*(HERE / f"{name}.py" for name in ("measure", "peer", "problem", "under_jax")), own)
    adapter = digest({file.name: file.read_text(encoding="utf-8") for file in files})
    write_sidecar(path, recorded, matched.data.sha256, adapter, [("", {**where, "versions": versions})])
