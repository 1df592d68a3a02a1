"""The tables of the report: tasks down, rules across for people; one record a row, with its source, for machines."""

from collections.abc import Sequence

from pcbench.params import REFERENCE, Result, Settings
from pcbench.report import cost_tables, published_table, writing
from pcbench.report.certificates import certificates
from pcbench.report.claims import CLAIMS
from pcbench.report.conditions import conditions, free_energy
from pcbench.report.conformance import conformance
from pcbench.report.results import Source, TaskResults
from pcbench.report.table import Group, Table, exported, labels_of, labels_shared, range_of, rows_of, section
from pcbench.report.writing import BIT_IDENTICAL, MISSING


def build(
    tasks: Sequence[TaskResults],
    metrics: Result,
    rules: Settings,
    zoo: Sequence[Source] = (),
    scaling: Sequence[Source] = (),
    libraries: Sequence[Source] = (),
) -> tuple[Table, ...]:
    """Return the tables in the order of the page: exactness, cost, accuracy, zoo (where there is one), certificates,
    conformance, scaling (where there is any), conditions, free energy, published values, claims, and the headline, one row a
    task, which no page shows: the README does.

    Args:
        tasks: list of `pcbench.report.results.TaskResults`.
        metrics: their summary, with the verdicts on the claims.
        rules: the section ``rules`` of params.yaml.
        zoo, scaling: what `pcbench.report.results.read_zoo` and `read_scaling` returned.
        libraries: the sources of what `pcbench.report.peers.read` returned.
    """
    measured = [_exactness(tasks, metrics, rules), cost_tables.cost(tasks, metrics, rules), _accuracy(tasks, metrics)]
    measured += [*([_zoo(zoo)] if zoo else []), certificates(tasks, metrics, zoo)]
    measured += [conformance(tasks, metrics, libraries)]
    measured += [cost_tables.scaling(scaling, metrics)] if scaling else []
    measured += [conditions(tasks, metrics), free_energy(tasks, metrics), published_table.build(tasks, metrics, zoo)]
    return *measured, _claims(tasks, metrics), _headline(tasks, metrics)


def _exactness(tasks, metrics, rules):
    found = section(metrics, "exactness")
    labels = labels_of(task.exactness for task in tasks)
    dtypes = sorted({dtype for rules in found.values() for cells in rules.values() for dtype in cells})
    groups = [
        Group(dtype, rows_of(labels, found, lambda cells, dtype=dtype: _distance(cells.get(dtype)))) for dtype in dtypes
    ]
    records = [
        {
            "task": task.name,
            "family": task.family,
            "rule": rule,
            "label": labels[rule],
            "dtype": dtype,
            "seeds": cell["seeds"],
            "l2": exported(cell["l2"]),
            "relative_l2": exported(cell["relative_l2"]),
            "max_ulp": exported(cell["max_ulp"]),
            "bitwise_equal": cell["bitwise_equal"],
            "source": task.exactness.path.as_posix(),
        }
        for task in tasks
        for rule, cells in found[task.name].items()
        for dtype, cell in cells.items()
    ]
    seeds = {record["seeds"] for record in records}
    caption = (
        "Relative L2 distance of a rule's gradient from BP's in one weight update on the same weights, batch and dropout "
        f"masks: ‖g − g_BP‖ / ‖g_BP‖, all parameters together. The worst of {range_of(seeds)} seeds. "
        f"{_controls(labels, rules)}Exact: the same bits on the same processor and versions."
    )
    title = "Divergence from backpropagation after one weight update"
    return Table("exactness", title, caption, ("dtype", "task", *labels.values()), tuple(groups), tuple(records))


def _controls(labels, rules):
    """What the caption says of the rules that must not be exact, from their entries in params.yaml."""
    broken = [labels[rule] for rule in labels if rules[rule]["engine"] == "zil-state" and len(rules[rule]) > 2]
    found = f"Z-IL with one of its conditions broken, in state form: {'; '.join(broken)}. " if broken else ""
    steps = {rule: rules[rule]["gamma"] for rule in labels if "gamma" in rules[rule] and rules[rule]["engine"] == "il"}
    sizes = " or ".join(str(gamma) for gamma in dict.fromkeys(steps.values()))
    return found + (f"{'; '.join(labels[rule] for rule in steps)}: γ = {sizes}. " if steps else "")


def _distance(cell):
    if cell is None:
        return MISSING
    return BIT_IDENTICAL if cell["bitwise_equal"] else writing.scientific(cell["relative_l2"])


def _accuracy(tasks, metrics):
    found, weights = section(metrics, "accuracy"), section(metrics, "weights")
    labels = labels_of(task.train for task in tasks)
    groups = (
        Group(
            "test accuracy, %",
            tuple(
                (*row, writing.percent(cells[REFERENCE]["majority"]))
                for row, cells in zip(rows_of(labels, found, _interval), found.values(), strict=True)
            ),
        ),
        Group("updates with BP's weights", rows_of(labels, weights, _equal_updates, MISSING)),
        Group("final L2 distance from BP's weights", rows_of(labels, weights, _final_distance, MISSING)),
    )
    records = [
        {
            "task": task.name,
            "family": task.family,
            "rule": rule,
            "label": labels[rule],
            "seeds": cell["seeds"],
            "accuracy_mean": cell["mean"],
            "accuracy_low": cell["low"],
            "accuracy_high": cell["high"],
            "majority": cell["majority"],
            **_weights_record(weights[task.name].get(rule)),
            "source": task.train.path.as_posix(),
        }
        for task in tasks
        for rule, cell in found[task.name].items()
    ]
    caption = (
        f"Mean over {range_of({record['seeds'] for record in records})} seeds, with the bootstrapped 95 % interval of the "
        "mean in brackets (none where the seeds agree, or there is one). Statistical: seeds are the sample. The "
        "distances are exact: all rules start from the same weights and see the same batches; the worst seed is shown."
    )
    title = "Accuracy after training, and the distance of the weights from BP's"
    heads = ("quantity", "task", *labels.values(), "majority class")
    return Table("accuracy", title, caption, heads, groups, tuple(records))


