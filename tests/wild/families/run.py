"""Z-IL against backpropagation on the models of real code bases: random weights from configurations, nothing downloaded.

    .venv-wild/bin/python tests/wild/families/run.py [NAME ...] [--rule zil|bp] [--jobs 2] [--fresh] [--report]

NAME: part of ``package/model``; several are alternatives. Each model has a process of its own, so that one that ends the
interpreter is one row. A row is kept in .pcbench/wild/<rule>.jsonl and not measured again without ``--fresh``; what a
model prints and where it fails is in .pcbench/wild/log/. The rule zil ends with writing reports/wild.md.
"""

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
import warnings
from datetime import date
from importlib import import_module, metadata
from multiprocessing import connection
from pathlib import Path

# Read when they are imported. One thread: sums have one order, and jobs do not wait for each other.
os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "agg"}
warnings.simplefilter("ignore")  # the libraries' own

ROOT = Path(__file__).resolve().parents[3]
KEPT = ROOT / ".pcbench" / "wild"
REPORT = ROOT / "reports" / "wild.md"
SECONDS, BYTES = 300, 10 * 2**30
# Our module of each package's models.
PACKAGES = {
    "timm": "timm_models",
    "transformers": "transformers_models",
    "diffusers": "diffusers_models",
    "torchvision": "torchvision_models",
    "torch_geometric": "geometric_models",
    "segmentation-models-pytorch": "segmentation_models",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rule", choices=("zil", "bp"), default="zil")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--fresh", action="store_true", help="measure again what has been measured")
    parser.add_argument("--report", action="store_true", help="measure nothing, only write the report")
    options = parser.parse_args()
    cases = all_cases()
    chosen = [key for key in cases if not options.names or any(name in key for name in options.names)]
    rows = kept_rows(options.rule)
    missing = [] if options.report else [key for key in chosen if options.fresh or key not in rows]
    KEPT.mkdir(parents=True, exist_ok=True)
    for row in measure({key: cases[key] for key in missing}, options.rule, options.jobs):
        rows[row["key"]] = row
        with (KEPT / f"{options.rule}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{row['key']}: {row['verdict']} ({row['seconds']} s)", flush=True)
    if options.rule == "zil":
        REPORT.write_text(report([rows[key] for key in cases if key in rows], len(cases)), encoding="utf-8")
    good = ("identical", "BP repeats")
    return int(any(key not in rows or not rows[key]["verdict"].startswith(good) for key in chosen))


def all_cases():
    """``{"package/model": function that builds it}``."""
    return {f"{p}/{name}": build for p, m in PACKAGES.items() for name, build in import_module(m).MODELS.items()}


def kept_rows(rule):
    """The latest row of each model."""
    file = KEPT / f"{rule}.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return {row["key"]: row for row in map(json.loads, lines)}


def measure(cases, rule, jobs):
    """Yield the row of each model, in the order in which they are done, ``jobs`` at a time."""
    from pcbench.code import digest

    code, waiting, running = digest("verify")[:12], list(reversed(cases.items())), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            receiver, sender = multiprocessing.Pipe(duplex=False)
            # Forked, so that the packages are imported once.
            child = multiprocessing.get_context("fork").Process(target=_in_child, args=(*waiting[-1], rule, sender))
            child.start()
            sender.close()
            running[receiver] = child, waiting.pop()[0], time.monotonic()
        done = connection.wait(list(running), timeout=1)
        for receiver, (child, key, began) in list(running.items()):
            seconds = time.monotonic() - began
            if receiver not in done and seconds < SECONDS:
                continue
            row = _received(receiver, child) if receiver in done else {"verdict": "timeout"}
            child.kill()
            child.join()
            del running[receiver]
            yield {"key": key, "operations": None, "vertices": None, **row, "seconds": round(seconds), "code": code}


def _received(receiver, child):
    try:
        return receiver.recv()
    except EOFError:
        child.join()
        return {"verdict": f"crash: exit code {child.exitcode}"}


def _in_child(key, build, rule, sender):
    import torch
    from compare import verdict

    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    log = KEPT / "log" / f"{key.replace('/', '-').replace(' ', '-')}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(1)
    sender.send(verdict(build, rule))


def report(rows, expected):
    """The page: totals, every row that is not identical with its cause, then a table a package."""
    from causes import CAUSES

    from pcbench.code import digest

    trained = [row for row in rows if not row["verdict"].startswith("BP")]
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in ("torch", *PACKAGES))
    identical = sum(row["verdict"] == "identical" for row in trained)
    other_code = sum(row["code"] != digest("verify")[:12] for row in rows)
    lines = [
        "# Z-IL on the models of real code bases",
        "",
        f"**Bit-identical on {identical} of the {len(trained)} models that backpropagation trains and repeats**; "
        f"{len(rows)} of {expected} measured, {date.today()}, by `make test-wild`.",
        "",
        f"{versions}; Python {sys.version.split()[0]}, one thread of a CPU.",
        "",
        "Random weights from small configurations, training mode with dropout and drop path, two weight updates with SGD",
        "in between; loss, gradients, buffers and the random states of torch, NumPy and Python are compared bit by bit.",
        "Operations are those that autograd records for the first loss; vertices those of `pcbench.Graph`, which is empty",
        "where the state form cannot evaluate an operation again at other values.",
    ]
    if other_code:
        lines += ["", f"{other_code} rows are by another state of `pcbench/` than the report."]
    lines += ["", "## Not identical", ""]
    others = [row for row in rows if row["verdict"] != "identical"]
    lines += [f"- `{row['key']}`: {row['verdict']}{_cause(CAUSES, row)}" for row in others] or ["None."]
    for package in PACKAGES:
        mine = [row for row in rows if row["key"].startswith(f"{package}/")]
        same = sum(row["verdict"] == "identical" for row in mine)
        lines += ["", f"## {package}: {same} of {len(mine)}", "", "| model | operations | vertices | verdict | s |"]
        lines += ["|:---|---:|---:|:---|---:|"]
        for row in mine:
            cells = (row["key"].partition("/")[2], row["operations"], row["vertices"], row["verdict"].partition(":")[0])
            lines.append(f"| {' | '.join('' if c is None else str(c) for c in (*cells, row['seconds']))} |")
    return "\n".join(lines) + "\n"


def _cause(causes, row):
    return f". {causes[row['key']]}" if row["key"] in causes else ""


if __name__ == "__main__":
    sys.exit(main())
