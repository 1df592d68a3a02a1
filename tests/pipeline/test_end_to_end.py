"""The smoke profile from parameters to verdict, through the command line, in a copy of the repository.

Aimed at: stages that do not fit together, and a gate that passes whatever the report says.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pcbench.params import OF_TASKS

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PROFILE = PARAMETERS["profiles"]["smoke"]
MAIN = "import sys; from pcbench.cli import main; sys.argv[0] = 'pcbench'; main()"


class Copy:
    """A copy of the repository, and the command line in it."""

    def __init__(self, folder):
        self.folder = folder
        shutil.copytree(ROOT / "pcbench", folder / "pcbench", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("params.yaml", "expectations.yaml", "requirements.lock", "dvc.yaml"):
            shutil.copy(ROOT / name, folder)
        for name in ("profiles", "benchmarks/peers/results"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))

    def run(self, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "COLUMNS": "200"}
        environment["GIT_CEILING_DIRECTORIES"] = str(self.folder.parent)
        return subprocess.run(
            [sys.executable, "-c", MAIN, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True
        )

    def succeed(self, *arguments):
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Warning" not in done.stderr, done.stderr
        return done.stdout


@pytest.mark.slow
def test_the_smoke_profile_from_parameters_to_verdict(tmp_path):
    copy = Copy(tmp_path)
    for name in {PARAMETERS["tasks"][task]["data"] for task in PROFILE["tasks"]}:
        assert "verified" in copy.succeed("fetch", name)
    for task in PROFILE["tasks"]:
        for stage in OF_TASKS:
            copy.succeed(stage, task, "--profile", "smoke")
    for model in PROFILE["zoo"]:
        copy.succeed("zoo", model, "--profile", "smoke")
    for axis in PROFILE["scaling"]:
        copy.succeed("scaling", axis, "--profile", "smoke")
    copy.succeed("report", "--profile", "smoke")

    report = tmp_path / "reports" / "smoke"
    metrics = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics["tasks"]) == set(PROFILE["tasks"]) and set(metrics["zoo"]) == set(PROFILE["zoo"])
    for name, task in metrics["tasks"].items():
        for dtype in ("float32", "float64"):
            assert task["exactness"]["zil"][dtype]["bitwise_equal"], name
            assert not task["exactness"]["gamma-half"][dtype]["bitwise_equal"], name
        assert task["proof"]["zil"]["equal"] and not task["proof"]["zil-state"]["equal"], name
        assert task["conditions"]["zil-state"]["sufficient"], name
        assert task["weights"]["zil"]["max_ulp"] == 0 and task["weights"]["il-20"]["max_ulp"] != 0
    page = (report / "index.html").read_text(encoding="utf-8")
    assert all(name in page for name in (*PROFILE["tasks"], *PROFILE["zoo"]))
    assert list(report.glob("tables/*.md")) and list(report.glob("tables/*.tex")) and list(report.glob("tables/*.csv"))
    assert list(report.glob("figures/*.svg"))

    assert " 0 fail" in copy.succeed("check", "--profile", "smoke")
    for where, value in (
        (("exactness", "zil", "float32", "bitwise_equal"), False),
        (("exactness", "gamma-half", "float64"), {}),
    ):
        tampered = json.loads(json.dumps(metrics))
        inner = tampered["tasks"]["digits-cnn"]
        for key in where[:-1]:
            inner = inner[key]
        inner[where[-1]] = value
        (report / "metrics.json").write_text(json.dumps(tampered), encoding="utf-8")
        done = copy.run("check", "--profile", "smoke")
        assert done.returncode == 1, f"{where} = {value}: {done.stdout}{done.stderr}"
        assert f"exactness.digits-cnn.{where[1]}" in done.stdout and "1 fail" in done.stdout