def _interval(cell):
    mean = writing.percent(cell["mean"])
    if cell["low"] is None:
        return mean
    return f"{mean} [{writing.percent(cell['low'])}–{writing.percent(cell['high'])}]"


def _equal_updates(cell):
    return f"{writing.count(cell['updates_equal'])} of {writing.count(cell['updates'])}"


def _final_distance(cell):
    return BIT_IDENTICAL if cell["bitwise_equal"] else writing.scientific(cell["final_l2"])


def _weights_record(cell):
    keys = ("updates", "updates_equal", "max_ulp", "bitwise_equal", "final_l2")
    return {f"weights_{key}": "" if cell is None else exported(cell[key]) for key in keys}


def _zoo(sources):
    rows, records = [], []
    for source in sources:
        record = next(source.records)
        metrics = record["metrics"]
        same = BIT_IDENTICAL if metrics["bitwise_equal"] else writing.scientific(metrics["relative_l2"])
        if not metrics["bitwise_equal"] and not metrics["bp_repeats_itself"]:
            same += " (BP does not repeat itself)"
        buffers = BIT_IDENTICAL if metrics["buffers_equal"] else "differ"
        size = f"{metrics['side']} × {metrics['side']}"
        rows.append(
            (source.task, size, writing.count(metrics["elements"]), writing.count(metrics["parameters"]), same, buffers)
        )
        figures = {key: exported(value) for key, value in metrics.items() if key != "proof"}
        records.append({"model": source.task, "seed": record["seed"], **figures, "source": source.path.as_posix()})
    equal = sum(record["bitwise_equal"] and record["buffers_equal"] for record in records)
    caption = (
        f"One weight update of Z-IL against BP on torchvision's own classifiers, unmodified: {equal} of {len(records)} "
        "bit-identical. Float32, random weights, training mode (BatchNorm, dropout, stochastic depth, in-place activations, "
        "auxiliary outputs), one vertex for each layer, the smallest square image that the model takes. Buffers are "
        "BatchNorm's statistics afterwards. Exact."
    )
    heads = ("", "model", "input", "parameters", "tensors", "gradients", "buffers")
    return Table("zoo", "Torchvision's classifiers", caption, heads, (Group("", tuple(rows)),), tuple(records))


def _claims(tasks, metrics):
    verdicts = metrics["claims"]
    rows = tuple(
        (claim.sentence, claim.attribution, verdicts[claim.id]["verdict"], verdicts[claim.id]["evidence"])
        for claim in CLAIMS
    )
    profile = tasks[0].exactness.path.parent.parent
    records = tuple(
        {
            "id": claim.id,
            "sentence": claim.sentence,
            "quote": claim.quote,
            "claimed_in": claim.source,
            "citation": claim.citation,
            **verdicts[claim.id],
            "source": " ".join((profile / stage).as_posix() for stage in claim.stages),
        }
        for claim in CLAIMS
    )
    caption = (
        "Each verdict is computed from these results; nobody typed it. In quotation marks: the wording as it was read, "
        "in the abstract, the text, or in another's report, as it says. Sentences about brains and hardware are left out."
    )
    heads = ("", "claim", "claimed in", "verdict", "evidence")
    return Table("claims", "Claims under test", caption, heads, (Group("", rows),), records)


def _headline(tasks, metrics):
    trained, timed = labels_shared(task.train for task in tasks), labels_of(task.cost for task in tasks)
    timed = {rule: timed[rule] for rule in ("zil", "zil-captured", "il-20") if rule in timed}
    heads = ("task", "equal gradients", "equal weights", *(f"{label}, %" for label in trained.values()))
    heads += tuple(f"{label}, time" for label in timed.values())
    rows = []
    for name, task in metrics["tasks"].items():
        gradients, weights = task["exactness"].get("zil", {}).values(), task["weights"].get("zil")
        compared, equal = (sum(cell[key] for cell in gradients) for key in ("seeds", "seeds_equal"))
        accuracy = [task["accuracy"].get(rule) for rule in trained]
        costs = {rule: cell for rule, cell in task["cost"].items() if "refused" not in cell}
        rows.append(
            (
                name,
                f"{equal} of {compared}",
                MISSING if weights is None else _equal_updates(weights),
                *(MISSING if cell is None else writing.percent(cell["mean"]) for cell in accuracy),
                *(f"{writing.ratio(costs[rule]['ratio']['median'])} ×" if rule in costs else MISSING for rule in timed),
            )
        )
    caption = (
        "Z-IL against BP: first gradients (float32 and float64) and weights after each update of training that are "
        "bit-identical, of those compared; test accuracy in %; time per weight update as a multiple of BP's, captured: "
        "replayed as a program."
    )
    records = tuple(dict(zip(heads, row, strict=True)) for row in rows)
    return Table("headline", "Headline", caption, ("", *heads), (Group("", tuple(rows)),), records)
