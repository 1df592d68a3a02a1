"""The tables of the report: tasks down, rules across for people; one record a row, with its source, for machines."""

import csv
import io
import unicodedata
from dataclasses import dataclass

from tabulate import tabulate

from pcbench.report import numbers
from pcbench.report.claims import CLAIMS
from pcbench.report.numbers import BIT_IDENTICAL, MISSING
from pcbench.report.results import REFERENCE, ordered


@dataclass(frozen=True)
class Group:
    """Rows of one quantity: ``heading`` names it, each row is a label and one cell a column."""

    heading: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Table:
    """One table, written as Markdown, LaTeX and CSV, and shown on the page.

    Attributes:
        name: the stem of its files.
        title, caption: what it shows; how many seeds, and of which kind the figures are.
        heads: the heads of the group's heading, of the rows' labels, and of the cells.
        groups: the rows for people, rounded.
        records: the rows for machines: dicts with the same keys, unrounded; ``source`` is the result's path.
    """

    name: str
    title: str
    caption: str
    heads: tuple[str, ...]
    groups: tuple[Group, ...]
    records: tuple[dict, ...]


def build(tasks, metrics, zoo=()):
    """Return the tables in the order of the page: exactness, cost, accuracy, zoo (where there is one), claims,
    and the headline, one row a task, which no page shows: the README does.

    Args:
        tasks: list of `pcbench.report.results.Task`.
        metrics: their summary, with the verdicts on the claims.
        zoo: what `pcbench.report.results.read_zoo` returned.
    """
    measured = [_exactness(tasks, metrics), _cost(tasks, metrics), _accuracy(tasks, metrics)]
    return *measured, *([_zoo(zoo)] if zoo else []), _claims(tasks, metrics), _headline(tasks, metrics)


def markdown(table):
    """Write ``table`` as a GitHub-flavoured Markdown table."""
    heads, rows = _flat(table)
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(rows, heads, "pipe", disable_numparse=True, colalign=_alignment(table, heads)) + "\n"


def latex(table):
    """Write ``table`` as a LaTeX ``tabular`` with booktabs' rules, in ASCII: it compiles under every engine.

    A letter of a label loses its accents; a sign that is neither ASCII nor known here becomes a question mark.
    """
    heads, rows = _flat(table)
    text = tabulate(rows, heads, "latex_booktabs", disable_numparse=True, colalign=_alignment(table, heads))
    plain = unicodedata.normalize("NFKD", text.translate(_LATEX))
    return "".join(sign for sign in plain if not unicodedata.combining(sign)).encode("ascii", "replace").decode() + "\n"


def as_csv(table):
    """Write ``table``'s records as CSV, unrounded, each with the path of the result that it came from."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table.records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.records)
    return text.getvalue()


_HEADLINE = (
    "",
    "task",
    "equal gradients",
    "equal weights",
    "BP, %",
    "Z-IL, %",
    "IL, %",
    "Z-IL, time",
    "IL, time",
)

_LATEX = str.maketrans(
    {
        "σ": r"$\sigma$",
        "γ": r"$\gamma$",
        "ε": r"$\varepsilon$",
        "–": "--",
        "—": "---",
        "×": r"$\times$",
        "−": "$-$",
        "’": "'",
        "\u202f": r"\,",
    }
)


def _flat(table):
    """Heads and rows with the group's heading in a column of its own, once a group; without it where none has one."""
    titled = any(group.heading for group in table.groups)
    rows = [
        [*([group.heading if i == 0 else ""] if titled else []), *row]
        for group in table.groups
        for i, row in enumerate(group.rows)
    ]
    return list(table.heads if titled else table.heads[1:]), rows


def _alignment(table, heads):
    words = len(heads) if table.name in ("claims", "zoo", "headline") else len(heads) - len(table.heads[2:])
    return ["left"] * words + ["right"] * (len(heads) - words)


