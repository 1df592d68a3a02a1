"""What only Slurm does; oracle: the same cells, computed by this machine's processes.

Aimed at: jobs that nobody cancels, or that end without a word.
"""

import signal

import pytest
from clusters import CELLS, LONG, Checkout, Stored, ended, until

pytestmark = pytest.mark.slow


@pytest.fixture
def node(slurm):
    """Slurm with one node."""
    slurm.start("node1")
    return slurm


def started(checkout):
    return lambda: [*checkout.folder.glob(".pcbench/checkpoints/smoke/digits-mlp/*/*.pt")]


def test_a_controller_that_is_restarted_is_waited_for(node, tmp_path, locally):
    checkout = Checkout(tmp_path / "here", LONG)
    stored = Stored(checkout, "train", "digits-mlp")
    process = checkout.drive("slurm", "train:digits-mlp", **node.variables)
    until("a training is under way", started(checkout))
    node.stop_controller()
    until("the driver has met nobody", lambda: node.ask("squeue").returncode)
    node.start_controller()
    outcomes, code, wrong = ended(process)
    assert code == 0 and not any(outcomes.values()), wrong
    assert sorted(stored.count().values()) == [1, 1]
    assert checkout.records() == locally(LONG, "train:digits-mlp")


def test_a_job_that_somebody_cancels_is_submitted_once_more_and_then_reported(node, tmp_path):
    # Long enough that what is cancelled, and has a moment for its end, is not finished by then.
    changed = {"profiles.smoke.tasks.digits-mlp": 100, "profiles.smoke.seeds": [0]}
    checkout = Checkout(tmp_path / "here", changed)
    process = checkout.drive("slurm", CELLS, **node.variables)
    for _ in range(2):
        until("a training is under way", lambda: [*checkout.folder.rglob("train/digits-mlp/*.running")])
        assert node.ask("scancel", "--state", "RUNNING", "--name", "pcbench").returncode == 0
        until("it is over", lambda: not node.ask("squeue", "-h", "-t", "RUNNING,COMPLETING").stdout.strip())
        for path in checkout.folder.rglob("*.running"):
            path.unlink()
    outcomes, code, wrong = ended(process)
    assert code == 0, wrong
    ((cell, why),) = [each for each in outcomes.items() if each[1]]
    assert cell == "train digits-mlp 0" and "ended as CANCELLED (on node1)" in why and "\n" not in why
    assert len(outcomes) == 7 and len(checkout.records()) == 6


def test_interrupted_it_cancels_its_jobs_and_leaves_no_folder(node, tmp_path):
    checkout = Checkout(tmp_path / "here", LONG)
    process = checkout.drive("slurm", CELLS, **node.variables)
    until("a job runs", lambda: node.ask("squeue", "-h", "-t", "RUNNING").stdout.strip())
    process.send_signal(signal.SIGINT)
    assert ended(process)[1] == 130
    until("no job is left", lambda: not node.ask("squeue", "-h").stdout.strip())
    assert not [*checkout.folder.glob(".pcbench/slurm-*")]


def test_cells_dealt_out_to_fewer_jobs_have_the_same_bits(node, tmp_path, locally):
    checkout = Checkout(tmp_path / "here")
    outcomes, code, wrong = ended(checkout.drive("slurm", CELLS, ["jobs=2", "time=10"], **node.variables))
    assert code == 0 and not any(outcomes.values()), wrong
    assert checkout.records() == locally()


def test_a_partition_that_is_not_there_is_exit_code_2_with_what_slurm_says(node, tmp_path):
    checkout = Checkout(tmp_path / "here")
    outcomes, code, wrong = ended(checkout.drive("slurm", CELLS, ["partition=none"], **node.variables))
    assert code == 2 and not outcomes
    assert "partition" in wrong.splitlines()[-1] and "Traceback" not in wrong


def test_no_controller_is_exit_code_2(node, tmp_path):
    checkout = Checkout(tmp_path / "here")
    node.stop_controller()
    outcomes, code, wrong = ended(checkout.drive("slurm", CELLS, **node.variables))
    node.start_controller()
    assert code == 2 and not outcomes and "Traceback" not in wrong
