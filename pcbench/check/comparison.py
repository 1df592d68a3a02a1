"""Two runs against one another: what was otherwise around them, and for each result whether, and where, they part.

Deterministic results are compared bit by bit; accuracies of runs that part, and timings, by intervals.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from pcbench import params
from pcbench.check import reproduction
from pcbench.check.runs import Run
from pcbench.measure.fingerprint import locate
from pcbench.params import REFERENCE, STAGES
from pcbench.provenance import environments
from pcbench.report.metrics import MACHINE
from pcbench.report.results import Source, found, read_source

IDENTICAL, COMPATIBLE, DIFFERS = "identical", "compatible", "differs"
NOT_COMPARABLE, NOT_JUDGED = "not comparable", "not judged"
LEVEL = 0.95
# Ratios to backpropagation scatter by a few per cent from run to run; what exceeds this is another engine.
TIMING_MARGIN = 1.25
# What of a provenance is not environment, but says what the result is.
_OWN = ("schema", "result_sha256", "parameters", "parameters_sha256", "data_sha256", "elsewhere")


@dataclass(frozen=True)
class Finding:
    """What was found of one result: its name, ``stage/task``, one of the five verdicts, and the reasons, a line each."""

    result: str
    verdict: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Two runs compared.

    Attributes:
        environment: ``{field: (first's, second's)}`` where they differ; a value for each of several environments.
        findings: one `Finding` for each result of either run.
    """

    environment: dict[str, tuple[str, str]]
    findings: list[Finding] = field(default_factory=list)

    @property
    def code(self) -> int:
        """The exit code: 0, all are identical or compatible; 1, one differs; 2, one, or all, cannot be compared."""
        verdicts = {finding.verdict for finding in self.findings}
        if DIFFERS in verdicts:
            return 1
        return 0 if verdicts & {IDENTICAL, COMPATIBLE} and NOT_COMPARABLE not in verdicts else 2


def compare_runs(first: Run, second: Run) -> Comparison:
    """Compare every result of two `pcbench.check.runs.Run`.

    Args:
        first, second: the runs.

    Raises:
        ResultError: a result is unreadable or of another schema.
    """
    paths = [found(run.folder) for run in (first, second)]
    known = [path or _of_lock(run) for path, run in zip(paths, (first, second), strict=True)]
    keys = sorted({*known[0], *known[1]}, key=lambda key: (STAGES.index(key[0]), key[1]))
    findings: list[Finding] = []
    sources: tuple[list[Source], list[Source]] = ([], [])
    for stage, name in keys:
        where = [path.get((stage, name)) for path in paths]
        if None in where:
            lacking = (first, second)[where.index(None)]
            findings.append(_by_hash(f"{stage}/{name}", lacking, first, second))
            continue
        pair = [read_source(stage, name, path[stage, name]) for path in paths]
        for side, source in zip(sources, pair, strict=True):
            side.append(source)
        findings.append(compare_sources(*pair))
    return Comparison(environment(*sources), findings)


def environment(first: Iterable[Source], second: Iterable[Source]) -> dict[str, tuple[str, str]]:
    """Return what two lists of results were not measured on alike: ``{field: (first's, second's)}``, as texts."""
    values = [_environments(side) for side in (first, second)]
    fields = [*values[0], *(name for name in values[1] if name not in values[0])]

    def text(side, name):
        return ", ".join(sorted(side.get(name, {"not recorded"})))

    texts = {name: (text(values[0], name), text(values[1], name)) for name in fields}
    return {name: pair for name, pair in texts.items() if pair[0] != pair[1]}


def compare_sources(first: Source, second: Source) -> Finding:
    """Compare two `pcbench.report.results.Source` of the same stage and name; return the `Finding`."""
    result = f"{first.stage}/{first.task}"
    reasons = _incomparable(first.provenance, second.provenance)
    if reasons:
        return Finding(result, NOT_COMPARABLE, reasons)
    if first.stage in ("cost", "scaling"):
        return Finding(result, *_timings(first, second))
    records = [_records(source) for source in (first, second)]
    common = [key for key in records[0] if key in records[1]]
    if first.stage == "train" and not common:
        reasons = _accuracies(records[0], records[1], paired=False)
        return Finding(result, _statistical(reasons), (*reasons, "no seed in common: only accuracies are compared"))
    alone = [_named(key) for key in (*records[0], *records[1]) if key not in common]
    partings = [parting for key in common if (parting := _parting(key, records[0][key], records[1][key]))]
    if partings:
        partings.sort(key=lambda parting: parting[0])
        reasons = (f"{len(partings)} of {len(common)} part; first: {partings[0][1]}",)
        if first.stage == "train":
            reasons += _accuracies(records[0], records[1], paired=True)
        return Finding(result, DIFFERS, reasons)
    if alone or not common:
        return Finding(result, NOT_COMPARABLE, (f"only in one of them: {'; '.join(alone)}",))
    heads = [
        [{key: value for key, value in file.items() if key != "results"} for file in s.files] for s in (first, second)
    ]
    if heads[0] != heads[1]:
        return Finding(result, DIFFERS, ("equal figures under another head",))
    return Finding(result, IDENTICAL)


