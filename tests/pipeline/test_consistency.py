"""The repository's own files against one another: profiles, parameters, tasks, expectations, pipeline.

Aimed at: a profile's pipeline that lags behind, a zoo that leaves out a model, an expectation that no figure will ever meet.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torchvision
import yaml

from pcbench import code, data, manifests, params
from pcbench.check.gate import SECTIONS, check, load_expectations
from pcbench.cli import app

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = params.load(ROOT / "params.yaml")
PROFILES = PARAMETERS["profiles"]
EXPECTATIONS = load_expectations(ROOT / "expectations.yaml", PARAMETERS["tasks"])
FETCH = yaml.safe_load((ROOT / "datasets" / "dvc.yaml").read_text(encoding="utf-8"))
CODE = yaml.safe_load((ROOT / "profiles" / "dvc.yaml").read_text(encoding="utf-8"))
OTHERS = sorted(path.parent.name for path in ROOT.glob("profiles/*/dvc.yaml"))

sys.path.insert(0, str(ROOT / "profiles"))
import pipelines  # noqa: E402

sys.path.remove(str(ROOT / "profiles"))


def pipeline(profile):
    path = ROOT / "dvc.yaml" if profile == "default" else ROOT / "profiles" / profile / "dvc.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_every_profile_but_the_default_has_a_pipeline_of_its_own():
    assert set(OTHERS) | {"default"} == set(PROFILES)


@pytest.mark.parametrize("profile", OTHERS)
def test_a_profiles_pipeline_is_the_one_that_make_profiles_writes(profile):
    derived = pipelines.derived((ROOT / "dvc.yaml").read_text(encoding="utf-8"), PARAMETERS, profile)
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
            made = path.startswith(("results/", f"{manifests.FOLDER}/"))
            assert "${item." in path or made or (ROOT / path).exists(), path


@pytest.mark.parametrize("path", ["dvc.yaml", "datasets/dvc.yaml", "profiles/dvc.yaml"])
def test_what_make_profiles_writes_into_a_pipeline_is_there(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert "by `make profiles`" in text and text == pipelines.rewritten(text, PARAMETERS), "run `make profiles`"


def test_every_stage_depends_on_the_manifest_of_exactly_the_code_that_it_imports():
    """Else a change of that code would leave its results as they were, or one of other code make them anew."""
    for name, stage in {**pipeline("default")["stages"], **FETCH["stages"]}.items():
        deps = (stage.get("do") or stage)["deps"]
        assert [dep for dep in deps if dep.startswith(f"{manifests.FOLDER}/")] == [f"{manifests.FOLDER}/{name}.txt"]


def test_the_manifests_are_written_anew_after_a_change_of_any_file_that_they_list():
    (written,) = CODE["stages"].values()
    assert written["outs"] == [f"{manifests.FOLDER}/{stage}.txt" for stage in manifests.STAGES]
    listed = {file for stage in manifests.STAGES for file in manifests.files(stage, PARAMETERS)}
    assert not [file for file in listed if not any(Path(file).is_relative_to(dep) for dep in written["deps"])]
    (tracked,) = written["params"][0].values()
    for name in (each for each in params.STAGES if "rules" in PARAMETERS[each]):
        assert name in tracked or (f"{name}.rules" in tracked and "only" not in PARAMETERS[name])
    assert "rules" in tracked


def depending(path):
    """The default profile's stages that a change of a file makes run again, one task and one model as examples."""
    found = set()
    for name, stage in {**pipeline("default")["stages"], **FETCH["stages"]}.items():
        for key, item in ITEMS[name].items() if name in ITEMS else [("", {})]:
            deps = (stage.get("do") or stage)["deps"]
            for field, value in item.items():
                deps = [dep.replace(f"${{item.{field}}}", str(value)) for dep in deps]
            deps = [*deps, *manifests.files(name, PARAMETERS)]
            if any(Path(path).is_relative_to(dep) for dep in deps):
                found.add(f"{name} {key}".strip())
    return found


TRAINED = {
    **pipeline("full")["vars"][1]["of_profile"]["tasks"],
    **pipeline("default")["vars"][1]["of_profile"]["tasks"],
}
EXAMPLES = {name: TRAINED[name] for name in ("digits-mlp", "digits-cnn", "surnames-gru", "agnews-rnn")}
ITEMS = dict.fromkeys(params.OF_TASKS, EXAMPLES)
ITEMS |= {"zoo": {"resnet18": {}}, "scaling": {"depth": {}}}
ITEMS["fetch"] = {name: FETCH["stages"]["fetch"]["foreach"][name] for name in ("digits", "ag-news")}
MEASURED = {f"{stage} {task}" for stage in params.OF_TASKS for task in EXAMPLES}


