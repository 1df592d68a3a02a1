"""The smoke profile by `pcbench run`; oracle: dvc.lock of a run by this machine's processes.

Aimed at: a result whose hash tells who computed it.
"""

import sys

import pytest
import yaml
from clusters import Checkout

from pcbench.check.reproduction import DETERMINISTIC

pytestmark = pytest.mark.slow


def run(folder, *arguments, **variables):
    """The hash of every deterministic result, and of its provenance."""
    checkout = Checkout(folder)
    (folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    command = [sys.executable, "-m", "pcbench", "run", "--profile", "smoke", *arguments]
    process = checkout.start(command, **variables)
    said, wrong = process.communicate()
    assert process.returncode == 0, said + wrong
    lock = yaml.safe_load((folder / "profiles/smoke/dvc.lock").read_text(encoding="utf-8"))
    stages = {name: stage for name, stage in lock["stages"].items() if name.startswith(DETERMINISTIC)}
    return {name: {out["path"]: out["md5"] for out in stage["outs"]} for name, stage in stages.items()}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return run(tmp_path_factory.mktemp("reference") / "here")


def test_the_smoke_profile_has_the_hashes_of_a_local_run(cluster, tmp_path, reference):
    options = [part for option in cluster.options for part in ("--option", option)]
    found = run(tmp_path / "here", "--executor", cluster.executor, *options, **cluster.variables)
    assert len(found) == 16 and found == reference
