"""The panels of the report's figures: each function draws one task, or one axis of scaling, into a panel."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from numpy.typing import NDArray

from pcbench.params import REFERENCE, Result
from pcbench.report import writing
from pcbench.report.results import Source, TaskResults

INK, GRID, PAPER = "#24292f", "#8c959f", "#ffffff"
# Of distances, a colour for each power of ten from 1e-4 to 1e4, and one below and above: viridis, whose lightness falls
# throughout, so that it is read in grey and by the colour-blind; and the inks of what is written on its light and dark half.
HEAT = ("#fde725", "#b5de2b", "#6ece58", "#35b779", "#1f9e89", "#26828e", "#31688e", "#3e4989", "#482878", "#440154")
HEAT_INKS = ("#111111", "#fefefe")
_DECADES = 10.0 ** np.arange(-4, 5)
MOST_POINTS = 300
_MARKS = 8  # along a line with more points than that


@dataclass(frozen=True)
class Style:
    """How a rule's line looks: told apart by its colour, and where there are none by its dashes and marks.

    Attributes:
        colour: as ``#rrggbb``.
        dashes, mark: matplotlib's line style and marker.
        width: of the line, in points.
    """

    colour: str
    dashes: Any
    mark: str
    width: float


Styles = Mapping[str, Style]  # by rule


def divergence(panel: Axes, task: TaskResults, styles: Styles) -> None:
    """Draw the relative L2 distance of the weights from BP's after every weight update.

    The band goes from the least to the largest value over seeds, the line is the median over seeds. A distance of
    exactly zero lies on the axis's zero, which the scale (linear below the least positive value) includes. Long
    trainings are drawn in at most ``MOST_POINTS`` bins of consecutive updates, the band covering all of a bin.
    """
    rules = {rule: records for rule, records in task.train.by_rule.items() if rule != REFERENCE}
    series = {rule: trajectories(records) for rule, records in rules.items()}
    finite = np.concatenate([[], *(values[np.isfinite(values)] for values in series.values())])
    positive = finite[finite > 0]
    threshold = 10.0 ** math.floor(math.log10(positive.min())) if positive.size else 1.0
    for rule, values in series.items():
        updates, low, middle, high = binned(values)
        name = rules[rule][0]["label"]
        label = f"{name}: exactly 0 at all {values.shape[1]} updates" if not values.any() else name
        _line(panel, updates, low, middle, high, styles[rule], label)
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


def trajectories(records: Sequence[Result]) -> NDArray[np.float64]:
    """The relative L2 distances as an array, seeds × updates; what was not finite is infinite."""
    rows = (record["metrics"]["divergence"]["relative_l2"] for record in records)
    return np.array([[math.inf if value is None else value for value in row] for row in rows])


def binned(values: NDArray[np.float64], most: int = MOST_POINTS) -> tuple[NDArray[Any], ...]:
    """Return the last update of every bin (``most`` at most), and over updates and seeds: minimum, median, maximum."""
    bins = np.array_split(values, min(values.shape[1], most), axis=1)
    last = np.cumsum([each.shape[1] for each in bins])
    return last, *(np.array([summary(each) for each in bins]) for summary in (np.min, np.median, np.max))


def loss(panel: Axes, task: TaskResults, styles: Styles) -> None:
    """Draw the training loss by epoch: the mean over seeds, and the band of all seeds."""
    highest = _epochs(panel, task, styles, lambda epoch: epoch["train_loss"])
    panel.set_ylabel("training loss")
    panel.set_ylim(0, 1.05 * highest if highest > 0 else 1)
    panel.legend()


def accuracy(panel: Axes, task: TaskResults, styles: Styles) -> None:
    """Draw the test accuracy by epoch: the mean over seeds, and the band of all seeds."""
    _epochs(panel, task, styles, lambda epoch: 100 * epoch["test_accuracy"])
    panel.set_ylabel("test accuracy, %")
    panel.legend()


def _epochs(panel, task, styles, pick):
    """Draw a figure of every epoch; return the largest."""
    largest = 0.0
    for rule, records in task.train.by_rule.items():
        values = np.array([[pick(epoch) for epoch in record["metrics"]["epochs"]] for record in records])
        epochs = np.arange(1, values.shape[1] + 1)
        _line(panel, epochs, values.min(0), values.mean(0), values.max(0), styles[rule], records[0]["label"])
        largest = max(largest, values.max())
    panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    panel.set_xlabel("epoch")
    return largest


def cost(panel: Axes, task: TaskResults, styles: Styles) -> None:
    """Draw the time of a weight update as a ratio to BP's: median and interquartile range."""
    rules = {rule: records[0] for rule, records in task.cost.by_rule.items() if rule != REFERENCE}
    rules = {rule: record for rule, record in rules.items() if "refused" not in record}
    for place, (rule, record) in enumerate(rules.items()):
        ratio = record["metrics"]["ratio"]
        spread = [[ratio["median"] - ratio["q1"]], [ratio["q3"] - ratio["median"]]]
        panel.barh(place, ratio["median"], height=0.6, color=styles[rule].colour)
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