def of(*tasks):
    return {each for each in MEASURED if each.split()[1] in tasks}


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("pcbench/tasks/cnn.py", of("digits-cnn")),
        ("pcbench/tasks/gated_rnn.py", of("surnames-gru")),
        ("pcbench/data/ag_news.py", of("agnews-rnn") | {"fetch ag-news"}),
        ("pcbench/data/_text.py", of("agnews-rnn") | {"fetch ag-news"}),
        ("pcbench/data/digits.py", of("digits-mlp", "digits-cnn") | {"fetch digits"}),
        ("pcbench/data/_packages.py", of("digits-mlp", "digits-cnn", "surnames-gru") | {"fetch digits"}),
        ("pcbench/rules/zil.py", MEASURED | {"zoo resnet18", "scaling depth"}),
        ("pcbench/measure/updates.py", {each for each in MEASURED if each.startswith("cost")} | {"scaling depth"}),
        ("pcbench/measure/scaling.py", {"scaling depth"}),
        ("pcbench/measure/training.py", {each for each in MEASURED if each.startswith("train")}),
        ("pcbench/measure/cost.py", {each for each in MEASURED if each.startswith("cost")}),
        ("pcbench/measure/zoo.py", {"zoo resnet18"}),
        ("pcbench/measure/certificates.py", {each for each in MEASURED if each.startswith("proof")}),
        ("pcbench/measure/proof.py", {e for e in MEASURED if e.startswith(("proof", "conf"))} | {"zoo resnet18"}),
        ("pcbench/measure/conformance.py", {each for each in MEASURED if each.startswith("conformance")}),
        ("pcbench/rules/incremental.py", {each for each in MEASURED if each.startswith("conformance")}),
        ("pcbench/measure/conditions.py", {each for each in MEASURED if each.startswith("conditions")}),
        ("pcbench/measure/free_energy.py", {each for each in MEASURED if each.startswith("conditions")}),
        ("pcbench/measure/exactness.py", {each for each in MEASURED if each.startswith("exactness")}),
        (
            "pcbench/measure/first.py",
            {each for each in MEASURED if each.startswith(("exactness", "conformance", "conditions"))},
        ),
        ("pcbench/report/tables.py", {"report"}),
        ("pcbench/report/page.css", {"report"}),
        ("pcbench/check/gate.py", set()),
        ("pcbench/check/reproduction.py", set()),
        ("pcbench/cli.py", set()),
        ("pcbench/judging.py", set()),
        ("pcbench/options.py", set()),
        ("pcbench/factories.py", set()),
        ("pcbench/params.py", set()),
        ("requirements.lock", MEASURED | {"zoo resnet18", "scaling depth"}),
    ],
)
def test_a_change_reruns_what_depends_on_it_and_nothing_else(path, stages):
    assert (ROOT / path).is_file()
    assert depending(path) == stages


@pytest.mark.parametrize("profile", PROFILES)
def test_a_results_provenance_is_an_output_beside_it_and_no_stage_of_measurement_depends_on_one(profile):
    for name, stage in pipeline(profile)["stages"].items():
        body = stage.get("do") or stage
        if name != "report":
            result, provenance = (next(iter(out)) if isinstance(out, dict) else out for out in body["outs"])
            assert provenance == f"{result.removesuffix('.json')}.provenance.json"
            assert not any(dep.startswith("results") for dep in body["deps"])


@pytest.mark.parametrize("profile", PROFILES)
def test_a_stage_depends_on_each_of_its_rules_and_on_no_other(profile):
    for name, stage in pipeline(profile)["stages"].items():
        (listed,) = ((stage.get("do") or stage)["params"][0]).values()
        found = [key.removeprefix("rules.") for key in listed if key.startswith("rules.")]
        rules = [] if name == "report" else params.section(PARAMETERS, name).get("rules", {})
        assert found == list(rules)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_stage_depends_on_the_device(profile):
    for stage in pipeline(profile)["stages"].values():
        (listed,) = ((stage.get("do") or stage)["params"][0]).values()
        assert "device" in listed


def test_every_task_has_a_network_a_data_set_and_a_profile_that_trains_it():
    assert {task["network"] for task in PARAMETERS["tasks"].values()} <= set(code.names("network"))
    assert {task["data"] for task in PARAMETERS["tasks"].values()} <= set(data.names())
    assert {task for profile in PROFILES.values() for task in profile["tasks"]} == set(PARAMETERS["tasks"])


def test_every_rule_is_used_by_a_stage():
    used = {rule for stage in params.STAGES for rule in params.section(PARAMETERS, stage).get("rules", ())}
    assert used == set(PARAMETERS["rules"])


