"""What commands print of what was found: tables and sentences."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pcbench.check import gate
from pcbench.files import finite_or_none
from pcbench.measure.divergence import Divergence
from pcbench.measure.verify import Verification
from pcbench.report import writing
from pcbench.terminal import say, table

if TYPE_CHECKING:  # it brings SciPy, which most commands need not wait for
    from pcbench.check.comparison import Comparison


def shortfalls(findings: Sequence[gate.Finding]) -> bool:
    """Print what fell short of what is expected, and return whether anything did."""
    short = [finding for finding in findings if finding.verdict == gate.FAIL]
    if short:
        table(
            ("verdict", "what", "measured", "expected"),
            [[(finding.verdict, finding.what, finding.measured, finding.expected) for finding in short]],
        )
    return bool(short)


def comparison(found: "Comparison", first: str, second: str) -> None:
    """Print how two runs, called ``first`` and ``second``, compare: their environments, each result, and the counts."""
    if found.environment:
        table(("environment", first, second), [[(name, *pair) for name, pair in found.environment.items()]])
    else:
        say("the same environment, as far as it is recorded")
    for finding in found.findings:
        say(f"{finding.result}: {finding.verdict}")
        for reason in finding.reasons:
            say(f"  {reason}")
    verdicts = [finding.verdict for finding in found.findings]
    say(", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts)))


def verification(found: Verification) -> None:
    """Print a row for each parameter, for all of them together, and for each of Z-IL's conditions broken."""
    parameters = []
    for name, divergence in found.parameters.items():
        shape = "×".join(map(str, found.shapes[name])) or "scalar"
        cells = ("no gradient", "", "") if divergence is None else _cells(divergence)
        parameters.append((name, shape, *cells))
    totals = [("all parameters", "", *_cells(found.total)), ("all buffers", "", *_cells(found.buffers))]
    broken = [(f"Z-IL, but {name}", "", *_cells(divergence)) for name, divergence in found.ablations.items()]
    table(("parameter", "shape", "L2", "max ULP", "bitwise"), [parameters, totals, broken])
    for sentence in (*found.whole(), *found.signs()):
        say(sentence)


def _cells(divergence: Divergence) -> tuple[str, str, str]:
    l2, ulps = writing.scientific(finite_or_none(divergence.l2)), writing.ulps(divergence.max_ulp)
    return l2, ulps, "yes" if divergence.bitwise_equal else "no"
