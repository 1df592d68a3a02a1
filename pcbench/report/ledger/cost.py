"""Claims on what a weight update takes: by the clock, and in operations, which need none."""

from pcbench.params import REFERENCE, Result
from pcbench.report.ledger.words import (
    NOT_TESTED,
    REFUTED,
    REPRODUCED,
    Found,
    Judged,
    Test,
    label,
    listed,
    needs,
    of_tasks,
    plural,
    ratios,
    which,
)
from pcbench.report.writing import count, ratio, span

# "Significantly more costly": by half at least, in three of four rounds.
SIGNIFICANT = 1.5
PARITY = 1.05  # "within 5 %"
ORDERS = 100  # "orders of magnitude": two at least


@needs("cost", ("il-20",), "times")
def il_costly(metrics: Result, found: Found) -> Judged:
    """IL takes significantly longer than BP on every task."""
    costs = found["il-20"]
    figures = f"A weight update of {label(metrics, 'il-20')} takes {ratios(costs)} times BP's (median)."
    cheap = [task for task, cost in costs.items() if cost["ratio"]["q1"] <= SIGNIFICANT]
    if cheap:
        return REFUTED, f"{figures} Not above {SIGNIFICANT} in three of four rounds on {which(cheap, costs)}."
    return REPRODUCED, figures


@needs("cost", ("zil", "il-20"), "times")
def efficient(metrics: Result, found: Found) -> Judged:
    """Z-IL does not take significantly longer than BP, as IL does, on any task."""
    zil = found["zil"]
    figures = (
        f"A weight update of Z-IL takes {ratios(zil)} times BP's (median), "
        f"{label(metrics, 'il-20')} {ratios(found['il-20'])}.{_replayed(metrics)}"
    )
    dear = [task for task, cost in zil.items() if cost["ratio"]["q3"] > SIGNIFICANT]
    if dear:
        return REFUTED, f"{figures} Above {SIGNIFICANT} in more than one of four rounds on {which(dear, zil)}."
    return REPRODUCED, figures


@needs("cost", ("zil",), "times")
def parity(metrics: Result, found: Found) -> Judged:
    """Z-IL's median time is within 5 % of BP's on every task."""
    figures = f"A weight update of Z-IL takes {ratios(found['zil'])} times BP's (median).{_replayed(metrics)}"
    dear = [task for task, cost in found["zil"].items() if cost["ratio"]["median"] > PARITY]
    if dear:
        return REFUTED, f"{figures} Above {PARITY} on {which(dear, found['zil'])}."
    return REPRODUCED, figures


def _replayed(metrics):
    """What captured updates take, where all are: the same work without Python's part in it."""
    found, missing = of_tasks(metrics, "cost", ("zil-captured",), "times")
    if missing:
        return ""
    times = [cost["captured_ratio"]["median"] for cost in found["zil-captured"].values()]
    return f" Replayed as programs, Z-IL takes {span(times, ratio)} times captured BP's."


@needs("cost", ("zil", "il-L", "il-20"), "times")
def cheaper(metrics: Result, found: Found) -> Judged:
    """Z-IL's quartiles lie below IL's on every task: cheaper by more than the rounds scatter."""
    zil = found.pop("zil")
    figures = (
        f"A weight update of Z-IL takes {ratios(zil)} times BP's (median), "
        f"{' and '.join(f'{label(metrics, rule)} {ratios(costs)}' for rule, costs in found.items())}."
    )
    dear = [
        task
        for task, cost in zil.items()
        if cost["ratio"]["q3"] >= min(costs[task]["ratio"]["q1"] for costs in found.values())
    ]
    if dear:
        return REFUTED, f"{figures} Not clearly cheaper than IL on {which(dear, zil)}."
    return REPRODUCED, figures


@needs("cost", ("zil", "il-20"), "times")
def orders_faster(metrics: Result, found: Found) -> Judged:
    """IL takes orders of magnitude more time than Z-IL, on every task."""
    quotients = {
        task: found["il-20"][task]["ratio"]["median"] / cost["ratio"]["median"] for task, cost in found["zil"].items()
    }
    figures = (
        f"A weight update of {label(metrics, 'il-20')} takes {span(quotients.values(), ratio)} times Z-IL's (medians)."
    )
    near = [task for task, quotient in quotients.items() if quotient < ORDERS]
    if near:
        return REFUTED, f"{figures} Less than {ORDERS} times on {which(near, quotients)}."
    return REPRODUCED, figures


def bounded(metrics: Result) -> Judged:
    """Z-IL takes as many operations as BP at least, on every task and at the largest size along every axis."""
    counted, missing = _counted(metrics)
    if missing:
        return NOT_TESTED, missing
    fewer = [place for place, (own, bp) in counted.items() if own < bp]
    if fewer:
        return REFUTED, f"Fewer operations than BP's on {listed(fewer)}."
    more = [place for place, (own, bp) in counted.items() if own > bp]
    many = f"more on {listed(more)}" if more else "as many as BP's"
    clock = _replayed(metrics)
    return REPRODUCED, f"Operations of a weight update, counted {_places(metrics)}: {many}, never fewer.{clock}"


def worse(metrics: Result) -> Judged:
    """Z-IL takes more operations than BP wherever they are counted: a guarantee has no exception."""
    counted, missing = _counted(metrics)
    if missing:
        return NOT_TESTED, missing
    no_worse = [place for place, (own, bp) in counted.items() if own <= bp]
    state = [
        (cell["own_operations"], cell["operations"])
        for cell in (entry["proof"].get("zil-state", {}) for entry in metrics["tasks"].values())
        if "own_operations" in cell
    ]
    told = ""
    if state:
        own, bp = (span(numbers, count) for numbers in zip(*state, strict=True))
        told = f" The state form's programs have {own} operations, BP's {bp} ({plural(state, 'task')} with a program)."
    if no_worse:
        held = "everywhere" if len(no_worse) == len(counted) else f"on {listed(no_worse)}"
        return REFUTED, f"Operations of a weight update in error form, counted {_places(metrics)}: BP's {held}.{told}"
    return REPRODUCED, f"More operations than BP's, counted {_places(metrics)}.{told}"


def _counted(metrics):
    """``({place: (Z-IL's operations, BP's)}, None)``, places being tasks and axes, or ``({}, why)``."""
    rules = ("zil", REFERENCE)
    cells = {name: entry["cost"] for name, entry in metrics["tasks"].items()} | {
        f"{axis} {row[REFERENCE]['largest']}": row for axis, row in metrics["scaling"].items() if REFERENCE in row
    }
    if not metrics["scaling"]:
        return {}, "This profile does not measure how cost grows."
    missing = [f"{rule} on {place}" for place, row in cells.items() for rule in rules if rule not in row]
    if missing:
        return {}, f"No operations: {listed(missing)}."
    return {place: tuple(row[rule]["operations"] for rule in rules) for place, row in cells.items()}, None


def _places(metrics):
    axes = (f"{axis} {rows[REFERENCE]['largest']}" for axis, rows in metrics["scaling"].items())
    return f"on {plural(metrics['tasks'], 'task')} and at {listed(axes)}"


TESTS: dict[str, Test] = {
    "il-costly": il_costly,
    "zil-efficient": efficient,
    "zil-parity": parity,
    "zil-cheaper": cheaper,
    "zil-orders": orders_faster,
    "time-bound": bounded,
    "time-worse": worse,
}