def test_every_data_set_is_fetched_by_a_stage():
    assert set(FETCH["stages"]["fetch"]["foreach"]) == set(data.names())


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
    "cost": {
        *("seconds.median", "ratio.median", "ratio.q1", "ratio.q3", "peak_bytes", "peak_ratio", "operations", "flops"),
        *("ratio.low", "ratio.high"),
    },
    "captured": {"captured_ratio.median", "captured_ratio.low", "captured_ratio.high", "capture_seconds"},
    "proof": {"equal", "operations", "own_operations", "digest"},
    "conformance": {"verdict", "by", "of", "settings", "relative_l2", "scale", "residual", "tensor_residual"},
    "scaling": {
        *(f"exponent.{what}.{key}" for what in ("seconds", "operations") for key in ("value", "low", "high")),
        *("ratio.median", "ratio.low", "ratio.high", "operations"),
    },
    "conditions": {
        *("sufficient", "relative_l2", "otherwise.points", "otherwise.zero", "otherwise.least", "otherwise.largest"),
        *(
            f"{name}.{key}"
            for name in ("zero_initial_error", "unit_step", "layer_dependent")
            for key in ("necessary", "points", "zero", "least", "largest")
        ),
        *(
            f"free_energy.{reduction}.{key}"
            for reduction in ("mean", "sum")
            for key in ("start", "end", "settled.cosine", "settled.relative_l2", "at_one_time.relative_l2")
        ),
    },
    "zoo": {"l2", "relative_l2", "max_abs", "max_ulp", "bitwise_equal", "buffers_equal", "bp_repeats_itself"},
}
KEYS["zoo"] |= {f"proof.{key}" for key in KEYS["proof"]}
RULES = {"exactness": "exactness", "weights": "train", "accuracy": "train", "cost": "cost", "proof": "proof"}
RULES |= {"conformance": "conformance", "conditions": "conditions"}


def figures(profile):
    """Every figure that a profile's metrics.json holds: names only, each with 0 for its value."""
    tasks = {}
    for task in PROFILES[profile]["tasks"]:
        tasks[task] = {}
        for section, stage in RULES.items():
            tasks[task][section] = {}
            for rule, entry in params.section(PARAMETERS, stage)["rules"].items():
                if section == "weights" and rule == params.REFERENCE:
                    continue
                values = of_keys(KEYS[section] | (KEYS["captured"] if entry.get("captured") else set()))
                dtypes = PARAMETERS["exactness"]["dtypes"]
                tasks[task][section][rule] = dict.fromkeys(dtypes, values) if section == "exactness" else values
    zoo = {model: of_keys(KEYS["zoo"]) for model in PROFILES[profile]["zoo"]}
    grown = dict.fromkeys(PARAMETERS["scaling"]["rules"], of_keys(KEYS["scaling"]))
    scaling = dict.fromkeys(PROFILES[profile]["scaling"], grown)
    return {"profile": profile, "tasks": tasks, "zoo": zoo, "scaling": scaling}


def of_keys(keys):
    """Nested dicts with the dotted keys."""
    found = {}
    for key in keys:
        *parents, last = key.split(".")
        inner = found
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = 0
    return found


@pytest.mark.parametrize("profile", PROFILES)
def test_no_expectation_asks_for_a_figure_that_a_profile_does_not_have(profile):
    found = check(figures(profile), EXPECTATIONS, PROFILES[profile])
    assert not [finding.what for finding in found if finding.measured == "missing"]


@pytest.mark.parametrize(
    ("section", "figure"), [(section, figure) for section in SECTIONS for figure in EXPECTATIONS[section]]
)
def test_every_expectation_is_held_against_a_figure_of_some_profile(section, figure):
    alone = {section: {figure: EXPECTATIONS[section][figure]}, "not_comparable": EXPECTATIONS["not_comparable"]}
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
        assert f"weights.{task}.il-20.final_l2" in short
        assert f"proof.{task}.zil.equal" in short
        assert f"conformance.{task}.zil.verdict" in short
        assert f"conditions.{task}.zil-state.sufficient" in short
        assert f"conditions.{task}.zil-state.unit_step.necessary" in short
    for model in PROFILES[profile]["zoo"]:
        assert {f"zoo.{model}.bitwise_equal", f"zoo.{model}.proof.equal"} <= short


def test_what_the_default_profile_trains_is_held_to_an_accuracy():
    held = {figure.partition(".")[0] for figure in EXPECTATIONS["accuracy"]}
    assert set(PROFILES["default"]["tasks"]) <= held <= set(PARAMETERS["tasks"])
    assert "default" not in EXPECTATIONS["not_comparable"]
