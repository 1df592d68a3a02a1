"""Five hundred small cells, and one fault after another; oracle: the same cells, computed by this machine's processes.

Aimed at: what one fault does not show: a cell that is lost or computed twice because two faults met.
"""

import random
import sys
import time

import pytest
from clusters import Checkout, Stored, ended

pytestmark = pytest.mark.slow

ASKED = "exactness:digits-mlp"
SMALL = {"exactness.seeds": [*range(500)], "exactness.dtypes": ["float32"], "exactness.rules": ["zil"]}
SECONDS = 3600
SHARES = {"ray": (), "slurm": ("jobs=20",)}  # a job of Slurm's starts Python anew


def test_of_500_cells_none_is_lost_and_none_computed_twice(cluster, tmp_path, locally):
    checkout = Checkout(tmp_path / "here", SMALL)
    stored = Stored(checkout, "exactness", "digits-mlp")
    chance = random.Random(0)
    options = [*cluster.options, *SHARES[cluster.executor]]
    process = checkout.drive(cluster.executor, ASKED, options, **cluster.variables)
    begun, workers, nodes, drivers = time.monotonic(), 0, 0, 0
    while len(stored.count()) < 500 and time.monotonic() - begun < SECONDS:
        time.sleep(0.1)
        done, running = len(stored.count()), checkout.running()
        if process.poll() is not None:
            outcomes, code, wrong = ended(process)
            raise AssertionError(f"it ended at {done} of 500 with {code}: {wrong}")
        if done > 40 * (workers + 1) and running:  # a dozen workers
            victim = chance.choice(running)
            node = cluster.nodes.get(victim["host"])
            workers += bool(node) and node.kill(victim["pid"])
        if done > 150 * (nodes + 1):  # and now and then a node, which comes back
            cluster.lose("node2")
            cluster.start("node2")
            nodes += 1
        if done > 250 and not drivers:  # and once who asked for it all
            process.kill()
            process.communicate()
            process = checkout.drive(cluster.executor, ASKED, options, **cluster.variables)
            drivers += 1
    outcomes, code, wrong = ended(process, SECONDS)
    took = time.monotonic() - begun
    print(
        f"{cluster.executor}: {took:.0f} s, {workers} workers, {nodes} nodes, {drivers} driver killed", file=sys.stderr
    )
    assert code == 0 and not any(outcomes.values()), (outcomes, wrong)
    assert workers >= 10 and nodes == 3 and drivers == 1
    assert len(stored.count()) == 500, "lost"
    assert {*stored.count().values()} == {1}, "computed twice"
    assert not checkout.running() and not checkout.halves()
    assert checkout.records() == locally(SMALL, ASKED)
