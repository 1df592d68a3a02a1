"""The tests of the claims, one module a topic: each maps the metrics to a verdict and its evidence."""

from pcbench.report.ledger import cost, exactness, necessity, training
from pcbench.report.ledger.words import Test

TESTS: dict[str, Test] = {**exactness.TESTS, **necessity.TESTS, **training.TESTS, **cost.TESTS}
