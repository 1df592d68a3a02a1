"""Clusters on this machine, as far as it can have them."""

import importlib.util
import os
import shutil
import subprocess

import pytest
from clusters import CELLS, RAY, STARTED, Checkout, Ray, Slurm, ended


def _lacking(executor):
    """Why there can be no such cluster here, or None."""
    if os.geteuid():
        return "nodes are namespaces, which need root"
    if subprocess.run(["unshare", "--pid", "--fork", "--mount", "--uts", "true"], capture_output=True).returncode:
        return "this system makes no namespaces"
    if executor == "ray" and not (importlib.util.find_spec("ray") and RAY.exists()):
        return "Ray is not installed: make test-cluster"
    if executor == "slurm" and not importlib.util.find_spec("submitit"):
        return "submitit is not installed: make test-cluster"
    if executor == "slurm" and not all(map(shutil.which, ("slurmctld", "slurmd", "squeue", "munged"))):
        return "Slurm is not installed: apt-get install slurmctld slurmd slurm-client munge"
    return None


@pytest.fixture(autouse=True)
def _no_process_is_left():
    """What a test that fails has not waited for."""
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture
def ray(tmp_path):
    """A Ray cluster of one node, ``node1``, its head."""
    if reason := _lacking("ray"):
        pytest.skip(reason)
    cluster = Ray(tmp_path)
    try:
        cluster.start("node1", head=True)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def slurm(tmp_path):
    """Slurm with a controller; its nodes ``node1`` and ``node2`` are to be started."""
    if reason := _lacking("slurm"):
        pytest.skip(reason)
    (tmp_path / "slurm").mkdir()
    cluster = Slurm(tmp_path / "slurm", ["node1", "node2"])
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(params=["ray", "slurm"])
def cluster(request):
    """Either cluster with two nodes."""
    found = request.getfixturevalue(request.param)
    for name in ("node1", "node2"):
        if name not in found.nodes:
            found.start(name)
    return found


@pytest.fixture(scope="session")
def locally(tmp_path_factory):
    """A function: what this machine's processes store, in a checkout with parameters changed."""
    known = {}

    def records(changed=(), asked=CELLS):
        key = repr((changed, asked))
        if key not in known:
            checkout = Checkout(tmp_path_factory.mktemp("local") / "here", changed)
            outcomes, code, wrong = ended(checkout.drive("local", asked))
            assert code == 0 and not any(outcomes.values()), wrong
            known[key] = checkout.records()
        return known[key]

    return records
