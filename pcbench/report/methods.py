"""What the page says of methods that follows from params.yaml: the rules that are shown, and the tasks that they learn."""

from collections.abc import Sequence
from typing import Any

from pcbench import code, params
from pcbench.params import Parameters, Result
from pcbench.report.table import Table


def rules(tables: Sequence[Table], parameters: Parameters) -> list[dict[str, Any]]:
    """Return one row a rule that some table shows: ``{"label", "settings", "file", "tables"}``, in params.yaml's order.

    Args:
        tables: those of measured figures.
        parameters: see `pcbench.params.load`.
    """
    shown: dict[str, dict[int | None, None]] = {}
    for table in tables:
        for record in table.records:
            shown.setdefault(record.get("rule", ""), {})[table.number] = None
    return [
        {
            "label": entry["label"],
            "settings": _listed({key: value for key, value in entry.items() if key not in ("label", "engine")}),
            "file": code.module_name("rule", entry["engine"]).replace(".", "/") + ".py",
            "tables": list(shown[name]),
        }
        for name, entry in parameters["rules"].items()
        if name in shown
    ]


def tasks(metrics: Result, parameters: Parameters) -> list[dict[str, Any]]:
    """Return one row a task: ``{"name", "family", "network", "data", "model", "batch", "optimizer", "epochs"}``.

    Args:
        metrics: the content of metrics.json.
        parameters: see `pcbench.params.load`.
    """
    epochs = params.profile(parameters, metrics["profile"])["tasks"]
    rows = []
    for name, task in metrics["tasks"].items():
        entry = params.task(parameters, name)
        optimizer = dict(entry["optimizer"])
        rows.append(
            {
                "name": name,
                "family": task["family"],
                "network": entry["network"],
                "data": entry["data"],
                "model": _listed(entry["model"]),
                "batch": entry["batch_size"],
                "optimizer": f"{optimizer.pop('name')}, {_listed(optimizer)}",
                "epochs": epochs[name],
            }
        )
    return rows


def _listed(settings):
    return ", ".join(
        f"{key} = {str(value).lower() if isinstance(value, bool) else value}" for key, value in settings.items()
    )
