"""What DVC is told of the code; oracle: the files themselves.

Aimed at: a manifest that stays as it was when a file that it lists has changed.
"""

import hashlib
from pathlib import Path

import pytest

from pcbench import code, manifests, params

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = params.load(ROOT / "params.yaml")


def test_a_manifest_has_every_file_and_its_digest(tmp_path):
    manifests.write(PARAMETERS, tmp_path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(manifests.STAGES)
    for stage in manifests.STAGES:
        lines = (tmp_path / f"{stage}.txt").read_text(encoding="utf-8").splitlines()
        listed = dict(reversed(line.split("  ", 1)) for line in lines)
        assert [*listed] == manifests.files(stage, PARAMETERS)
        for file, sha256 in listed.items():
            assert sha256 == hashlib.sha256((ROOT / file).read_bytes()).hexdigest()


@pytest.mark.parametrize("stage", manifests.STAGES)
def test_what_is_an_items_own_is_in_no_manifest_and_what_all_share_is(stage):
    found = {*manifests.files(stage, PARAMETERS)}
    if stage in params.OF_TASKS:
        own = {f"pcbench/tasks/{name}.py" for name in code.names("network")}
        assert not found & own and "pcbench/tasks/__init__.py" in found
        assert {"pcbench/rules/zil.py", "pcbench/values.py"} <= found
    if stage in (*params.OF_TASKS, "fetch"):
        own = {f"pcbench/data/{name.replace('-', '_')}.py" for name in code.names("data set")}
        assert not found & (own | manifests.FORMATS) and "pcbench/data/_store.py" in found


def test_a_rule_that_a_stage_has_is_in_its_manifest_and_another_is_not():
    without = {**PARAMETERS, "conformance": {**PARAMETERS["conformance"], "rules": ["zil"]}}
    rule = "pcbench/rules/incremental.py"
    assert rule in manifests.files("conformance", PARAMETERS) and rule not in manifests.files("conformance", without)
