"""Training with torchtext as back end, and with PCBench's own loader, on the 7,600 real articles of AG News' test file.

    .venv-torchtext/bin/python tests/torchtext/training.py

Every fifth article is kept to test on. Exits with 1 if Z-IL's weights are not BP's after every update, or if anything
that was trained on or measured differs between the two back ends.
"""

import os
import sys
import tempfile
from pathlib import Path

import parity

# Small enough for half a minute on one core, nearly all of it IL's.
LENGTH, SIZE = 64, 5_000  # see `pcbench.data.ag_news.spec`
NUMBERS = {
    "model": {"steps": 16, "embedding": 32, "hidden": 64},
    "batch_size": 128,
    "optimizer": {"name": "adam", "lr": 0.005},
}
RULES = {
    "bp": {"label": "BP", "engine": "bp"},
    "zil": {"label": "Z-IL", "engine": "zil"},
    "il": {"label": "IL, T = 8", "engine": "il", "steps": 8, "gamma": 0.1},
}
EPOCHS = 2


def parts(rows):
    """The rows to train and to test on."""
    return {"train": [row for i, row in enumerate(rows) if i % 5], "test": rows[::5]}


def data_sets(official, folder):
    """The data set by back end; both verify the official file by its MD5."""
    import backend

    from pcbench.data import _store, _text, ag_news

    # torchtext takes the official file from its cache only if the MD5 is right, and would download it otherwise.
    cache = backend.cache("ag-news", folder)
    cache.mkdir(parents=True)
    (cache / "test.csv").symlink_to(official.resolve())
    os.environ["PCBENCH_MIRROR"] = str(cache)
    spec = ag_news.spec({"test": ag_news.MD5["test"]}, LENGTH, SIZE)
    fetched = _store.fetch(spec, folder / "pcbench")
    classes = spec.read.args[3]

    def rows(fetched, split):
        return parts(ag_news.rows(fetched, "test"))[split]

    theirs = parts(backend.rows("ag-news", folder, "test"))
    return {
        "torchtext": backend.dataset("ag-news", theirs["train"], theirs["test"], classes, LENGTH, SIZE),
        "PCBench": _text.read("ag-news", rows, "test", classes, LENGTH, SIZE, fetched),
    }


def row(backend, data, metrics):
    """A row of the table, and whether Z-IL is BP in it."""
    updates, ulps = metrics["bp"]["updates"], metrics["zil"]["divergence"]["max_ulp"]
    equal = sum(ulp == 0 for ulp in ulps)
    weights = [metrics[rule]["weights_sha256"] for rule in ("bp", "zil")]
    accuracies = [f"{100 * found['test_accuracy']:.1f}" for found in metrics.values()]
    rows = len(data.train.targets) + len(data.test.targets)
    cells = [backend, f"{rows:,}", updates, equal, *accuracies, *(sha256[:12] for sha256 in weights)]
    return cells, equal == updates == len(ulps) and weights[0] == weights[1]


def main():
    """Train with both back ends and print the table."""
    official = parity.official_texts()
    if official is None:
        print(f"{parity.MISSING}; nothing is trained")
        return 0
    import torch
    import torchtext
    from tabulate import tabulate

    torchtext.disable_torchtext_deprecation_warning()
    import backend

    from pcbench import tasks
    from pcbench.measure.matched import Matched
    from pcbench.measure.training import train

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = data_sets(official, folder)
        task = tasks.named("agnews-rnn", "token_rnn")
        found = {
            name: train(Matched(task, NUMBERS, data[name]), {"rules": RULES}, 0, EPOCHS, folder / f"{name}.pt")
            for name in data
        }
    rows, exact = zip(
        *(
            row(name, data[name], {entry["rule"]: entry["metrics"] for entry in result["results"]})
            for name, result in found.items()
        ),
        strict=True,
    )
    headers = ["back end", "rows", "updates", "Z-IL has BP's weights"]
    headers += [f"{entry['label']}, %" for entry in RULES.values()] + ["BP's weights", "Z-IL's weights"]
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))
    differing = backend.differences(data["PCBench"], data["torchtext"])
    if found["PCBench"] != found["torchtext"]:
        differing.append("the results of training")
    print(f"The two back ends {'differ in ' + ', '.join(differing) if differing else 'agree in every bit'}.")
    return int(not all(exact) or bool(differing))


if __name__ == "__main__":
    sys.exit(main())