def _of_lock(run):
    """The results of a run of which there is no more than a lock: a revision, nothing of which is in DVC's cache."""
    names = (name.partition("@") for name in (run.lock or {}).get("stages", {}))
    return {(stage, item) for stage, _, item in names if stage in STAGES}


def _by_hash(result, lacking, first, second):
    """Of a result that one side lacks: the verdict of two dvc.lock files, if there are two."""
    if lacking.lock is None:
        return Finding(result, NOT_COMPARABLE, (f"{lacking.name} lacks it",))
    if not result.startswith(tuple(prefix.replace("@", "/") for prefix in reproduction.DETERMINISTIC)):
        return Finding(result, NOT_JUDGED, (f"{lacking.name}: timings are not kept in DVC's cache",))
    locks = [run.lock or {} for run in (first, second)]
    verdict, reason = reproduction.compare_locks(*locks).get(
        result.replace("/", "@"), (NOT_COMPARABLE, "not in dvc.lock")
    )
    return Finding(result, verdict, (f"{reason}, by dvc.lock alone: {lacking.name}'s is not in DVC's cache",))


def _environments(sources):
    values = {}
    for source in sources:
        record = {} if source.provenance is None else source.provenance
        for where in environments(record):
            for name, value in {**record, **where}.items():
                if name not in _OWN:
                    inner = (
                        {f"{name}.{key}": each for key, each in value.items()}
                        if isinstance(value, dict)
                        else {name: value}
                    )
                    for key, each in inner.items():
                        values.setdefault(key, set()).add(str(each))
    return values


def _incomparable(first, second):
    if first is None or second is None:
        return ()
    # Which seeds there are is looked at result by result.
    other = [key for key in params.differing(first["parameters"], second["parameters"]) if key != "seeds"]
    reasons = [f"other parameters: {', '.join(other)}"] if other else []
    if first.get("data_sha256") != second.get("data_sha256"):
        reasons.append("other data")
    return tuple(reasons)


def _records(source):
    """The records by what they are of: ``(seed, rule, dtype, size, setting)``, with None for what a stage does not have."""
    return {
        (r.get("seed"), r["rule"], r.get("dtype"), r.get("size"), _setting(r.get("options"))): r for r in source.records
    }


def _setting(options):
    return ", ".join(f"{name} {value}" for name, value in options.items()) if options else None


def _named(key):
    seed, rule, dtype, size, setting = key
    words = (None if seed is None else f"seed {seed}", f"rule {rule}", setting, dtype)
    words += (None if size is None else f"size {size}",)
    return ", ".join(filter(None, words))


def _parting(key, first, second):
    """None if two records are equal; else ``(update, text)``: where they part first, or after which figure."""
    other = params.differing(first, second)
    if not other:
        return None
    prints = [record.get("fingerprints") or record["metrics"].get("fingerprints") for record in (first, second)]
    if None in prints:
        single = {"equal", "scale"} & first["metrics"].keys()  # a certificate, or a scale, is of one update
        lacking = "" if single else " (no fingerprints were kept, so the update is unknown)"
        return np.inf, f"{_named(key)}: {other[0]}{lacking}"
    if prints[0]["layout"] != prints[1]["layout"]:
        return 0, f"{_named(key)}: a model with other tensors"
    updates = [each["updates"] for each in prints]
    for update, (a, b) in enumerate(zip(*updates, strict=False), 1):
        if a != b:
            return update, f"{_named(key)}: update {update}: {_place(update, a, b, prints)}"
    return np.inf, f"{_named(key)}: the same bits after {min(map(len, updates))} updates, but {other[0]}"


