"""Drawing a graph: a row for each level, the inputs at the top, the output at the bottom."""

import io

import matplotlib
from matplotlib.figure import Figure

from pcbench.graph import Graph
from pcbench.report.figures import STYLE

WIDTH, HEIGHT = 2.4, 0.62  # inches for each vertex


def draw(graph: Graph, title: str) -> str:
    """Return the graph as SVG text.

    Clamped vertices (dashed) stand one row above the highest vertex that reads them; merges and identities, which have no
    parameters, are grey.

    Args:
        graph: `pcbench.graph.Graph`.
        title: what stands above it.
    """
    rows = _rows(graph)
    members: dict[int, list[int]] = {}
    for position, row in enumerate(rows):
        if row is not None:
            members.setdefault(row, []).append(position)
    top, widest = max(members), max(map(len, members.values()))
    place = {
        position: (WIDTH * (i - (len(at) - 1) / 2), HEIGHT * row)
        for row, at in members.items()
        for i, position in enumerate(at)
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * widest + 1.2, HEIGHT * (top + 2)))
        axis = figure.subplots()
        for position, vertex in enumerate(graph.vertices):
            for parent in vertex.parents:
                if position in place and parent in place:
                    # Edges that skip rows are bent, so that they do not run through the vertices between.
                    bend = 0.0 if rows[parent] - rows[position] == 1 else 0.25
                    style = {
                        "arrowstyle": "-|>",
                        "color": "#777777",
                        "connectionstyle": f"arc3,rad={bend}",
                        "shrinkB": 8,
                    }
                    axis.annotate("", place[position], place[parent], arrowprops=style, zorder=1)
        for position, (x, y) in place.items():
            vertex = graph.vertices[position]
            box = {
                "boxstyle": "round,pad=0.35",
                "facecolor": "#d6e8f5" if vertex.parameters else "#eeeeee",
                "edgecolor": "#444444",
                "linestyle": "--" if vertex.clamped else "-",
            }
            axis.text(x, y, vertex.name, ha="center", va="center", fontsize=8, bbox=box, zorder=2)
        for row in range(graph.depth + 1):
            axis.text(-WIDTH * widest / 2 - 0.3, HEIGHT * row, f"level {row}", ha="right", va="center", color="#777777")
        axis.set_xlim(-WIDTH * widest / 2 - 0.9, WIDTH * widest / 2)
        axis.set_ylim(-HEIGHT, HEIGHT * (top + 1))
        axis.set_axis_off()
        axis.set_title(title)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    return text.getvalue()


def _rows(graph):
    """The row of every vertex: its level, or for a clamped one, one more than its highest reader's row."""
    rows = [vertex.level for vertex in graph.vertices]
    for position in reversed(range(len(rows))):
        for parent in graph.vertices[position].parents:
            if graph.vertices[parent].clamped and rows[position] is not None:
                rows[parent] = max(rows[position] + 1, -1 if rows[parent] is None else rows[parent])
    return rows