def scaling(panel: Axes, source: Source, styles: Styles) -> None:
    """Draw the time of a weight update against the size of a synthetic network, along one axis: median and quartiles."""
    for rule, records in source.by_rule.items():
        sizes = [record["size"] for record in records]
        low, middle, high = (
            [1000 * record["metrics"]["seconds"][key] for record in records] for key in ("q1", "median", "q3")
        )
        _line(panel, sizes, low, middle, high, styles[rule], records[0]["label"])
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter(ScalarFormatter())
    panel.set_yscale("log")
    panel.set_xlabel(source.task)
    panel.set_ylabel("time per weight update, ms")
    panel.set_ylim(top=8 * panel.get_ylim()[1])  # room for the legend above IL's line, which ends before the others
    panel.legend(loc="upper left", ncols=2)


def conditions(panel: Axes, shown: tuple[Sequence[Result], float], styles: Styles) -> None:
    """Draw distances from BP's gradient over γ and σ: a cell each, in its power of ten's colour, with its figure.

    What is zero to rounding is no colour of the scale: a framed 0.

    Args:
        panel: the panel.
        shown: the points of the grid that are layer-dependent, or those that are not; the largest distance that is rounding.
        styles: those of rules, of which nothing is drawn here.
    """
    points, rounding = shown
    gammas, sigmas = (sorted({point[key] for point in points}) for key in ("gamma", "sigma"))
    norm, heat = BoundaryNorm(_DECADES, len(HEAT), extend="both"), ListedColormap(HEAT)
    for point in points:
        x, y, value = gammas.index(point["gamma"]), sigmas.index(point["sigma"]), point["relative_l2"]
        zero = value is not None and value <= rounding
        shade = min(max(int(norm(np.inf if value is None else value)), 0), len(HEAT) - 1)
        look = {"facecolor": PAPER, "edgecolor": INK, "zorder": 2} if zero else {"facecolor": HEAT[shade]}
        panel.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, linewidth=1.5 if zero else 0, **look))
        ink = INK if zero else HEAT_INKS[shade >= len(HEAT) // 2]
        text = "0" if zero else "∞" if value is None else writing.scientific(value)
        panel.text(
            x, y, text, ha="center", va="center", fontsize=7, color=ink, weight="bold" if zero else None, zorder=3
        )
    panel.set_xlim(-0.6, len(gammas) - 0.4)
    panel.set_ylim(-0.6, len(sigmas) - 0.4)
    panel.set_xticks(range(len(gammas)), map(_plain, gammas))
    panel.set_yticks(range(len(sigmas)), map(_plain, sigmas))
    panel.tick_params(length=0)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    panel.set_xlabel("integration step γ")
    panel.set_ylabel("initial error σ")
    scale = panel.figure.colorbar(ScalarMappable(norm, heat), ax=panel, ticks=_DECADES[::2], format=_plain, pad=0.02)
    scale.set_label("relative L2 distance from BP")
    scale.outline.set_visible(False)
    scale.ax.minorticks_off()


def _plain(value, _place=None):
    """A number as it is given: ``1e-6``, ``0.01``, ``1``."""
    return f"{value:g}".replace("e-0", "e-")


def _line(panel, places, low, middle, high, style, label):
    panel.fill_between(places, low, high, color=style.colour, alpha=0.22, linewidth=0)
    panel.plot(
        places,
        middle,
        color=style.colour,
        linewidth=style.width,
        linestyle=style.dashes,
        marker=style.mark,
        markersize=4,
        markevery=max(1, len(places) // _MARKS),
        label=label,
    )
