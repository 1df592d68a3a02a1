"""The stages of the pipeline, training above all; oracle: the bits of a run that nothing interrupted.

Aimed at: a checkpoint of other numbers that is gone on from, finished work that is repeated, a killed run that leaves half a
result.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml

from pcbench import code, pipeline, stages
from pcbench.check import reproduction
from pcbench.errors import PCBenchError
from pcbench.files import read_json
from pcbench.provenance import result_digest, sidecar

CHECKPOINTS = Path(".pcbench/checkpoints")
ROOT = Path(__file__).resolve().parents[2]
OWN = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def parameters(epochs=1, seeds=(0,), lr=0.003):
    """Z-IL and BP only, so that an epoch is short."""
    return {
        "device": "cpu",
        "profiles": {"smoke": {"seeds": list(seeds), "tasks": {"digits-mlp": epochs}}},
        "tasks": {
            "digits-mlp": {
                **{"network": "mlp", "data": "digits", "model": {"hidden": 8}},
                **{"batch_size": 64, "optimizer": {"name": "adam", "lr": lr}},
            },
        },
        "rules": OWN["rules"],
        "train": {"rules": ["bp", "zil"]},
    }


@pytest.fixture(autouse=True)
def _here(as_before, tmp_path, monkeypatch):
    """A stage writes where it runs."""
    monkeypatch.chdir(tmp_path)


def test_the_stages_that_are_made_of_cells_are_those_that_are_held_to_their_bits():
    """A stage that only one of both lists knows is computed by no executor, or its bits are held to nothing."""
    assert sorted(f"{stage}@" for stage in pipeline._ORDER) == sorted(reproduction.DETERMINISTIC)


def experiment(digits, **options):
    return stages.Experiment("digits-mlp", "smoke", parameters(**options), digits)


def written():
    """When each seed's checkpoint was written last."""
    return {path.name: path.stat().st_mtime_ns for path in CHECKPOINTS.glob("*/*/*/*.pt")}


@pytest.mark.slow
def test_training_blocked_at_its_end_is_finished_without_training_again(digits, tmp_path, monkeypatch):
    """Every seed was trained, but the result could not be written: its checkpoints answer the next run."""
    folder = Path("results/smoke/train/digits-mlp")
    in_the_way = sidecar(folder).absolute()

    def block():  # only now: what is in the way from the start is refused before the work
        while not written():
            time.sleep(0.001)
        in_the_way.mkdir(parents=True)

    blocking = threading.Thread(target=block)
    blocking.start()
    with pytest.raises(PCBenchError, match=r"cannot write .*provenance\.json"):
        stages.train(experiment(digits, epochs=3))
    blocking.join()
    in_the_way.rmdir()
    before = written()
    assert stages.train(experiment(digits, epochs=3)) == folder and before.keys() == {"seed-0.pt"}
    assert written() == before, "it was trained again"
    blocked = result_digest(folder)
    clean = tmp_path / "clean"
    clean.mkdir()
    monkeypatch.chdir(clean)
    again = stages.train(experiment(digits, epochs=3))
    assert result_digest(again) == blocked
    (found,) = again.glob("seed-*.json")
    rules = {record["rule"]: record["metrics"] for record in read_json(found)["results"]}
    assert rules["zil"]["weights_sha256"] == rules["bp"]["weights_sha256"]
    record = read_json(sidecar(again))
    assert record["result_sha256"] == result_digest(again)
    assert record["code_sha256"] == code.digest("train", "pcbench.tasks.mlp", "pcbench.data.digits")
    assert (record["parameters"]["epochs"], record["parameters"]["seeds"], record["threads"]) == (3, [0], 1)


@pytest.mark.slow
def test_a_checkpoint_of_other_numbers_is_not_gone_on_from(digits):
    """After a change of the learning rate the result is that of a run which never saw the old one."""
    old = result_digest(stages.train(experiment(digits)))
    first = written()
    changed = result_digest(stages.train(experiment(digits, lr=0.01)))
    assert written().keys() == first.keys() and written() != first, "those of the old numbers would pile up"
    assert changed != old
    shutil.rmtree(CHECKPOINTS)
    assert result_digest(stages.train(experiment(digits, lr=0.01))) == changed


