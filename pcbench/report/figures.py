"""The figures of the report, as SVG and PDF: the same results, the same bytes."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from pcbench.params import REFERENCE
from pcbench.report import writing
from pcbench.report.results import Source, TaskResults

INK, GRID, PAPER = "#24292f", "#8c959f", "#ffffff"
# Okabe and Ito's palette, after two greys: told apart by the colour-blind, and in grey. A rule has the colour of its place in
# params.yaml among those that are drawn; the page's style sheet has another value for each in the dark.
PALETTE = ("#999999", "#666666", "#0072b2", "#56b4e9", "#e69f00", "#d55e00", "#cc79a7", "#009e73")
MOST_POINTS = 300
TITLES = {
    "divergence": "Distance of the weights from BP’s at every update of training",
    "accuracy": "Test accuracy by epoch",
    "cost": "Time per weight update",
    "scaling": "Time per weight update against the size of a network",
}

STYLE: dict[Any, Any] = {  # of matplotlib
    "svg.hashsalt": "pcbench",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.alpha": 0.25,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
}


def colours(rules: Iterable[str], tasks: Sequence[TaskResults], scaling: Sequence[Source] = ()) -> dict[str, str]:
    """Return ``{rule: colour}``, as ``#rrggbb``, of the rules that are drawn.

    Args:
        rules: all rules, in the order of params.yaml.
        tasks: list of `pcbench.report.results.TaskResults`.
        scaling: list of `pcbench.report.results.Source`.
    """
    sources = [*(source for task in tasks for source in (task.train, task.cost)), *scaling]
    drawn = {record["rule"] for source in sources for record in source.records}
    return {rule: PALETTE[i % len(PALETTE)] for i, rule in enumerate(rule for rule in rules if rule in drawn)}


def divergence(tasks: Sequence[TaskResults], colours: Mapping[str, str]) -> Figure:
    """Draw the relative L2 distance of the weights from BP's after every weight update, one panel a task.

    The band goes from the least to the largest value over seeds, the line is the median over seeds. A distance of
    exactly zero lies on the axis's zero, which the scale (linear below the least positive value) includes. Long
    trainings are drawn in at most ``MOST_POINTS`` bins of consecutive updates, the band covering all of a bin.
    """
    return _panels(tasks, _divergence_panel, colours)


def accuracy(tasks: Sequence[TaskResults], colours: Mapping[str, str]) -> Figure:
    """Draw the test accuracy by epoch, one panel a task: the mean over seeds, and the band of all seeds."""
    return _panels(tasks, _accuracy_panel, colours)


def cost(tasks: Sequence[TaskResults], colours: Mapping[str, str]) -> Figure:
    """Draw the time of a weight update as a ratio to BP's, one panel a task: median and interquartile range."""
    return _panels(tasks, _cost_panel, colours, height=2.1)


def scaling(sources: Sequence[Source], colours: Mapping[str, str]) -> Figure:
    """Draw the time of a weight update against the size of a synthetic network, one panel an axis: median and quartiles."""
    return _panels(sources, _scaling_panel, colours, name=lambda source: source.task)


