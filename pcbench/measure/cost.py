"""Table 2: time, memory and operations of one weight update, every rule beside backpropagation in one process.

Every round times every rule once, one after another, and what is reported is the median over rounds of each round's ratio
to backpropagation: as autograd runs it, and of a captured rule also as a program beside which it is another program. The
instruction set is the processor's own, not the one that `pcbench.instructions` pins for bits.
"""

from collections.abc import Callable

import numpy as np
import torch

from pcbench.errors import UnsupportedModule
from pcbench.measure.matched import Matched, make_rule
from pcbench.measure.updates import Update, counted, in_turn, median_interval, peak_bytes, quartiles, ratios
from pcbench.params import REFERENCE, Result, Settings
from pcbench.rules import Captured

CAPTURED_REFERENCE = "bp-captured"


def cost(matched: Matched, settings: Settings, rounds: int, advance: Callable[[], None] = lambda: None) -> Result:
    """Measure what a weight update (gradient and optimizer step) of every rule takes.

    Args:
        matched: `pcbench.measure.matched.Matched`.
        settings: the section ``cost`` of params.yaml.
        rounds: how often every rule is timed.
        advance: called after every round.

    Returns:
        The result as a JSON value: seconds, ratios to backpropagation (medians and quartiles over rounds, and the median's
        95 % interval), peak bytes, operations and floating-point operations; of a captured rule also the seconds to capture
        it and ratios to captured backpropagation (median and its 95 % interval). A rule that cannot be captured has None for
        its metrics, and ``refused`` says why.

    Raises:
        InvalidParameters: no model, optimizer or rule can be made of its entry.
        NonFiniteLoss: a rule's loss became NaN or infinite.
    """
    updates = {name: update_of(matched, entry) for name, entry in settings["rules"].items()}
    refused = {name: why for name, update in updates.items() if (why := _refused(update)) is not None}
    able = {name: update for name, update in updates.items() if name not in refused}
    seconds = in_turn(able, settings["warmup"], rounds, advance)
    metrics = {name: _metrics(name, update, seconds) for name, update in able.items()}
    for entry in metrics.values():
        entry["peak_ratio"] = entry["peak_bytes"] / metrics[REFERENCE]["peak_bytes"]
    results = [
        {"rule": name, "label": entry["label"], "metrics": metrics.get(name)}
        | ({"refused": refused[name]} if name in refused else {})
        for name, entry in settings["rules"].items()
    ]
    head = {"schema": 1, "stage": "cost", "task": matched.task.name, "family": matched.task.family}
    capability = torch.backends.cpu.get_cpu_capability()
    return {**head, "threads": torch.get_num_threads(), "instruction_set": capability, "results": results}


def update_of(matched: Matched, entry: Settings) -> Update:
    """Return the `pcbench.measure.updates.Update` of a new model, always on the same batch.

    Args:
        matched: see `cost`.
        entry: the rule's entry in params.yaml.

    Raises:
        InvalidParameters: see `cost`.
    """
    model = matched.model(seed=0)
    rule = make_rule(entry, model, seed=0)
    return Update(rule, matched.optimizer(model), *matched.first_batch(seed=0), matched.task.loss)


def _refused(update):
    """Capture the rule of an update that is to be captured; return why it cannot be, or None."""
    if isinstance(update.rule, Captured):
        try:
            update.gradients()
        except UnsupportedModule as error:
            return str(error)
    return None


def _metrics(name, update, seconds):
    found = {
        "seconds": {**quartiles(seconds[name]), "samples": seconds[name]},
        "ratio": ratios(seconds, name, REFERENCE),
        "peak_bytes": peak_bytes(update),
        **counted(update),
    }
    if isinstance(update.rule, Captured):
        found["capture_seconds"] = update.rule.seconds
        if CAPTURED_REFERENCE in seconds:
            found["captured_ratio"] = median_interval(np.divide(seconds[name], seconds[CAPTURED_REFERENCE]))
    return found
