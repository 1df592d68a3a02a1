"""The repository's own files against one another: profiles, parameters, tasks, expectations, pipeline.

Aimed at: a profile's pipeline that lags behind, a zoo that leaves out a model, an expectation that no figure will ever meet.
"""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torchvision
import yaml

from pcbench import data, params
from pcbench.check.gate import check, load_expectations
from pcbench.cli import app
from pcbench.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = params.load(ROOT / "params.yaml")
PROFILES = PARAMETERS["profiles"]
EXPECTATIONS = load_expectations(ROOT / "expectations.yaml", PARAMETERS["tasks"])
OTHERS = sorted(path.parent.name for path in ROOT.glob("profiles/*/dvc.yaml"))

sys.path.insert(0, str(ROOT / "profiles"))
from derive import derive  # noqa: E402

sys.path.pop(0)


def pipeline(profile):
    path = ROOT / "dvc.yaml" if profile == "default" else ROOT / "profiles" / profile / "dvc.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_every_profile_but_the_default_has_a_pipeline_of_its_own():
    assert set(OTHERS) | {"default"} == set(PROFILES)


@pytest.mark.parametrize("profile", OTHERS)
def test_a_profiles_pipeline_is_the_one_that_make_profiles_writes(profile):
    derived = derive((ROOT / "dvc.yaml").read_text(encoding="utf-8"), profile)
    written = (ROOT / "profiles" / profile / "dvc.yaml").read_text(encoding="utf-8")
    assert written == derived, "run `make profiles`"


@pytest.mark.parametrize("profile", OTHERS)
def test_a_derived_pipeline_never_names_the_default_profile(profile):
    text = (ROOT / "profiles" / profile / "dvc.yaml").read_text(encoding="utf-8")
    assert "default" not in text.split("\n", 1)[1]
    stages = pipeline(profile)["stages"]
    assert list(stages) == list(pipeline("default")["stages"])
    assert all((stage.get("do") or stage)["wdir"] == "../.." for stage in stages.values())


@pytest.mark.parametrize("profile", PROFILES)
def test_every_command_of_a_pipeline_exists(profile):
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    for stage in pipeline(profile)["stages"].values():
        program, command, *rest = (stage.get("do") or stage)["cmd"].split()
        assert program == "pcbench" and command in commands
        assert rest[rest.index("--profile") + 1] == profile


def test_a_pipeline_depends_on_what_exists():
    for stage in pipeline("default")["stages"].values():
        for path in (stage.get("do") or stage)["deps"]:
            assert path.startswith(("results/", "datasets/${")) or (ROOT / path).exists(), path


# What no figure depends on: names, messages, how a file is written, which process does what, and the check of numbers that
# DVC compares itself.
HARMLESS = {f"pcbench/{name}.py" for name in ("__init__", "errors", "files", "params", "terminal", "workers")}