def _place(update, first, second, prints):
    """Name the element and bit if one element differs, else the tensors, where they were noted next."""
    layout = prints[0]["layout"]
    element = locate(first, second, layout)
    if element:
        return str(element)
    tensors = [each["tensors"] for each in prints]
    noted = [int(at) for at in tensors[0] if int(at) >= update and at in tensors[1]]
    if not noted:
        return "several elements"
    at = str(min(noted))
    names = [name for name, *_ in layout if tensors[0][at].get(name) != tensors[1][at].get(name)]
    sizes = {name: [[name, *size]] for name, *size in layout}
    singles = (locate(tensors[0][at][name], tensors[1][at][name], sizes[name]) for name in names)
    told = [str(single or name) for single, name in zip(singles, names, strict=True)]
    when = "" if int(at) == update else f"; after update {at}"
    return f"several elements{when}, in {len(told)} of {len(layout)} tensors: {'; '.join(told[:4])}{' ...' * (len(told) > 4)}"


def _accuracies(first, second, paired):
    """One line a rule: the mean difference of test accuracies, second less first, with its interval."""
    lines = []
    for rule in dict.fromkeys(key[1] for key in first):
        values = [
            {key[0]: 100 * record["metrics"]["test_accuracy"] for key, record in side.items() if key[1] == rule}
            for side in (first, second)
        ]
        seeds = [seed for seed in values[0] if seed in values[1]]
        a, b = ([side[seed] for seed in seeds] if paired else list(side.values()) for side in values)
        if not a or not b:
            continue
        low, high = _interval(a, b, paired)
        within = low is None or low <= 0 <= high
        spread = "one seed, no interval" if low is None else f"95 % interval {low:+.2f} to {high:+.2f}"
        lines.append(
            f"accuracy of {rule}: {np.mean(b) - np.mean(a):+.2f} points ({spread}, {'paired' if paired else 'Welch'}): "
            f"{COMPATIBLE if within else DIFFERS}"
        )
    return tuple(lines)


def _statistical(lines):
    if not lines or any("no interval" in line for line in lines):
        return NOT_COMPARABLE
    return DIFFERS if any(line.endswith(DIFFERS) for line in lines) else COMPATIBLE


def _interval(first, second, paired):
    """The interval of the mean of ``second`` less that of ``first``; ``(None, None)`` where one value gives none."""
    if min(len(first), len(second)) < 2:
        return None, None
    difference = float(np.mean(second) - np.mean(first))
    spread = np.subtract(second, first) if paired else [*(first - np.mean(first)), *(second - np.mean(second))]
    if np.ptp(spread) == 0:  # without any scatter SciPy divides by zero
        return difference, difference
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of values that hardly scatter
        test = stats.ttest_rel(second, first) if paired else stats.ttest_ind(second, first, equal_var=False)
    found = test.confidence_interval(LEVEL)
    return float(found.low), float(found.high)


def _timings(first, second):
    """The verdict on two results of cost or scaling, and a line a rule: second's ratio to BP over first's."""
    lines, judged = [], []
    records = [_records(source) for source in (first, second)]
    samples = [
        {key: record["metrics"]["seconds"]["samples"] for key, record in side.items() if "refused" not in record}
        for side in records
    ]
    for key in samples[0]:
        reference = (None, REFERENCE, *key[2:])
        if key == reference or key not in samples[1]:
            continue
        logs = [np.log(np.divide(side[key], side[reference])) for side in samples]
        low, high = _interval(*logs, paired=False)
        ratio = np.exp(np.median(logs[1]) - np.median(logs[0]))
        if low is None:
            low = high = float(np.log(ratio))
        judged.append(low <= np.log(TIMING_MARGIN) and high >= -np.log(TIMING_MARGIN))
        size = "" if key[3] is None else f" at {key[3]}"
        lines.append(f"time of {key[1]}{size}: {ratio:.3g} × ({np.exp(low):.3g} to {np.exp(high):.3g})")
    if {*samples[0]} != {*samples[1]} or not judged:
        return NOT_COMPARABLE, (*lines, "not the same rules")
    machines = [{} if source.provenance is None else source.provenance for source in (first, second)]
    other = [name for name in MACHINE if machines[0].get(name) != machines[1].get(name)]
    if other or {} in machines:
        return NOT_JUDGED, (*lines, f"timings of another machine ({', '.join(other) or 'not recorded'})")
    return (COMPATIBLE if all(judged) else DIFFERS), tuple(lines)
