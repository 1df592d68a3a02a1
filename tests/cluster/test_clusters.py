"""Cells computed by a cluster; oracle: the same cells, computed by this machine's processes.

Aimed at: other bits on another node, and at what a fault loses, does twice or leaves half done. Nodes are lost for good.
"""

import pytest
from clusters import CELLS, LONG, Checkout, Stored, ended, until

pytestmark = pytest.mark.slow


def computed(checkout, cluster, asked=CELLS):
    return checkout.drive(cluster.executor, asked, cluster.options, **cluster.variables)


def trained(checkout):
    """Wait until both trainings have begun and have kept an epoch; who computes them."""

    def both():
        found = checkout.running()
        kept = [*checkout.folder.glob(".pcbench/checkpoints/smoke/digits-mlp/*/*.pt")]
        return found if len(found) == 2 and len(kept) == 2 else None

    return until("two trainings are under way", both)


def test_two_nodes_compute_the_bits_of_this_machines_processes(cluster, tmp_path, locally):
    checkout = Checkout(tmp_path / "here")
    process = computed(checkout, cluster)
    hosts = set()

    def both():
        hosts.update(each["host"] for each in checkout.running())
        return hosts == {"node1", "node2"}

    until("both nodes compute", both)
    outcomes, code, wrong = ended(process)
    assert code == 0 and not any(outcomes.values()), wrong
    found = checkout.records()
    assert len(found) == len(outcomes) == 8
    assert found == locally()
    assert not checkout.running() and not checkout.halves()


def test_a_worker_that_is_killed_loses_nothing(cluster, tmp_path, locally):
    checkout = Checkout(tmp_path / "here", LONG)
    stored = Stored(checkout, "train", "digits-mlp")
    process = computed(checkout, cluster)
    victim = trained(checkout)[0]
    assert cluster.nodes[victim["host"]].kill(victim["pid"])
    outcomes, code, wrong = ended(process)
    assert code == 0 and not any(outcomes.values()), wrong
    assert sorted(stored.count().values()) == [1, 1]
    assert checkout.records() == locally(LONG)


def test_a_node_that_is_lost_loses_nothing(cluster, tmp_path, locally):
    checkout = Checkout(tmp_path / "here", LONG)
    stored = Stored(checkout, "train", "digits-mlp")
    process = computed(checkout, cluster)
    trained(checkout)
    cluster.lose("node2")
    outcomes, code, wrong = ended(process)
    assert code == 0 and not any(outcomes.values()), wrong
    assert sorted(stored.count().values()) == [1, 1]
    assert checkout.records() == locally(LONG)


def test_a_cell_that_always_fails_is_reported_and_the_others_finish(cluster, tmp_path):
    checkout = Checkout(tmp_path / "here", {"tasks.digits-mlp.optimizer.lr": 1e30})
    outcomes, code, wrong = ended(computed(checkout, cluster))
    assert code == 0, wrong
    failed = {cell: why for cell, why in outcomes.items() if why}
    assert {*failed} == {"train digits-mlp 0", "train digits-mlp 1"} and len(outcomes) == 8
    for why in failed.values():
        assert "loss" in why and "(on node" in why and "\n" not in why
    assert len(checkout.records()) == 6


def test_what_a_node_with_a_full_disk_cannot_store_another_one_computes(cluster, tmp_path, locally):
    checkout = Checkout(tmp_path / "here")
    cells = checkout.folder / ".pcbench" / "cells"
    cells.mkdir(parents=True)
    cluster.lose("node2")
    cluster.start("node2", small=[cells])
    outcomes, code, wrong = ended(computed(checkout, cluster))
    assert code == 0 and not any(outcomes.values()), (outcomes, wrong)
    assert checkout.records() == locally()
    assert not checkout.halves()


def test_two_runs_at_once_compute_each_cell_once(cluster, tmp_path, locally):
    checkout = Checkout(tmp_path / "here")
    stored = Stored(checkout, "exactness", "digits-mlp"), Stored(checkout, "train", "digits-mlp")
    both = [computed(checkout, cluster) for _ in range(2)]
    for process in both:
        outcomes, code, wrong = ended(process)
        assert code == 0 and not any(outcomes.values()), wrong
    assert [sorted(each.count().values()) for each in stored] == [[1] * 6, [1] * 2]
    assert checkout.records() == locally()


def test_a_driver_that_is_killed_is_gone_on_from(cluster, tmp_path, locally):
    checkout = Checkout(tmp_path / "here", LONG)
    stored = Stored(checkout, "train", "digits-mlp")
    first = computed(checkout, cluster)
    trained(checkout)
    first.kill()
    first.communicate()
    outcomes, code, wrong = ended(computed(checkout, cluster))
    assert code == 0 and not any(outcomes.values()), wrong
    assert sorted(stored.count().values()) == [1, 1]
    assert checkout.records() == locally(LONG)
