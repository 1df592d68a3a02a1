"""PCBench: is predictive coding really backprop, bit for bit, and what does it cost?"""

import importlib
from typing import Any

# Imported when first asked for: the command line must come before torch, see `pcbench.instructions`.
_HOMES = {
    "ZIL": "rules.zil",
    "Backprop": "rules.bp",
    "Captured": "rules",
    "Certificate": "measure.proof",
    "Divergence": "measure.divergence",
    "Dynamics": "rules.zil_state",
    "ErrorOptimisation": "rules.error_optimisation",
    "FixedPrediction": "rules.fixed_prediction",
    "Graph": "graph",
    "Incremental": "rules.incremental",
    "InferenceLearning": "rules.il",
    "NotRepeatable": "errors",
    "OutputVariance": "rules.output_variance",
    "PCBenchError": "errors",
    "Schedule": "rules.zil_state",
    "UnsupportedModule": "errors",
    "divergence": "measure.divergence",
    "prove": "measure.proof",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found = getattr(importlib.import_module(f"pcbench.{_HOMES[name]}"), name)
    elif name in ("errors", "nn", "rules"):
        found = importlib.import_module(f"pcbench.{name}")
    else:
        raise AttributeError(f"module 'pcbench' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
