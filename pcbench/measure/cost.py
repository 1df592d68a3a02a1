"""Table 2: time and memory of one weight update, every rule beside backpropagation in one process.

Times on a shared machine drift by more than the rules differ. So every round times every rule once, one after another,
and what is reported is the median over rounds of each round's ratio to backpropagation. The instruction set is the
processor's own, not the one that `pcbench.instructions` pins for bits.
"""

import os
import time

import numpy as np
import torch

from pcbench.measure._setup import first_batch, initial_model, make_optimizer, make_rule

REFERENCE = "bp"


def cost(task, numbers, data, settings, rounds, advance=lambda: None):
    """Measure seconds and peak memory per weight update (gradient and optimizer step) of every rule.

    Args:
        task, numbers, data: see `pcbench.measure.exactness.compare_rules`.
        settings: the section ``cost`` of params.yaml.
        rounds: how often every rule is timed.
        advance: called after every round.

    Returns:
        The result as a JSON value: seconds, ratios to backpropagation (medians and quartiles over rounds), peak bytes.
    """
    updates = {name: weight_update(task, numbers, data, entry) for name, entry in settings["rules"].items()}
    for _ in range(settings["warmup"]):
        for update in updates.values():
            update()
        advance()
    seconds = {name: [] for name in updates}
    names = list(updates)
    for i in range(rounds):
        # Rotated, so that no rule always follows the same one.
        for name in names[i % len(names) :] + names[: i % len(names)]:
            seconds[name].append(_timed(updates[name]))
        advance()
    peaks = {name: peak_bytes(update) for name, update in updates.items()}
    results = []
    for name, entry in settings["rules"].items():
        ratios = np.divide(seconds[name], seconds[REFERENCE])
        metrics = {
            "seconds": {**_quartiles(seconds[name]), "samples": seconds[name]},
            "ratio": _quartiles(ratios),
            "peak_bytes": peaks[name],
            "peak_ratio": peaks[name] / peaks[REFERENCE],
        }
        results.append({"rule": name, "label": entry["label"], "metrics": metrics})
    head = {"schema": 1, "stage": "cost", "task": task.name, "family": task.family}
    capability = torch.backends.cpu.get_cpu_capability()
    return {**head, "threads": torch.get_num_threads(), "instruction_set": capability, "results": results}


def weight_update(task, numbers, data, entry):
    """Return a function that makes one weight update of a new model, always on the same batch.

    Args:
        task, numbers, data: see `cost`.
        entry: the rule's entry in params.yaml.
    """
    batch = first_batch(data.train, numbers["batch_size"], seed=0)
    model = initial_model(task, numbers, data, seed=0)
    rule = make_rule(entry, model, seed=0)
    optimizer = make_optimizer(numbers["optimizer"], model)

    def update():
        rule.backward(*batch, task.loss)
        optimizer.step()
        optimizer.zero_grad()  # last, so that an update frees what it has allocated, and no other one's memory

    return update


def _timed(update):
    _synchronize()
    start = time.perf_counter()
    update()
    _synchronize()
    return time.perf_counter() - start


def _synchronize():
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def peak_bytes(update):
    """The most bytes of tensors alive at once during ``update``, beyond those alive before it.

    From the profiler's record of every allocation: the process's resident size would also count the allocator's habits.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's library chats on stderr otherwise
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        update()
    allocations = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    # start_us until torch 2.3
    allocations.sort(key=lambda event: event.start_ns() if hasattr(event, "start_ns") else event.start_us())
    alive = np.cumsum([event.nbytes() for event in allocations], dtype=np.int64)
    return int(max(alive.max(initial=0), 0))


def _quartiles(values):
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "q1": float(q1), "q3": float(q3)}
