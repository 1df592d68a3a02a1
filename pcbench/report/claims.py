"""The claims under test: each a sentence that somebody wrote, and a test of it on the measured figures.

The sentences stand in published.yaml, their tests in `pcbench.report.ledger`. A verdict is computed, never typed. Where a
sentence is refuted as worded, the evidence says what holds instead.
"""

from dataclasses import dataclass

from pcbench.params import Result
from pcbench.report import published
from pcbench.report.ledger import TESTS
from pcbench.report.ledger.words import Test


@dataclass(frozen=True)
class Claim:
    """A sentence under test.

    Attributes:
        id: its identifier.
        sentence: the claim, as it is tested.
        quote: the wording that was read; empty where the sentence is its source's own.
        source: who says so, and where it was read.
        citation: in full.
        stages: the stages whose results decide it, of `pcbench.params.STAGES`.
        test: maps the metrics (`pcbench.report.metrics.summarise`) to ``(verdict, evidence)``.
    """

    id: str
    sentence: str
    quote: str
    source: str
    citation: str
    stages: tuple[str, ...]
    test: Test

    @property
    def attribution(self) -> str:
        """Its source, with the wording that was read."""
        return f"{self.source}: “{self.quote}”" if self.quote else self.source


CLAIMS = tuple(
    Claim(
        id=entry["id"],
        sentence=entry["sentence"],
        quote=entry.get("quote", ""),
        source=published.claimed_in(entry),
        citation=published.citation(entry),
        stages=tuple(entry["stages"]),
        test=TESTS[entry["id"]],
    )
    for entry in published.load()["claims"]
)


def judge(metrics: Result) -> dict[str, dict[str, str]]:
    """Return ``{claim's id: {"verdict", "evidence"}}`` for every claim."""
    verdicts = {claim.id: claim.test(metrics) for claim in CLAIMS}
    return {name: {"verdict": verdict, "evidence": evidence} for name, (verdict, evidence) in verdicts.items()}