@pytest.mark.slow
def test_another_seed_and_another_epoch_train_no_more_than_that_to_the_bits_of_a_run_of_all(digits):
    stages.train(experiment(digits, seeds=(0,), epochs=1))
    one = written()
    more = stages.train(experiment(digits, seeds=(0, 1), epochs=1))
    two = written()
    assert two["seed-0.pt"] == one["seed-0.pt"] and two.keys() == {"seed-0.pt", "seed-1.pt"}
    before = {path.name: path.read_bytes() for path in more.iterdir()}
    whole = result_digest(stages.train(experiment(digits, seeds=(0, 1), epochs=2)))
    shutil.rmtree(CHECKPOINTS)
    assert result_digest(stages.train(experiment(digits, seeds=(0, 1), epochs=2))) == whole
    fewer = stages.train(experiment(digits, seeds=(0, 1), epochs=1))  # there is no way back, but anew
    assert {path.name: path.read_bytes() for path in fewer.iterdir()} == before


@pytest.mark.slow
def test_asked_for_the_same_again_it_trains_anew(digits):
    """DVC asks for it only when it is forced to: then what was kept must not answer."""
    digest = result_digest(stages.train(experiment(digits)))
    before = written()
    assert result_digest(stages.train(experiment(digits))) == digest
    assert written().keys() == before.keys() and written() != before


@pytest.mark.slow
def test_fewer_seeds_leave_no_stale_one_behind(digits):
    folder = stages.train(experiment(digits, seeds=(0, 1)))
    both = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(both) == ["seed-0.json", "seed-1.json"]
    stages.train(experiment(digits, seeds=(1,)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"seed-1.json": both["seed-1.json"]}


SCRIPT = """
import sys, yaml
from pathlib import Path
from pcbench import stages
if __name__ == "__main__":
    whole = yaml.safe_load(Path("own.yaml").read_text())
    stages.train(stages.Experiment("digits-mlp", "smoke", whole, Path(sys.argv[1])))
"""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers_of(pid):
    """The processes that ``pid`` started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("whole_group", [True, False], ids=["all processes", "the parent only"])
def test_killed_in_the_middle_it_resumes_to_the_same_bits(digits, tmp_path, whole_group):
    whole = parameters(epochs=15, seeds=(0, 1))
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(whole))
    (tmp_path / "run.py").write_text(SCRIPT)
    # A copy, for whoever edits the package meanwhile: a checkpoint of other code is not gone on from.
    shutil.copytree(ROOT / "pcbench", tmp_path / "package" / "pcbench", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "run.py", str(digits)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "package")}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **quiet)
    while process.poll() is None and not list(tmp_path.glob(".pcbench/checkpoints/*/*/*/seed-*.pt")):
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be killed: make the run longer"
    workers = workers_of(process.pid)
    if whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    for _ in range(600):  # orphans notice at the end of their epoch
        if not any(map(alive, workers)):
            break
        time.sleep(0.1)
    assert not any(map(alive, workers)), "a worker outlives its parent"
    assert not (tmp_path / "results").exists()
    kept = list(tmp_path.glob(".pcbench/checkpoints/*/*/*/seed-*.pt"))
    assert kept
    states = [torch.load(path, weights_only=True) for path in kept]
    epochs = [len(yaml.safe_load(state["bp"]["record"])[0]) for state in states]
    assert any(0 < done < 15 for done in epochs), f"nothing was interrupted: {epochs}"
    subprocess.run(command, cwd=tmp_path, check=True, **quiet)
    resumed = result_digest(tmp_path / "results/smoke/train/digits-mlp")
    expected = stages.train(
        stages.Experiment(
            "digits-mlp", "expected", {**whole, "profiles": {"expected": whole["profiles"]["smoke"]}}, digits
        )
    )
    assert resumed == result_digest(expected)
