"""All tables and figures in one LaTeX document, which compiles as it is and from which a paper takes what it needs."""

from collections.abc import Sequence

from pcbench.params import Result
from pcbench.report.claims import CLAIMS
from pcbench.report.figures import Drawing
from pcbench.report.table import Table, latex_text

_HEAD = r"""\documentclass{article}
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage{booktabs,graphicx,hyperref}
\title{%s}
\author{PCBench}
\date{}
\begin{document}
\maketitle
"""
_TABLE = r"""
\begin{table}[p]
\centering
\caption{\textbf{%s.} %s}\label{tab:%s}
\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{\input{tables/%s.tex}}
\end{table}
"""
_FIGURE = r"""
\begin{figure}[p]
\centering
\includegraphics[width=\textwidth,height=.85\textheight,keepaspectratio]{figures/%s.pdf}
\caption{%s}\label{fig:%s}
\end{figure}
"""
_CLAIM = r"\item %s (%s) \textbf{%s.} %s" + "\n"
_PAGES = r"\clearpage" + "\n"  # LaTeX holds few floats back


def document(tables: Sequence[Table], drawings: Sequence[Drawing], metrics: Result) -> str:
    """Return the document, to be compiled in the folder that holds ``tables/`` and ``figures/``.

    Args:
        tables: what `pcbench.report.tables.build` made; the claims become a list, the headline is left out.
        drawings: what `pcbench.report.figures.build` made.
        metrics: the content of metrics.json.
    """
    shown = [table for table in tables if table.name not in ("claims", "headline")]
    parts = [_HEAD % latex_text(f"Predictive coding and backpropagation: profile {metrics['profile']}")]
    parts += [r"\section*{Claims under test}" + "\n" + r"\begin{enumerate}" + "\n"]
    for claim in CLAIMS:
        judged = metrics["claims"][claim.id]
        words = (claim.sentence, claim.attribution, judged["verdict"], judged["evidence"])
        parts.append(_CLAIM % tuple(map(latex_text, words)))
    parts += [r"\end{enumerate}" + "\n", _PAGES]
    for table in shown:
        parts += [_TABLE % (latex_text(table.title), latex_text(table.caption), table.name, table.name), _PAGES]
    for drawing in drawings:
        caption = latex_text(f"{drawing.title}. {drawing.caption}")
        parts += [_FIGURE % (drawing.name, caption, drawing.name), _PAGES]
    return "".join(parts) + r"\end{document}" + "\n"
