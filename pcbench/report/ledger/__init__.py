"""The tests of the claims, one module a topic: each maps the metrics to a verdict and its evidence."""

from pcbench.report.ledger import cost, energy, exactness, necessity, rules, training
from pcbench.report.ledger.words import Test

TESTS: dict[str, Test] = {
    **exactness.TESTS,
    **necessity.TESTS,
    **rules.TESTS,
    **energy.TESTS,
    **training.TESTS,
    **cost.TESTS,
}