def _exactness(tasks, metrics):
    found = _section(metrics, "exactness")
    labels = _labels(tasks, "exactness")
    dtypes = sorted({dtype for rules in found.values() for cells in rules.values() for dtype in cells})
    groups = [
        Group(dtype, _rows(labels, found, lambda cells, dtype=dtype: _distance(cells.get(dtype)))) for dtype in dtypes
    ]
    records = [
        {
            "task": task.name,
            "family": task.family,
            "rule": rule,
            "label": labels[rule],
            "dtype": dtype,
            "seeds": cell["seeds"],
            "l2": _exported(cell["l2"]),
            "relative_l2": _exported(cell["relative_l2"]),
            "max_ulp": _exported(cell["max_ulp"]),
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
        f"masks: ‖g − g_BP‖ / ‖g_BP‖, all parameters together. The worst of {_range(seeds)} seeds. The columns after "
        "Z-IL's two break one of its conditions each, in state form; IL (γ = 0.1) is last. Exact: the same bits on the same "
        "processor and versions."
    )
    title = "Divergence from backpropagation after one weight update"
    return Table("exactness", title, caption, ("dtype", "task", *labels.values()), tuple(groups), tuple(records))


def _distance(cell):
    if cell is None:
        return MISSING
    return BIT_IDENTICAL if cell["bitwise_equal"] else numbers.scientific(cell["relative_l2"])


def _cost(tasks, metrics):
    found = _section(metrics, "cost")
    labels = _labels(tasks, "cost")
    groups = (
        Group("time, ratio to BP", _rows(labels, found, _time_ratio)),
        Group("time, ms", _rows(labels, found, lambda cell: numbers.milliseconds(cell["seconds_median"]))),
        Group("peak memory, ratio to BP", _rows(labels, found, lambda cell: numbers.ratio(cell["peak_ratio"]))),
        Group("peak memory, KiB", _rows(labels, found, lambda cell: numbers.kibibytes(cell["peak_bytes"]))),
    )
    records = [
        {
            "task": task.name,
            "family": task.family,
            "rule": rule,
            "label": labels[rule],
            **cell,
            "source": task.cost.path.as_posix(),
        }
        for task in tasks
        for rule, cell in found[task.name].items()
    ]
    rounds = {len(record["metrics"]["seconds"].get("samples", ())) for task in tasks for record in task.cost.records}
    threads = {task.cost.files[0].get("threads", 1) for task in tasks}
    caption = (
        "Gradient and optimizer step. All rules are timed in turn in one process; the ratio is the median over "
        f"{_range(rounds)} rounds of the round's ratio to BP, with its interquartile range in brackets. "
        f"Threads: {_range(threads)}. Peak memory counts the tensors allocated during the update. L is the number of "
        "levels of the network. Timings: they scatter, and differ from machine to machine; the processor's own "
        "instruction set is used, where all other tables hold to one."
    )
    title = "Time and memory per weight update"
    return Table("cost", title, caption, ("quantity", "task", *labels.values()), groups, tuple(records))


def _time_ratio(cell):
    if cell["ratio_q1"] == cell["ratio_q3"]:
        return numbers.ratio(cell["ratio_median"])
    low, high = numbers.ratio(cell["ratio_q1"]), numbers.ratio(cell["ratio_q3"])
    return f"{numbers.ratio(cell['ratio_median'])} [{low}–{high}]"


def _accuracy(tasks, metrics):
    found, weights = _section(metrics, "accuracy"), _section(metrics, "weights")
    labels = _labels(tasks, "train")
    groups = (
        Group(
            "test accuracy, %",
            tuple(
                (*row, numbers.percent(cells[REFERENCE]["majority"]))
                for row, cells in zip(_rows(labels, found, _interval), found.values(), strict=True)
            ),
        ),
        Group("updates with BP's weights", _rows(labels, weights, _equal_updates, MISSING)),
        Group("final L2 distance from BP's weights", _rows(labels, weights, _final_distance, MISSING)),
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
        f"Mean over {_range({record['seeds'] for record in records})} seeds, with the bootstrapped 95 % interval of the "
        "mean in brackets (none where the seeds agree, or there is one). Statistical: seeds are the sample. The "
        "distances are exact: all rules start from the same weights and see the same batches; the worst seed is shown."
    )
    title = "Accuracy after training, and the distance of the weights from BP's"
    heads = ("quantity", "task", *labels.values(), "majority class")
    return Table("accuracy", title, caption, heads, groups, tuple(records))


def _interval(cell):
    mean = numbers.percent(cell["mean"])
    if cell["low"] is None:
        return mean
    return f"{mean} [{numbers.percent(cell['low'])}–{numbers.percent(cell['high'])}]"


def _equal_updates(cell):
    return f"{numbers.count(cell['updates_equal'])} of {numbers.count(cell['updates'])}"


def _final_distance(cell):
    return BIT_IDENTICAL if cell["bitwise_equal"] else numbers.scientific(cell["final_l2"])


def _weights_record(cell):
    keys = ("updates", "updates_equal", "max_ulp", "bitwise_equal", "final_l2")
    return {f"weights_{key}": "" if cell is None else _exported(cell[key]) for key in keys}


def _zoo(sources):
    rows, records = [], []
    for source in sources:
        record = next(source.records)
        metrics = record["metrics"]
        same = BIT_IDENTICAL if metrics["bitwise_equal"] else numbers.scientific(metrics["relative_l2"])
        if not metrics["bitwise_equal"] and not metrics["bp_repeats_itself"]:
            same += " (BP does not repeat itself)"
        buffers = BIT_IDENTICAL if metrics["buffers_equal"] else "differ"
        size = f"{metrics['side']} × {metrics['side']}"
        rows.append(
            (source.task, size, numbers.count(metrics["elements"]), numbers.count(metrics["parameters"]), same, buffers)
        )
        figures = {key: _exported(value) for key, value in metrics.items()}
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
        (claim.sentence, claim.source, verdicts[claim.id]["verdict"], verdicts[claim.id]["evidence"])
        for claim in CLAIMS
    )
    profile = tasks[0].exactness.path.parent.parent
    records = tuple(
        {
            "id": claim.id,
            "sentence": claim.sentence,
            "claimed_in": claim.source,
            **verdicts[claim.id],
            "source": " ".join((profile / stage).as_posix() for stage in claim.stages),
        }
        for claim in CLAIMS
    )
    caption = "Each verdict is computed from the figures above; nobody typed it."
    heads = ("", "claim", "claimed in", "verdict", "evidence")
    return Table("claims", "Claims under test", caption, heads, (Group("", rows),), records)


