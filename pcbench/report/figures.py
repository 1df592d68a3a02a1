"""The figures of the report, as SVG and PDF: the same results, the same bytes."""

import io
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from pcbench.params import REFERENCE
from pcbench.report import panels, writing
from pcbench.report.panels import GRID, INK, PAPER, Style, Styles
from pcbench.report.results import Source, TaskResults

# Okabe and Ito's palette, after two greys: told apart by the colour-blind, and in grey. A rule has the colour of its place in
# params.yaml among those that are drawn; the page's style sheet has another value for each in the dark.
PALETTE = ("#999999", "#666666", "#0072b2", "#56b4e9", "#e69f00", "#d55e00", "#cc79a7", "#009e73")
# One fewer than colours: where the colours begin again, dashes and marks do not.
_DASHES = ("-", "--", "-.", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 1, 2)))
_MARKS = ("", "", "o", "s", "^", "D", "v")
_WIDTH, _BROAD = 1.6, 4.5

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


@dataclass(frozen=True)
class Drawing:
    """One figure of the report: a panel for each thing that it shows.

    Attributes:
        name: the stem of its files.
        title, caption: what it shows; what lines and bands are, and of which kind the figures are.
        stage: the stage whose result of that name, or task, each panel shows.
        draw: one of `pcbench.report.panels`: draws one thing into a panel.
        shown: ``{name: thing}``, a panel each, in order; of several of one task, ``task, which``.
        styles: see `styles`.
        height: of a panel, in inches.
    """

    name: str
    title: str
    caption: str
    stage: str
    draw: Callable[[Any, Any, Styles], None]
    shown: Mapping[str, Any]
    styles: Styles
    height: float = 2.7

    def figure(self, names: Collection[str] | None = None) -> Figure:
        """Draw the panels of these names, all of them if None."""
        chosen = {name: thing for name, thing in self.shown.items() if names is None or name in names}
        columns = min(2, len(chosen))
        rows = math.ceil(len(chosen) / columns)
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(4.4 * columns, self.height * rows), layout="constrained")
            axes = figure.subplots(rows, columns, squeeze=False).ravel()
            for panel, (name, thing) in zip(axes, chosen.items(), strict=False):
                self.draw(panel, thing, self.styles)
                panel.set_title(name)
            for empty in axes[len(chosen) :]:
                empty.set_visible(False)
        return figure


def build(tasks: Sequence[TaskResults], rules: Iterable[str], scaling: Sequence[Source] = ()) -> tuple[Drawing, ...]:
    """Return the figures in the order of the page: divergence, loss, accuracy, cost, scaling (where any), conditions.

    Args:
        tasks: list of `pcbench.report.results.TaskResults`.
        rules: all rules, in the order of params.yaml.
        scaling: what `pcbench.report.results.read_scaling` returned.
    """
    looks = styles(rules, tasks, scaling)
    seeds = sorted({len(task.train.files) for task in tasks})
    sample = f"{'–'.join(map(str, (seeds[0], seeds[-1])[: len(seeds)]))} {'seed' if seeds == [1] else 'seeds'}"
    agree = "Where Z-IL’s dashes lie on BP’s broad grey line, the two agree. Statistical."
    named = {task.name: task for task in tasks}
    found = [
        Drawing(
            "divergence",
            "Distance of the weights from BP’s at every update of training",
            f"Median (line) and range (band) over {sample}. The axis is logarithmic down to the least positive distance and "
            "reaches zero, so that zero is seen as zero. Exact.",
            "train",
            panels.divergence,
            named,
            looks,
        ),
        Drawing(
            "loss",
            "Training loss by epoch",
            f"Mean (line) and range (band) over {sample}, of the loss at each example’s own update. {agree}",
            "train",
            panels.loss,
            named,
            looks,
        ),
        Drawing(
            "accuracy",
            "Test accuracy by epoch",
            f"Mean (line) and range (band) over {sample}. {agree}",
            "train",
            panels.accuracy,
            named,
            looks,
        ),
        Drawing(
            "cost",
            "Time per weight update",
            "Median ratio to BP, with its interquartile range over interleaved rounds. Timings.",
            "cost",
            panels.cost,
            named,
            looks,
            height=2.1,
        ),
    ]
    if scaling:
        found.append(
            Drawing(
                "scaling",
                "Time per weight update against the size of a network",
                "Synthetic networks; depth, width and batch of a chain of layers, length of a cell’s time. Median and "
                "interquartile range over interleaved rounds. Timings.",
                "scaling",
                panels.scaling,
                {source.task: source for source in scaling},
                looks,
            )
        )
    return *found, _conditions(tasks, looks)


def _conditions(tasks, looks):
    shown = {
        f"{task.name}, {'' if layer_dependent else 'not '}layer-dependent": (
            [point for point in record["metrics"]["grid"] if point["layer_dependent"] == layer_dependent],
            task.conditions.files[0]["rounding"],
        )
        for task in tasks
        for record in task.conditions.records
        for layer_dependent in (True, False)
    }
    bound = max(task.conditions.files[0]["rounding"] for task in tasks)
    return Drawing(
        "conditions",
        "Z-IL’s conditions: distance from BP’s gradient over γ and σ",
        "One weight update of Z-IL in state form. All three conditions are met in the lower right corner of the panels that "
        f"are layer-dependent. A framed 0 is zero to rounding, {writing.scientific(bound)} or less; each power of ten has a "
        "colour. Exact.",
        "conditions",
        panels.conditions,
        shown,
        looks,
    )


def styles(rules: Iterable[str], tasks: Sequence[TaskResults], scaling: Sequence[Source] = ()) -> dict[str, Style]:
    """Return ``{rule: style}`` of the rules that are drawn; arguments as those of `build`."""
    sources = [*(source for task in tasks for source in (task.train, task.cost)), *scaling]
    drawn = {record["rule"] for source in sources for record in source.records}
    return {
        # BP is broad: what coincides with it is seen on it.
        rule: Style(
            PALETTE[i % len(PALETTE)],
            _DASHES[i % len(_DASHES)],
            _MARKS[i % len(_MARKS)],
            _BROAD if rule == REFERENCE else _WIDTH,
        )
        for i, rule in enumerate(rule for rule in rules if rule in drawn)
    }


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
