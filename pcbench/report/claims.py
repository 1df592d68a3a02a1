"""The claims under test: each a sentence that somebody wrote, and a test of it on the measured figures.

A verdict is computed, never typed. Where a sentence is refuted as worded, the evidence says what holds instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pcbench.params import Result
from pcbench.report.writing import count, ratio, scientific, span, ulps

REPRODUCED = "reproduced"
REFUTED = "refuted as worded"
NOT_TESTED = "not tested"

# Float64 rounding leaves about 1e-13 in the state form: what exceeds this is a property of the rule.
ROUNDING = 1e-10
# "Significantly more costly": by half at least, in three of four rounds.
SIGNIFICANT = 1.5

ABSTRACT = "Salvatori et al. 2021, abstract"
SUCCESSOR = "Salvatori et al., AAAI 2022"
CARD = "this project's brief"
OWN = "PCBench"


@dataclass(frozen=True)
class Claim:
    """A sentence under test.

    Attributes:
        id: its identifier.
        sentence: the claim, as worded.
        source: who says so.
        stages: the stages whose results decide it: ``exactness``, ``cost``, ``train``, ``proof``, ``zoo``.
        test: maps the metrics (`pcbench.report.metrics.summarise`) to ``(verdict, evidence)``.
    """

    id: str
    sentence: str
    source: str
    stages: tuple[str, ...]
    test: Callable[[Result], tuple[str, str]]


def judge(metrics: Result) -> dict[str, dict[str, str]]:
    """Return ``{claim's id: {"verdict", "evidence"}}`` for every claim."""
    verdicts = {claim.id: claim.test(metrics) for claim in CLAIMS}
    return {name: {"verdict": verdict, "evidence": evidence} for name, (verdict, evidence) in verdicts.items()}


def _exact(family, name, metrics):
    """Gradients of one update in both dtypes, and weights at every update: the same bits as BP's on every task."""
    tasks = {task: entry for task, entry in metrics["tasks"].items() if entry["family"] == family}
    if not tasks:
        return NOT_TESTED, f"This profile has no {name}."
    unlike, missing = [], []
    for task, entry in tasks.items():
        for dtype in ("float32", "float64"):
            found = entry["exactness"].get("zil", {}).get(dtype)
            if found is None:
                missing.append(f"{task}: gradients in {dtype}")
            elif not found["bitwise_equal"]:
                unlike.append(
                    f"{task}: gradients in {dtype} up to {ulps(found['max_ulp'])} ULP, "
                    f"relative L2 {scientific(found['relative_l2'])}"
                )
        weights = entry["weights"].get("zil")
        if weights is None:
            missing.append(f"{task}: weights in training")
        elif weights["max_ulp"] != 0 or not weights["bitwise_equal"]:
            equal = f"{count(weights['updates_equal'])} of {count(weights['updates'])}"
            unlike.append(f"{task}: weights up to {ulps(weights['max_ulp'])} ULP, 0 ULP after {equal} updates")
    if unlike:
        return REFUTED, f"Z-IL differs from BP: {'; '.join(unlike)}."
    if missing:
        return NOT_TESTED, f"No results: {'; '.join(missing)}."
    seeds = sum(
        entry["exactness"]["zil"][dtype]["seeds"] for entry in tasks.values() for dtype in ("float32", "float64")
    )
    updates = count(sum(entry["weights"]["zil"]["updates"] for entry in tasks.values()))
    return REPRODUCED, (
        f"Bit-identical on {_listed(tasks)}: {seeds} of {seeds} first gradients (float32 and float64), "
        f"and the weights after {updates} of {updates} updates of training."
    )


def _exact_on_all(metrics):
    """Every task and every model of the zoo: the same bits as BP's."""
    families = {entry["family"] for entry in metrics["tasks"].values()}
    verdicts = [_exact(family, family, metrics) for family in sorted(families)]
    zoo = metrics["zoo"]
    unlike = [name for name, found in zoo.items() if not (found["bitwise_equal"] and found["buffers_equal"])]
    if unlike:
        verdicts.append((REFUTED, f"Z-IL differs from BP on {_listed(unlike)}."))
    for kind in (REFUTED, NOT_TESTED):
        evidence = [text for verdict, text in verdicts if verdict == kind]
        if evidence:
            return kind, " ".join(evidence)
    if not zoo:
        return NOT_TESTED, "This profile has no zoo of larger graphs."
    branching = sum(entry["identities"] > 0 for entry in metrics["tasks"].values())
    return REPRODUCED, (
        f"Bit-identical on all {_plural(metrics['tasks'], 'task')}, {branching} of them with edges that skip levels, and on "
        f"{len(zoo)} of {len(zoo)} classifiers of torchvision, unmodified. No finite number of graphs proves “any”."
    )


def _same_program(metrics):
    """Certificates on every task and every model; a certificate that no control can fail would be none."""
    found = {name: entry["proof"].get("zil") for name, entry in metrics["tasks"].items()}
    tasks, found = len(found), {**found, **{name: entry.get("proof") for name, entry in metrics["zoo"].items()}}
    controls = [
        (f"{label} on {name}", cell["equal"])
        for name, entry in metrics["tasks"].items()
        for label, cell in entry["proof"].items()
        if label != "zil" and "refused" not in cell
    ]
    told = sum(len(entry["proof"]) - ("zil" in entry["proof"]) for entry in metrics["tasks"].values())
    unlike = [name for name, cell in found.items() if cell and not cell["equal"] and "refused" not in cell]
    if unlike:
        return REFUTED, f"Another program than BP's on {_listed(unlike)}."
    missing = [name for name, cell in found.items() if not cell]
    if missing:
        return NOT_TESTED, f"No certificates: {_listed(missing)}."
    refused = [name for name, cell in found.items() if "refused" in cell]
    if refused:
        return NOT_TESTED, f"No program can be captured on {_listed(refused)}."
    blind = [name for name, equal in controls if equal]
    if blind or not controls:
        return NOT_TESTED, f"No control fails{f', but is BP’s program too: {_listed(blind)}' if blind else ''}."
    sizes = [cell["operations"] for cell in found.values()]
    return REPRODUCED, (
        f"The same operations on the same operands as BP's, {span(sizes, count)} of them, on {tasks} of {tasks} tasks and "
        f"{len(found) - tasks} of {len(found) - tasks} classifiers of torchvision. Of {told} controls {len(controls)} have a "
        "program, and each is another one. It rests on kernels that repeat themselves."
    )


def _levelling_necessary(metrics):
    """`_necessary`, on the tasks whose graphs have edges that skip levels: elsewhere there is nothing to level."""
    tasks = {name: entry for name, entry in metrics["tasks"].items() if entry["identities"] > 0}
    if not tasks:
        return NOT_TESTED, "This profile has no task whose graph has edges that skip levels."
    conditions = ("identity vertices", "zil-state"), (None, "not-levelled")
    verdict, found = _necessary(*conditions, {**metrics, "tasks": tasks})
    return verdict, f"{found} Edges skip levels on {_listed(tasks)}."


def _necessary(condition, instead, metrics):
    """Is the condition necessary for zero divergence: is zero reached with it, and never without it?

    Args:
        condition, instead: ``(words, rule)`` with the condition and without it, both in state form, so that nothing
            but the condition differs between the two; without words, the rule's label.
        metrics: see `Claim`.
    """
    (with_it, rule), (without, other) = ((words or _label(metrics, name), name) for words, name in (condition, instead))
    distances, missing = _distances(metrics, (rule, other))
    if missing:
        return NOT_TESTED, missing
    kept, broken = distances[rule], distances[other]
    found = (
        f"Relative L2 distance from BP's gradient (state form, float64, {_plural(kept, 'task')}): "
        f"{span(kept.values(), scientific)} with {with_it}, {span(broken.values(), scientific)} with {without}."
    )
    if all(_zero(value) for value in kept.values()) and not any(_zero(value) for value in broken.values()):
        return REPRODUCED, found
    if all(_zero(value) for value in broken.values()) and not any(_zero(value) for value in kept.values()):
        return REFUTED, f"The opposite holds. {found}"
    reached = [task for task, value in broken.items() if _zero(value)]
    if reached:
        return REFUTED, f"Zero to rounding is reached with {without} on {_listed(reached)}. {found}"
    return REFUTED, f"Zero is reached neither way on every task. {found}"


def _il_costly(metrics):
    bounds, missing = _costs(metrics, ("il-20",))
    if missing:
        return NOT_TESTED, missing
    entries = bounds["il-20"]
    found = f"A weight update of {_label(metrics, 'il-20')} takes {_ratios(entries)} times BP's (median)."
    cheap = [task for task, entry in entries.items() if entry["ratio"]["q1"] <= SIGNIFICANT]
    if cheap:
        return REFUTED, f"{found} Not above {SIGNIFICANT} in three of four rounds on {_listed(cheap)}."
    return REPRODUCED, found


def _zil_efficient(metrics):
    entries, missing = _costs(metrics, ("zil", "il-L", "il-20"))
    if missing:
        return NOT_TESTED, missing
    zil = entries["zil"]
    found = (
        f"A weight update of Z-IL takes {_ratios(zil)} times BP's (median), "
        f"{' and '.join(f'{_label(metrics, il)} {_ratios(entries[il])}' for il in ('il-L', 'il-20'))}."
    )
    # Quartiles that do not overlap: cheaper by more than the rounds scatter.
    dear = [
        task
        for task in zil
        if zil[task]["ratio"]["q3"] >= min(entries[il][task]["ratio"]["q1"] for il in ("il-L", "il-20"))
    ]
    if dear:
        return REFUTED, f"{found} Not clearly cheaper than IL on {_listed(dear)}."
    return REPRODUCED, found


def _il_approximates(metrics):
    distances, missing = _distances(metrics, ("il-20", "il-100"))
    if missing:
        return NOT_TESTED, missing
    few, many = distances["il-20"], distances["il-100"]
    found = (
        f"Relative L2 distance from BP's gradient, {_label(metrics, 'il-20')} against {_label(metrics, 'il-100')} (float64): "
        f"{'; '.join(f'{task} {scientific(few[task])} against {scientific(many[task])}' for task in few)}."
    )
    exact = [task for task, value in many.items() if _zero(value)]
    if exact:
        return REFUTED, f"Zero to rounding, no approximation, on {_listed(exact)}. {found}"
    farther = [task for task in few if _finite(many[task]) >= _finite(few[task])]
    if farther:
        return REFUTED, f"Not closer with more steps on {_listed(farther)}. {found}"
    return REPRODUCED, found


def _label(metrics, rule):
    return metrics["labels"].get(rule, rule)


def _distances(metrics, rules):
    """Return ``({rule: {task: relative L2 in float64}}, None)``, or None and why it cannot be had."""
    cells = {
        rule: {task: entry["exactness"].get(rule, {}).get("float64") for task, entry in metrics["tasks"].items()}
        for rule in rules
    }
    missing = _absent(cells, "float64 gradients")
    if missing:
        return None, missing
    return {rule: {task: cell["relative_l2"] for task, cell in row.items()} for rule, row in cells.items()}, None


def _costs(metrics, rules):
    """Return ``({rule: {task: costs}}, None)``, or None and why they cannot be had."""
    cells = {rule: {task: entry["cost"].get(rule) for task, entry in metrics["tasks"].items()} for rule in rules}
    missing = _absent(cells, "times")
    return (None, missing) if missing else (cells, None)


def _absent(cells, what):
    lacking = [f"{rule} on {task}" for rule, row in cells.items() for task, cell in row.items() if cell is None]
    return f"No {what}: {', '.join(lacking)}." if lacking else None


def _zero(relative_l2):
    return relative_l2 is not None and relative_l2 <= ROUNDING


def _finite(relative_l2):
    return float("inf") if relative_l2 is None else relative_l2


def _plural(things, noun):
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _ratios(by_task):
    return span([entry["ratio"]["median"] for entry in by_task.values()], ratio)


def _listed(tasks):
    return ", ".join(tasks)


CLAIMS = (
    Claim(
        "exact-mlp",
        "Z-IL is strictly equivalent to BP on multilayer perceptrons.",
        "Song et al. 2020",
        ("exactness", "train"),
        partial(_exact, "mlp", "multilayer perceptron"),
    ),
    Claim(
        "exact-cnn",
        "Z-IL is strictly equivalent to BP on convolutional networks.",
        ABSTRACT,
        ("exactness", "train"),
        partial(_exact, "cnn", "convolutional network"),
    ),
    Claim(
        "exact-rnn",
        "Z-IL is strictly equivalent to BP on many-to-one recurrent networks.",
        ABSTRACT,
        ("exactness", "train"),
        partial(_exact, "rnn", "recurrent network"),
    ),
    Claim(
        "exact-graph",
        "Z-IL with levelling is equivalent to BP on any computational graph.",
        SUCCESSOR,
        ("exactness", "train", "zoo"),
        _exact_on_all,
    ),
    Claim(
        "same-program",
        "Z-IL computes the same program as BP: equal for every input of this shape.",
        OWN,
        ("proof", "zoo"),
        _same_program,
    ),
    Claim(
        "necessity-levelling",
        "Where edges skip levels, exactness needs identity vertices that delay them.",
        SUCCESSOR,
        ("exactness",),
        _levelling_necessary,
    ),
    Claim(
        "necessity-layer-dependent",
        "The layer-dependent update is necessary to achieve zero divergence with BP.",
        CARD,
        ("exactness",),
        partial(
            _necessary,
            ("the layer-dependent update", "zil-state"),
            ("every weight updated at t = T", "not-layer-dependent"),
        ),
    ),
    Claim(
        "necessity-epsilon",
        "ε = 0.6 (read as the scale σ of the initial error) is necessary to achieve zero divergence with BP: "
        "a critical hyperparameter.",
        CARD,
        ("exactness",),
        partial(_necessary, (None, "sigma-6e-1"), ("zero initial error", "zil-state")),
    ),
    Claim(
        "necessity-gamma",
        "γ = 0.5 is necessary to achieve zero divergence with BP.",
        CARD,
        ("exactness",),
        partial(_necessary, (None, "gamma-half"), ("γ = 1", "zil-state")),
    ),
    Claim(
        "il-approximates",
        "IL approximates BP: not exactly, and the better the more inference steps it takes.",
        ABSTRACT,
        ("exactness",),
        _il_approximates,
    ),
    Claim(
        "il-costly",
        "IL is significantly more costly than BP.",
        ABSTRACT,
        ("cost",),
        _il_costly,
    ),
    Claim(
        "zil-efficient",
        "Z-IL is an efficient alternative to IL.",
        ABSTRACT,
        ("cost",),
        _zil_efficient,
    ),
)