def _headline(tasks, metrics):
    rows, records = [], []
    for name, task in metrics["tasks"].items():
        gradients, weights = task["exactness"].get("zil", {}).values(), task["weights"].get("zil")
        compared, equal = (sum(cell[key] for cell in gradients) for key in ("seeds", "seeds_equal"))
        accuracy = [task["accuracy"].get(rule) for rule in (REFERENCE, "zil", "il")]
        ratios = [task["cost"].get(rule) for rule in ("zil", "il-20")]
        rows.append(
            (
                name,
                f"{equal} of {compared}",
                MISSING if weights is None else _equal_updates(weights),
                *(MISSING if cell is None else numbers.percent(cell["mean"]) for cell in accuracy),
                *(MISSING if cell is None else f"{numbers.ratio(cell['ratio_median'])} ×" for cell in ratios),
            )
        )
        records.append(dict(zip(_HEADLINE[1:], rows[-1], strict=True)))
    caption = (
        "Z-IL against BP: first gradients (float32 and float64) and weights after each update of training that are "
        "bit-identical, of those compared; test accuracy in %; time per weight update as a multiple of BP's."
    )
    return Table("headline", "Headline", caption, _HEADLINE, (Group("", tuple(rows)),), tuple(records))


def _section(metrics, name):
    return {task: entry[name] for task, entry in metrics["tasks"].items()}


def _labels(tasks, stage):
    """The rules' labels by rule, over all tasks, in the order of the tables."""
    labels = {record["rule"]: record["label"] for task in tasks for record in getattr(task, stage).records}
    return {rule: labels[rule] for rule in ordered(labels)}


def _rows(labels, found, write, *more):
    """One row a task, one cell a rule, then the cells ``more``; a dash where the task lacks the rule."""
    return tuple(
        (task, *(write(cells[rule]) if rule in cells else MISSING for rule in labels), *more)
        for task, cells in found.items()
    )


def _exported(value):
    return numbers.NOT_FINITE if value is None else value


def _range(values):
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
