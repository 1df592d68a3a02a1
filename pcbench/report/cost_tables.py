"""Tables 2 and 6: what a weight update takes, in time, memory and operations, and how that grows."""

from collections.abc import Sequence
from functools import partial

from pcbench.params import REFERENCE, Result, Settings
from pcbench.report import writing
from pcbench.report.results import Source, TaskResults
from pcbench.report.table import Group, Table, flat, labels_of, range_of, rows_of, section
from pcbench.report.writing import MISSING


def cost(tasks: Sequence[TaskResults], metrics: Result, rules: Settings) -> Table:
    """Table 2; see `pcbench.report.tables.build` for the arguments."""
    found = section(metrics, "cost")
    labels = labels_of(task.cost for task in tasks)
    groups = (
        Group("time, ratio to BP", rows_of(labels, found, _time_ratio)),
        Group("time, ratio to captured BP", rows_of(labels, found, _captured_ratio)),
        *(
            Group(heading, rows_of(labels, found, partial(_quantity, key, write)))
            for heading, key, write in _QUANTITIES
        ),
    )
    keys = dict.fromkeys(key for rules in found.values() for cell in rules.values() for key in flat(cell))
    records = [
        {
            "task": task.name,
            "family": task.family,
            "rule": rule,
            "label": labels[rule],
            **dict.fromkeys(keys, ""),
            **flat(cell),
            "source": task.cost.path.as_posix(),
        }
        for task in tasks
        for rule, cell in found[task.name].items()
    ]
    timed = [record for task in tasks for record in task.cost.records if "refused" not in record]
    rounds = {len(record["metrics"]["seconds"].get("samples", ())) for record in timed}
    threads = {task.cost.files[0].get("threads", 1) for task in tasks}
    caption = (
        "Gradient and optimizer step. All rules are timed in turn in one process; the ratio is the median over "
        f"{range_of(rounds)} rounds of the round's ratio to BP, with its interquartile range in brackets; to captured BP, "
        "with the median's 95 % interval. A captured rule replays its update as a program; to capture it takes the first "
        f"update. Threads: {range_of(threads)}. Peak memory counts the tensors allocated during the update. "
        f"{_levels(labels, rules)}Timings: they scatter, and differ from machine to machine; the processor's own "
        "instruction set is used, where all other tables hold to one. Operations and floating-point operations (of products, "
        "convolutions and attention) are counted in the gradient, the optimizer's left out. Exact: no clock is in them."
    )
    title = "Time, memory and operations per weight update"
    return Table("cost", title, caption, ("quantity", "task", *labels.values()), groups, tuple(records))


def _levels(labels, rules):
    named = [labels[rule] for rule in labels if rules[rule].get("steps") == "levels"]
    return f"L, in {', '.join(named)}, is the number of levels of the network. " if named else ""


NOT_CAPTURABLE = "not capturable"
_QUANTITIES = (
    ("time, ms", "seconds", lambda seconds: writing.milliseconds(seconds["median"])),
    ("time to capture, s", "capture_seconds", writing.ratio),
    ("operations", "operations", writing.count),
    ("floating-point operations, millions", "flops", writing.millions),
    ("peak memory, ratio to BP", "peak_ratio", writing.ratio),
    ("peak memory, KiB", "peak_bytes", writing.kibibytes),
)


def _quantity(key, write, cell):
    return write(cell[key]) if key in cell else MISSING


def _captured_ratio(cell):
    if "captured_ratio" not in cell:
        return MISSING
    ratio = cell["captured_ratio"]
    return _spread(ratio["median"], ratio["low"], ratio["high"])


def _time_ratio(cell):
    if "refused" in cell:
        return NOT_CAPTURABLE
    return _spread(*(cell["ratio"][key] for key in ("median", "q1", "q3")))


def _spread(middle, low, high):
    if low is None or low == high:
        return writing.ratio(middle)
    return f"{writing.ratio(middle)} [{writing.ratio(low)}–{writing.ratio(high)}]"


def scaling(sources: Sequence[Source], metrics: Result) -> Table:
    """Table 7; see `pcbench.report.tables.build` for the arguments."""
    found = metrics["scaling"]
    labels = labels_of(sources)
    sized = {
        axis: {rule: {**cell, "whole": rules[REFERENCE]["largest"]} for rule, cell in rules.items()}
        for axis, rules in found.items()
    }
    groups = (
        Group("exponent of the time", rows_of(labels, found, lambda cell: _exponent(cell["exponent"]["seconds"]))),
        Group(
            "exponent of the operations",
            rows_of(labels, found, lambda cell: _two(cell["exponent"]["operations"]["value"])),
        ),
        Group("at the largest size: time, ratio to BP", rows_of(labels, sized, _at_size(_time_ratio))),
        Group(
            "at the largest size: operations",
            rows_of(labels, sized, _at_size(lambda cell: writing.count(cell["operations"]))),
        ),
    )
    records = [
        {
            "axis": source.task,
            "rule": rule,
            "label": labels[rule],
            **flat(cell),
            "source": source.path.as_posix(),
        }
        for source in sources
        for rule, cell in found[source.task].items()
    ]
    spans = (f"{axis} {rules[REFERENCE]['smallest']} to {rules[REFERENCE]['largest']}" for axis, rules in found.items())
    rounds = {len(record["metrics"]["seconds"].get("samples", ())) for source in sources for record in source.records}
    caption = (
        "Weight updates (gradient and optimizer step) of synthetic networks: a chain of fully connected layers, of which "
        f"depth, width or batch grow, and one cell unrolled over a growing length ({', '.join(spans)}). Time grows as a "
        "power of the size: the exponent is the slope of a line through the logarithms of the medians over "
        f"{range_of(rounds)} interleaved rounds, with its 95 % interval; below 1 where what does not grow weighs more. IL is "
        "measured at the smaller sizes. Times are timings; operations are exact."
    )
    title = "How the cost of a weight update grows"
    return Table("scaling", title, caption, ("quantity", "axis", *labels.values()), groups, tuple(records))


def _at_size(write):
    """Write a figure with the size that it was measured at, if that is another than backpropagation's."""

    def written(cell):
        return write(cell) if cell["largest"] == cell["whole"] else f"{write(cell)} at {cell['largest']}"

    return written


def _exponent(fit):
    if fit["low"] is None:
        return _two(fit["value"])
    return f"{_two(fit['value'])} [{_two(fit['low'])} to {_two(fit['high'])}]"


def _two(value):
    """To two decimals, with a minus sign that no dash is taken for; without one where it is zero."""
    return MISSING if value is None else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")
