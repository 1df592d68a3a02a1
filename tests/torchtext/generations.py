"""What two generations of PyTorch agree on: one weight update of BP and of Z-IL, on every network of the tests and on tasks.

.venv/bin/python           tests/torchtext/generations.py write NEW.pt
.venv-torchtext/bin/python tests/torchtext/generations.py write OLD.pt
.venv/bin/python           tests/torchtext/generations.py compare OLD.pt NEW.pt
"""

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

TASKS = (
    "digits-mlp",
    "digits-cnn",
    "digits-rnn",
    "digits-transformer",
    "surnames-rnn",
    "surnames-lstm",
    "surnames-gru",
)
RULES = ("bp", "zil")


def updates():
    """For each network its initial weights, its loss and what each rule makes of the weights: dicts of tensors."""
    from problems import PROBLEMS, bits

    from pcbench import data, params
    from pcbench.measure.matched import Matched
    from pcbench.randomness import global_stream
    from pcbench.rules import by_name

    def one_update(model, inputs, targets, loss_fn):
        result = {"initial": {name: value.clone() for name, value in model.state_dict().items()}}
        for rule in RULES:
            model.load_state_dict(result["initial"])
            with global_stream(0, "dropout", 0):
                loss = by_name(rule, model).backward(inputs, targets, loss_fn)
            torch.optim.SGD(model.parameters(), lr=0.1).step()
            result[rule] = {"loss": loss, **{name: value.clone() for name, value in model.state_dict().items()}}
            model.zero_grad()
        result["exact"] = all(torch.equal(bits(a), bits(result["zil"][name])) for name, a in result["bp"].items())
        return result

    found = {problem.name: one_update(*problem.build(torch.float32), problem.loss) for problem in PROBLEMS}
    parameters = params.load(ROOT / "params.yaml")
    for name in TASKS:
        data.fetch(params.task(parameters, name)["data"], ROOT / "datasets")
        matched = Matched.load(parameters, name, ROOT / "datasets")
        found[name] = one_update(matched.model(seed=0), *matched.first_batch(seed=0), matched.task.loss)
    return found


def draws():
    """What torch's global generator gives for one seed."""

    def drawn(draw):
        torch.manual_seed(0)
        return draw()

    ones = torch.ones(1000)
    return {
        "uniform numbers": drawn(lambda: torch.rand(1000)),
        "normal numbers": drawn(lambda: torch.randn(1000)),
        "permutations": drawn(lambda: torch.randperm(1000)),
        "dropout masks": drawn(lambda: torch.nn.functional.dropout(ones)),
    }


def compare(old, new):
    """A row for each network, and whether Z-IL equals BP in every one of them, in both."""

    def largest(a, b):
        return max((a[name].double() - b[name].double()).abs().max().item() for name in a)

    def same(a, b):
        return "same bits" if all(torch.equal(a[name], b[name]) for name in a) else f"{largest(a, b):.1e}"

    rows = [
        [
            name,
            *("=" if generation[name]["exact"] else "DIFFERS" for generation in (old, new)),
            same(old[name]["initial"], new[name]["initial"]),
            same({"": old[name]["bp"].pop("loss")}, {"": new[name]["bp"].pop("loss")}),
            same(old[name]["bp"], new[name]["bp"]),
        ]
        for name in old
    ]
    return rows, all(generation[name]["exact"] for generation in (old, new) for name in old)


def main(command, *paths):
    """Run one of the commands above; `compare` exits with 1 if Z-IL is not BP somewhere, in either generation."""
    if command == "write":
        torch.set_num_threads(1)  # how sums are split among threads is no question of generations
        torch.save({"torch": str(torch.__version__), "updates": updates(), "draws": draws()}, paths[0])
        return 0
    from tabulate import tabulate

    old, new = (torch.load(path, weights_only=True) for path in paths)
    rows, exact = compare(old["updates"], new["updates"])
    versions = [generation["torch"].partition("+")[0] for generation in (old, new)]
    headers = [
        "network",
        *(f"Z-IL, BP in {version}" for version in versions),
        "initial weights",
        "loss",
        "weights, updated",
    ]
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))
    agree = {column: sum(row[i] == "same bits" for row in rows) for i, column in enumerate(headers) if i > 2}
    told = ", ".join(f"{column} of {count}" for column, count in agree.items())
    print(
        f"Of {len(rows)} networks the two generations give the same bits in: {told}; else the largest difference stands."
    )
    for name, drawn in old["draws"].items():
        print(f"From one seed, {name} {'are the same' if torch.equal(drawn, new['draws'][name]) else 'DIFFER'}.")
    return int(not exact)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
