"""What only Ray does; oracle: the same cells, computed by this machine's processes.

Aimed at: a head that is gone taken for an answer, and nodes that lack the folder.
"""

import signal

import pytest
from clusters import CELLS, LONG, Checkout, Stored, ended, until

pytestmark = pytest.mark.slow


def test_a_head_that_is_restarted_is_found_again(ray, tmp_path, locally):
    checkout = Checkout(tmp_path / "here", LONG)
    stored = Stored(checkout, "train", "digits-mlp")
    process = checkout.drive("ray", CELLS, ray.options, **ray.variables)
    until("a training is under way", lambda: [*checkout.folder.glob(".pcbench/checkpoints/smoke/digits-mlp/*/*.pt")])
    ray.lose("node1")
    ray.start("node1", head=True)
    outcomes, code, wrong = ended(process)
    assert code == 0 and not any(outcomes.values()), wrong
    assert f"Ray's head at '{ray.address}' is gone" in wrong
    assert sorted(stored.count().values()) == [1, 1]
    assert checkout.records() == locally(LONG)


def test_a_head_that_stays_away_is_exit_code_2_and_what_is_finished_is_kept(ray, tmp_path, locally):
    checkout = Checkout(tmp_path / "here", LONG)
    stored = Stored(checkout, "exactness", "digits-mlp")
    process = checkout.drive("ray", CELLS, ray.options, **ray.variables)
    until("a training is under way", lambda: [*checkout.folder.glob(".pcbench/checkpoints/smoke/digits-mlp/*/*.pt")])
    ray.lose("node1")
    outcomes, code, wrong = ended(process)
    assert code == 2 and wrong.strip().splitlines()[-1].startswith("error: "), wrong
    assert ray.address in wrong and "ray start --head" in wrong
    assert len(outcomes) == 3  # the exactness of every seed, which come first
    ray.start("node1", head=True)
    outcomes, code, wrong = ended(checkout.drive("ray", CELLS, ray.options, **ray.variables))
    assert code == 0 and [*outcomes.values()] == [""] * 2, wrong
    assert sorted(stored.count().values()) == [1] * 3
    assert checkout.records() == locally(LONG)


def test_nodes_without_the_folder_get_a_copy_and_fetch_the_data_themselves(ray, tmp_path, locally):
    checkout = Checkout(tmp_path / "here", LONG)
    ray.lose("node1")
    ray.start("node1", head=True, hidden=[checkout.folder])
    process = checkout.drive("ray", CELLS, [*ray.options, "shared=no"], **ray.variables)
    until("it is told here who computes", lambda: {each["host"] for each in checkout.running()} == {"node1"})
    outcomes, code, wrong = ended(process)
    assert code == 0 and not any(outcomes.values()), (outcomes, wrong)
    assert not [*checkout.folder.glob(".pcbench/**/*.lock")], "computed here after all"
    assert not checkout.running()
    assert checkout.records() == locally(LONG)


def test_a_node_without_the_folder_is_kept_away_from(ray, tmp_path, locally):
    checkout = Checkout(tmp_path / "here")
    ray.start("node2", hidden=[checkout.folder])
    outcomes, code, wrong = ended(checkout.drive("ray", CELLS, ray.options, **ray.variables))
    assert code == 0 and not any(outcomes.values()), (outcomes, wrong)
    assert checkout.records() == locally()


def test_interrupted_it_ends_its_workers(ray, tmp_path):
    checkout = Checkout(tmp_path / "here", LONG)
    process = checkout.drive("ray", CELLS, ray.options, **ray.variables)
    until("a training is under way", lambda: [*checkout.folder.glob(".pcbench/checkpoints/smoke/digits-mlp/*/*.pt")])
    running = checkout.running()
    process.send_signal(signal.SIGINT)
    assert ended(process)[1] == 130
    for each in running:
        until("its worker ends", lambda each=each: not ray.nodes["node1"].kill(each["pid"]))


def test_no_cluster_is_exit_code_2_with_what_starts_one(ray, tmp_path):
    checkout = Checkout(tmp_path / "here")
    outcomes, code, wrong = ended(checkout.drive("ray", CELLS, ["address=127.0.0.1:1"], **ray.variables))
    assert code == 2 and not outcomes
    assert "127.0.0.1:1" in wrong and "ray start --head" in wrong and "Traceback" not in wrong