@pytest.mark.parametrize("stage", ["exactness", "cost", "train"])
def test_a_measurement_depends_on_all_code_that_it_imports(stage):
    """Else a change of that code would leave its results as they were."""
    listing = "import sys, pcbench.stages; print(*(m.__file__ for n, m in sys.modules.items() if n[:7] == 'pcbench'))"
    listed = subprocess.run([sys.executable, "-c", listing], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {Path(file).relative_to(ROOT).as_posix() for file in listed.stdout.split()} - HARMLESS
    tracked = pipeline("default")["stages"][stage]["do"]["deps"]
    assert imported
    assert [file for file in sorted(imported) if not any(Path(file).is_relative_to(dep) for dep in tracked)] == []


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_names_each_tasks_own_data_set(profile):
    """The pipeline makes a task's stages depend on the data set that is named here."""
    named = {task: entry["data"] for task, entry in PROFILES[profile]["tasks"].items()}
    assert named == {task: TASKS[task].data for task in named}
    assert set(named.values()) <= set(data.names())


def test_every_task_has_its_numbers_and_a_profile_that_trains_it():
    assert set(PARAMETERS["tasks"]) == set(TASKS)
    assert {task for profile in PROFILES.values() for task in profile["tasks"]} == set(TASKS)


def test_every_data_set_of_a_profile_is_fetched_by_a_stage():
    fetched = yaml.safe_load((ROOT / "datasets" / "dvc.yaml").read_text(encoding="utf-8"))
    fetched = set(fetched["stages"]["fetch"]["matrix"]["name"])
    assert {entry["data"] for profile in PROFILES.values() for entry in profile["tasks"].values()} <= fetched


def locked(package):
    """The version of ``package`` in requirements.lock."""
    (found,) = set(re.findall(rf"(?m)^{package}==([^\s;]+)", (ROOT / "requirements.lock").read_text(encoding="utf-8")))
    return found


def test_the_papers_zoo_is_all_that_torchvision_lists():
    installed = metadata.version("torchvision").partition("+")[0]
    if installed != locked("torchvision"):
        pytest.skip(f"torchvision {installed} is not the locked one, and may list others")
    listed = torchvision.models.list_models(module=torchvision.models)
    assert sorted(PROFILES["paper"]["zoo"]) == sorted(listed)
    assert all(set(profile["zoo"]) <= set(listed) for profile in PROFILES.values())


KEYS = {
    "exactness": {"l2", "relative_l2", "max_ulp", "bitwise_equal", "seeds", "seeds_equal"},
    "weights": {"updates", "updates_equal", "max_ulp", "bitwise_equal", "final_l2"},
    "accuracy": {"mean", "low", "high", "seeds", "majority"},
    "cost": {"seconds_median", "ratio_median", "ratio_q1", "ratio_q3", "peak_bytes", "peak_ratio"},
    "zoo": {"l2", "relative_l2", "max_abs", "max_ulp", "bitwise_equal", "buffers_equal", "bp_repeats_itself"},
}
RULES = {"exactness": "exactness", "weights": "train", "accuracy": "train", "cost": "cost"}


def figures(profile):
    """Every figure that a profile's metrics.json holds: names only, each with 0 for its value."""
    tasks = {}
    for task in PROFILES[profile]["tasks"]:
        tasks[task] = {}
        for section, stage in RULES.items():
            values = dict.fromkeys(KEYS[section], 0)
            of_rule = dict.fromkeys(PARAMETERS["exactness"]["dtypes"], values) if section == "exactness" else values
            rules = [rule for rule in PARAMETERS[stage]["rules"] if section != "weights" or rule != "bp"]
            tasks[task][section] = dict.fromkeys(rules, of_rule)
    zoo = {model: dict.fromkeys(KEYS["zoo"], 0) for model in PROFILES[profile]["zoo"]}
    return {"profile": profile, "tasks": tasks, "zoo": zoo}


@pytest.mark.parametrize("profile", PROFILES)
def test_no_expectation_asks_for_a_figure_that_a_profile_does_not_have(profile):
    found = check(figures(profile), EXPECTATIONS, PROFILES[profile])
    assert not [finding.what for finding in found if finding.measured == "missing"]


@pytest.mark.parametrize(
    ("section", "figure"), [(s, f) for s in EXPECTATIONS if s != "not_comparable" for f in EXPECTATIONS[s]]
)
def test_every_expectation_is_held_against_a_figure_of_some_profile(section, figure):
    alone = {**EXPECTATIONS, **{s: {} for s in EXPECTATIONS if s != "not_comparable"}}
    alone[section] = {figure: EXPECTATIONS[section][figure]}
    found = [finding for profile in PROFILES for finding in check(figures(profile), alone, PROFILES[profile])]
    assert any(finding.verdict != "not comparable" for finding in found)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_held_to_exactness_in_every_task_and_model(profile):
    """With figures that are all 0, and hence false, whatever must be true falls short."""
    short = {
        finding.what
        for finding in check(figures(profile), EXPECTATIONS, PROFILES[profile])
        if finding.verdict == "fail"
    }
    for task in PROFILES[profile]["tasks"]:
        for dtype in ("float32", "float64"):
            assert f"exactness.{task}.zil.{dtype}.bitwise_equal" in short
        assert f"weights.{task}.il.final_l2" in short
    for model in PROFILES[profile]["zoo"]:
        assert f"zoo.{model}.bitwise_equal" in short


def test_what_the_default_profile_trains_is_held_to_an_accuracy():
    held = {figure.partition(".")[0] for figure in EXPECTATIONS["accuracy"]}
    assert set(PROFILES["default"]["tasks"]) <= held <= set(TASKS)
    assert "default" not in EXPECTATIONS["not_comparable"]
