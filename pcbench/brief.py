"""One line for what a stage has found, where it is run by hand; the tables say the rest."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcbench.params import REFERENCE, Result
from pcbench.report import writing
from pcbench.report.results import grouped, read_source


def found(stage: str, name: str, path: Path) -> str:
    """Return one line on a result that was just written: what was found, rule by rule, and where it is.

    Args:
        stage, name: what it is the result of, see `pcbench.report.results.read_source`.
        path: where it is.

    Raises:
        ResultError: it is not of its form.
    """
    told, of_rule = _TOLD[stage]
    by_label = grouped(read_source(stage, name, path).records, "label")
    said = {label: of_rule(records) for label, records in by_label.items()}
    listed = "; ".join(f"{label} ({text})" for label, text in said.items() if text)
    return f"{name}: {told}: {listed}; see {path}"


def _of(key: str) -> Callable[[Sequence[Result]], str]:
    """How many of the records are true under ``key``."""
    return lambda records: f"{sum(r['metrics'].get(key, False) for r in records)} of {len(records)}"


def _ratio(records: Sequence[Result]) -> str:
    record = records[-1]  # of scaling, the largest size
    if record["rule"] == REFERENCE or "refused" in record:
        return ""
    size = f" at {record['size']}" if "size" in record else ""
    return f"{writing.ratio(record['metrics']['ratio']['median'])} ×{size}"


def _accuracy(records: Sequence[Result]) -> str:
    return f"{writing.percent(float(np.mean([r['metrics']['test_accuracy'] for r in records])))} %"


def _nearest(distances: Sequence[float | None]) -> str:
    return writing.scientific(min((each for each in distances if each is not None), default=None))


def _of_options(records: Sequence[Result]) -> str:
    return _nearest([record["metrics"]["relative_l2"] for record in records])


def _of_grid(records: Sequence[Result]) -> str:
    return _nearest([point["relative_l2"] for record in records for point in record["metrics"]["grid"]])


_TOLD: dict[str, tuple[str, Any]] = {
    "exactness": ("bit-identical to backpropagation", _of("bitwise_equal")),
    "cost": ("time of an update as a multiple of backpropagation's", _ratio),
    "train": ("test accuracy, the mean over seeds", _accuracy),
    "conformance": ("relative distance of gradients from backpropagation's, the least of all options", _of_options),
    "conditions": ("relative distance of gradients from backpropagation's, the least of the grid", _of_grid),
    "proof": ("updates that are backpropagation's program", _of("equal")),
    "zoo": ("bit-identical to backpropagation", _of("bitwise_equal")),
    "scaling": ("time of an update as a multiple of backpropagation's", _ratio),
}