def _panels(tasks, draw, colours, height=2.7, name=lambda task: task.name):
    columns = min(2, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * columns, height * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, task in zip(axes, tasks, strict=False):
            draw(panel, task, colours)
            panel.set_title(name(task))
        for empty in axes[len(tasks) :]:
            empty.set_visible(False)
    return figure


def svg(figure: Figure) -> str:
    """Return the figure as SVG text."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def pdf(figure: Figure) -> bytes:
    """Return the figure as a PDF, without date and producer."""
    content = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(content, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return content.getvalue()


def _divergence_panel(panel, task, colours):
    rules = {rule: records for rule, records in _by_rule(task.train).items() if rule != REFERENCE}
    series = {rule: _trajectories(records) for rule, records in rules.items()}
    finite = np.concatenate([[], *(values[np.isfinite(values)] for values in series.values())])
    positive = finite[finite > 0]
    threshold = 10.0 ** math.floor(math.log10(positive.min())) if positive.size else 1.0
    for rule, values in series.items():
        updates, low, middle, high = _binned(values)
        colour = colours[rule]
        label = f"{rules[rule][0]['label']}: exactly 0" if not values.any() else rules[rule][0]["label"]
        panel.fill_between(updates, low, high, color=colour, alpha=0.25, linewidth=0)
        panel.plot(updates, middle, color=colour, linewidth=1.6, label=label)
    panel.set_yscale("symlog", linthresh=threshold, linscale=0.5)
    top = 10.0 ** math.ceil(math.log10(positive.max())) if positive.size else 1.0
    panel.set_ylim(-threshold / 3, top)  # so that a line at zero stands clear of the axis
    panel.set_yticks([0, *_decades(threshold, top)])
    panel.minorticks_off()
    panel.set_xlim(left=0)
    panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.set_xlabel("weight update")
    panel.set_ylabel("relative L2 distance from BP")
    if series:
        panel.legend(loc="lower right", bbox_to_anchor=(1, 0.1))


def _decades(low, high):
    first, last = round(math.log10(low)), round(math.log10(high))
    step = max(1, math.ceil((last - first) / 4))
    return [10.0**exponent for exponent in range(last, first - 1, -step)]


def _trajectories(records):
    """The relative L2 distances as an array, seeds × updates; what was not finite is infinite."""
    rows = (record["metrics"]["divergence"]["relative_l2"] for record in records)
    return np.array([[math.inf if value is None else value for value in row] for row in rows])


def _binned(values):
    """Return the last update of every bin, and over its updates and the seeds: minimum, median, maximum."""
    bins = np.array_split(values, min(values.shape[1], MOST_POINTS), axis=1)
    last = np.cumsum([each.shape[1] for each in bins])
    return last, *(np.array([summary(each) for each in bins]) for summary in (np.min, np.median, np.max))


def _accuracy_panel(panel, task, colours):
    for rule, records in _by_rule(task.train).items():
        values = np.array([[100 * epoch["test_accuracy"] for epoch in r["metrics"]["epochs"]] for r in records])
        epochs = np.arange(1, values.shape[1] + 1)
        colour = colours[rule]
        # BP and Z-IL coincide: one is broad, the other dashed, so that both are seen.
        width, dashes = {REFERENCE: (4.5, "-"), "zil": (1.6, "--")}.get(rule, (1.6, "-"))
        panel.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
        label = records[0]["label"]
        panel.plot(epochs, values.mean(0), color=colour, linewidth=width, linestyle=dashes, label=label)
    panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    panel.set_xlabel("epoch")
    panel.set_ylabel("test accuracy, %")
    panel.legend(loc="lower right")


def _cost_panel(panel, task, colours):
    rules = {rule: records[0] for rule, records in _by_rule(task.cost).items() if rule != REFERENCE}
    rules = {rule: record for rule, record in rules.items() if "refused" not in record}
    for place, (rule, record) in enumerate(rules.items()):
        ratio = record["metrics"]["ratio"]
        spread = [[ratio["median"] - ratio["q1"]], [ratio["q3"] - ratio["median"]]]
        panel.barh(place, ratio["median"], height=0.6, color=colours[rule])
        panel.errorbar(ratio["median"], place, xerr=spread, color=INK, linewidth=1, capsize=3)
        text = f"{writing.ratio(ratio['median'])}×"
        panel.annotate(text, (ratio["q3"], place), (6, 0), textcoords="offset points", va="center")
    panel.axvline(1, color=INK, linewidth=1, linestyle=":")
    panel.set_yticks(range(len(rules)), [record["label"] for record in rules.values()])
    panel.invert_yaxis()
    panel.grid(axis="y", visible=False)
    panel.margins(x=0.15)
    panel.set_xlim(left=0)
    panel.set_xlabel("time per weight update, ratio to BP (dotted: BP)")


def _scaling_panel(panel, source, colours):
    for rule, records in _by_rule(source).items():
        sizes = [record["size"] for record in records]
        low, middle, high = (
            [1000 * record["metrics"]["seconds"][key] for record in records] for key in ("q1", "median", "q3")
        )
        colour = colours[rule]
        panel.fill_between(sizes, low, high, color=colour, alpha=0.25, linewidth=0)
        panel.plot(sizes, middle, color=colour, linewidth=1.6, marker="o", markersize=3, label=records[0]["label"])
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter(ScalarFormatter())
    panel.set_yscale("log")
    panel.set_xlabel(source.task)
    panel.set_ylabel("time per weight update, ms")
    panel.set_ylim(top=8 * panel.get_ylim()[1])  # room for the legend above IL's line, which ends before the others
    panel.legend(loc="upper left", ncols=2)


def _by_rule(source):
    records = {}
    for record in source.records:
        records.setdefault(record["rule"], []).append(record)
    return records
