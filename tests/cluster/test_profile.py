"""Profiles by `pcbench run`; oracle: dvc.lock of a run by this machine's processes.

Aimed at: a result whose hash tells who computed it.
"""

import sys

import pytest
import yaml
from clusters import ROOT, Checkout

from pcbench import pipeline
from pcbench.check.reproduction import DETERMINISTIC
from pcbench.provenance import SIDECAR

pytestmark = pytest.mark.slow


def outputs(lock):
    """The hash of every deterministic result, and of its provenance, by path."""
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    found = (stage["outs"] for name, stage in stages.items() if name.startswith(DETERMINISTIC))
    return {out["path"]: out["md5"] for outs in found for out in outs}


def results(hashes):
    return {path: md5 for path, md5 in hashes.items() if not path.endswith(SIDECAR)}


def run(folder, profile, *arguments, **variables):
    """What `outputs` gives after a run in a new checkout."""
    checkout = Checkout(folder)
    (folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    command = [sys.executable, "-m", "pcbench", "run", "--profile", profile, *arguments]
    process = checkout.start(command, **variables)
    said, wrong = process.communicate()
    assert process.returncode == 0, said + wrong
    return outputs(folder / pipeline.folder(profile) / "dvc.lock")


def by(cluster):
    options = [part for option in cluster.options for part in ("--option", option)]
    return ["--executor", cluster.executor, *options]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return run(tmp_path_factory.mktemp("reference") / "here", "smoke")


def test_the_smoke_profile_has_the_hashes_of_a_local_run(cluster, tmp_path, reference):
    found = run(tmp_path / "here", "smoke", *by(cluster), **cluster.variables)
    assert len(results(found)) == 16 and found == reference


def test_the_default_profile_has_the_committed_hashes(cluster, tmp_path):
    """A quarter of an hour each; of provenance, which names the commit, this copy has another."""
    found = run(tmp_path / "here", "default", *by(cluster), **cluster.variables)
    assert len(results(found)) == 42 and results(found) == results(outputs(ROOT / "dvc.lock"))
