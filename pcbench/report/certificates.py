"""Table 5: whether weight updates are backpropagation's program, operation for operation."""

from collections.abc import Sequence

from pcbench.params import Result
from pcbench.report import writing
from pcbench.report.results import Source, TaskResults
from pcbench.report.table import Group, Table, labels_of
from pcbench.report.writing import EQUAL, MISSING

_FIGURES = ("equal", "operations", "own_operations", "digest")
_PARTING = ("result", "step", "line", "expected", "explanation", "refused")
_DIGITS = 12  # of a digest, for people


def certificates(tasks: Sequence[TaskResults], metrics: Result, zoo: Sequence[Source]) -> Table:
    """Table 5; see `pcbench.report.tables.build` for the arguments."""
    labels = labels_of(task.proof for task in tasks)
    of_tasks = [
        (task.proof, rule, labels[rule], cell)
        for task in tasks
        for rule, cell in metrics["tasks"][task.name]["proof"].items()
    ]
    zil, controls = ([row for row in of_tasks if (row[1] == "zil") == proven] for proven in (True, False))
    models = [
        (source, r["rule"], r["label"], metrics["zoo"][source.task]["proof"]) for source in zoo for r in source.records
    ]
    headed = (("Z-IL", zil), ("Z-IL on torchvision’s classifiers", models), ("controls", controls))
    groups = tuple(Group(heading, tuple(map(_row, rows))) for heading, rows in headed if rows)
    records = tuple(_record(*row) for row in (*zil, *models, *controls))
    equal = sum(cell["equal"] for *_, cell in (*zil, *models))
    told = sum(not cell["equal"] for *_, cell in controls if "refused" not in cell)
    caption = (
        f"Whether one weight update is BP's program, operation for operation: {equal} of {len(zil) + len(models)} of Z-IL's. "
        "Where it is, both compute the same bits from every input of these shapes, whatever stands in it. Compared are ATen "
        "operations in canonical form: what each computes, from which others. It rests on kernels that repeat themselves, on "
        f"capturing what really runs, and on SHA-256. Controls must differ, and {told} of {len(controls)} do: of each, the "
        "first operation that BP's program lacks, and the line of the model that made it or whose value it reads; the others "
        "have no program. Exact: the same on the same versions."
    )
    heads = ("rule", "task or model", "as", "operations", "program", "digest")
    return Table("certificates", "Certificates: the same program for every input", caption, heads, groups, records)


def _row(entry):
    source, _, label, cell = entry
    name = source.task
    if "refused" in cell:
        return name, label, MISSING, f"none: {cell['refused'].partition(',')[0]}", MISSING
    if cell["equal"]:
        return name, label, writing.count(cell["operations"]), EQUAL, cell["digest"][:_DIGITS]
    size = f"{writing.count(cell['own_operations'])}, BP {writing.count(cell['operations'])}"
    place = ", ".join(filter(None, (cell["step"] or cell["expected"], cell["line"])))
    return name, label, size, f"not equal: {place or cell['explanation']}", cell["digest"][:_DIGITS]


def _record(source, rule, label, cell):
    figures = {key: "" if cell.get(key) is None else cell[key] for key in _FIGURES + _PARTING}
    return {"subject": source.task, "rule": rule, "label": label, **figures, "source": source.path.as_posix()}
