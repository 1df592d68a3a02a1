"""The gate's stored run; oracle: p-values worked out by counting signs, and the documented verdicts on runs made up here.

Aimed at: a regression that no test can find (too few seeds, an interval that is none), chance that is taken for one, figures
of another experiment or machine that are compared all the same, and a baseline that moves by itself.
"""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pcbench import params
from pcbench.check import baseline
from pcbench.check.baseline import fallen, hold, told
from pcbench.check.gate import FAIL, NOT_COMPARABLE, PASS, load_expectations
from pcbench.errors import ResultError

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = params.load(ROOT / "params.yaml")
BOUNDS = {"accuracy": {"beyond": 0.005, "level": 0.05}, "time": {"beyond": 1.25}}
MACHINE = {"cpu": ["a processor"], "threads": ["1"], "torch": ["2.8"]}


def run(seeds=5, tasks=("digits-mlp", "digits-cnn"), ratio=1.5):
    """A report's metrics, as far as a baseline knows them."""

    def task():
        accuracies = {str(seed): 0.95 + 0.002 * seed for seed in range(seeds)}
        times = {"median": ratio, "q1": ratio, "q3": ratio, "low": 0.95 * ratio, "high": 1.05 * ratio}
        return {
            "accuracy": {"bp": {"by_seed": accuracies, "mean": 0.95}, "zil": {"by_seed": dict(accuracies)}},
            "cost": {"bp": {"ratio": dict.fromkeys(times, 1.0)}, "zil": {"ratio": times}},
        }

    return {"profile": "smoke", "timed_on": MACHINE, "tasks": {name: task() for name in tasks}}


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Write a run as the baseline of profile smoke, and return what is then read."""
    monkeypatch.chdir(tmp_path)

    def write(metrics=None):
        baseline.write(metrics or run(), None, PARAMETERS, "smoke")
        return baseline.load("smoke")

    return write


def changed(metrics, task, rule, by):
    """The run with each seed's accuracy of a rule on a task changed by ``by(seed)``."""
    found = copy.deepcopy(metrics)
    seeds = found["tasks"][task]["accuracy"][rule]["by_seed"]
    seeds |= {seed: value + by(int(seed)) for seed, value in seeds.items()}
    return found


def held(metrics, before, parameters=PARAMETERS):
    findings = hold(metrics, before, BOUNDS, parameters, "smoke")
    assert all(finding.file == "baselines/smoke.json" for finding in findings)
    return {finding.what.removeprefix("baseline."): (finding.verdict, str(finding.measured)) for finding in findings}


def verdicts(*arguments):
    return {what: verdict for what, (verdict, _) in held(*arguments).items()}


ALL = {
    *(f"accuracy.{task}.{rule}" for task in ("digits-mlp", "digits-cnn", "*") for rule in ("bp", "zil")),
    *(f"time.{task}.zil" for task in ("digits-mlp", "digits-cnn")),
}


def test_the_same_run_passes_and_it_is_said_that_nothing_was_there_to_be_tested(stored):
    before = stored()
    assert verdicts(run(), before) == dict.fromkeys(ALL, PASS)
    found = held(run(), before)
    assert found["accuracy.digits-mlp.bp"][1] == "identical: 5 seeds"
    assert found["accuracy.*.bp"][1] == "identical: 10 pairs"
    (line,) = told(hold(run(), before, BOUNDS, PARAMETERS, "smoke"))
    assert "6 × accuracy identical in every seed" in line and "2 × time no worse" in line


def test_three_points_less_in_every_seed_are_found(stored):
    before = stored()
    found = held(changed(run(), "digits-cnn", "zil", lambda seed: -0.03 + 0.001 * seed), before)
    assert found["accuracy.digits-cnn.zil"] == (FAIL, "-2.80 points in 5 seeds (p = 0.031)")
    assert {what for what, (verdict, _) in found.items() if verdict == FAIL} <= {
        "accuracy.digits-cnn.zil",
        "accuracy.*.zil",
    }


@pytest.mark.parametrize(
    "by",
    [
        lambda seed: -0.03 * (seed == 2),
        lambda seed: -0.03 if seed < 4 else 0.03,
        lambda seed: 0.01 * (-1) ** seed,
        lambda seed: -0.004,
        lambda seed: 0.03,
    ],
    ids=["one seed", "four of five", "both ways", "within the margin", "better"],
)
def test_chance_is_not_taken_for_a_regression(stored, by):
    found = held(changed(run(), "digits-cnn", "zil", by), stored())
    assert {verdict for verdict, _ in found.values()} == {PASS}
    assert "p = " in found["accuracy.digits-cnn.zil"][1]


@pytest.mark.parametrize("seeds", [1, 2, 3, 4])
def test_too_few_seeds_are_no_pass(stored, seeds):
    """Of n seeds p is 1 / 2^n at least: below 5 %, from five on."""
    before = stored(run(seeds))
    found = held(changed(run(seeds), "digits-cnn", "zil", lambda seed: -0.5), before)
    verdict, said = found["accuracy.digits-cnn.zil"]
    assert verdict == NOT_COMPARABLE and f"p is at least {0.5**seeds:.2g}" in said
    assert found["accuracy.digits-mlp.zil"][0] == PASS


def test_what_a_few_seeds_of_one_task_cannot_tell_those_of_all_tasks_can(stored):
    tasks = ("digits-mlp", "digits-cnn", "digits-transformer")
    before, now = stored(run(2, tasks)), run(2, tasks)
    for task in tasks:
        now = changed(now, task, "bp", lambda seed: -0.03)
    found = held(now, before)
    assert found["accuracy.*.bp"] == (FAIL, "-3.00 points in 6 pairs (p = 0.016)")
    assert found["accuracy.*.zil"][0] == PASS
    assert {found[f"accuracy.{task}.bp"][0] for task in tasks} == {NOT_COMPARABLE}


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([-3.0] * 5, 1 / 32),
        ([-1.0, -2.0, -4.0, -8.0, 16.0], 1.0 - 15 / 32),
        ([-1.0, -2.0, -4.0], 1 / 8),
        ([1.0, -2.0, -4.0], 2 / 8),
        ([1.0, 2.0, 4.0], 1.0),
    ],
)
def test_p_is_the_part_of_all_signs_that_give_as_low_a_mean(differences, p):
    """Powers of two: every choice of signs has another sum, so that they can be counted."""
    assert fallen(differences, 0.0) == pytest.approx(p)
    assert fallen([each - 0.5 for each in differences], 0.5) == pytest.approx(p)


def test_of_many_pairs_signs_are_drawn_and_the_same_ones_every_time():
    assert fallen([-1.0] * 40, 0.0) == fallen([-1.0] * 40, 0.0) == pytest.approx(1e-4)


def test_a_slower_engine_is_found_and_noise_is_not(stored):
    before = stored()
    assert verdicts(run(ratio=1.9), before)["time.digits-mlp.zil"] == PASS  # 1.81 ≤ 1.25 · 1.575
    slower = held(run(ratio=2.2), before)
    assert slower["time.digits-mlp.zil"] == (FAIL, "2.2 (2.09 to 2.31)")
    assert verdicts(run(ratio=0.5), before)["time.digits-mlp.zil"] == PASS


def test_a_time_without_an_interval_is_no_pass(stored):
    def without(metrics):
        metrics["tasks"]["digits-mlp"]["cost"]["zil"]["ratio"] |= {"low": None, "high": None}
        return metrics

    for now, before in ((without(run()), stored()), (run(), stored(without(run())))):
        assert verdicts(now, before)["time.digits-mlp.zil"] == NOT_COMPARABLE


@pytest.mark.parametrize("field", MACHINE)
def test_times_of_another_machine_are_not_compared_and_accuracies_are(stored, field):
    before, other = stored(), {**run(ratio=9.0), "timed_on": {**MACHINE, field: ["another"]}}
    found = held(other, before)
    assert found["time.digits-cnn.zil"] == (NOT_COMPARABLE, f"timed on another machine ({field})")
    assert found["accuracy.digits-cnn.zil"][0] == PASS


def test_two_machines_that_nobody_recorded_are_not_the_same(stored):
    unknown = {**run(), "timed_on": {key: ["not recorded"] for key in MACHINE}}
    assert verdicts(unknown, stored(unknown))["time.digits-mlp.zil"] == NOT_COMPARABLE


@pytest.mark.parametrize(
    ("where", "value", "key", "kinds"),
    [
        (("profiles", "smoke", "tasks", "digits-cnn"), 3, "epochs", {"accuracy"}),
        (("tasks", "digits-cnn", "batch_size"), 32, "task.batch_size", {"accuracy", "time"}),
        (("rules", "zil", "engine"), "zil-state", "rule.engine", {"accuracy", "time"}),
        (("device",), "cuda", "device", {"accuracy", "time"}),
    ],
)
def test_figures_of_other_parameters_are_not_compared_and_it_is_said_which(stored, where, value, key, kinds):
    before, parameters = stored(), copy.deepcopy(PARAMETERS)
    inner = parameters
    for part in where[:-1]:
        inner = inner[part]
    inner[where[-1]] = value
    found = held(run(), before, parameters)
    for kind in ("accuracy", "time"):
        verdict, said = found[f"{kind}.digits-cnn.zil"]
        assert verdict == (NOT_COMPARABLE if kind in kinds else PASS)
        assert (said == f"other parameters: {key}") == (kind in kinds)


def test_another_label_is_not_another_experiment(stored):
    parameters = copy.deepcopy(PARAMETERS)
    parameters["rules"]["zil"]["label"] = "Zero-divergence IL"
    assert set(verdicts(run(), stored(), parameters).values()) == {PASS}


@pytest.mark.parametrize(("kind", "section"), [("accuracy", "accuracy"), ("time", "cost")])
def test_what_vanished_from_the_report_fails(stored, kind, section):
    before, now = stored(), run()
    del now["tasks"]["digits-cnn"][section]["zil"]
    assert held(now, before)[f"{kind}.digits-cnn.zil"] == (FAIL, "missing")
    now["tasks"] = {"digits-mlp": now["tasks"]["digits-mlp"]}
    assert held(now, before)[f"{kind}.digits-cnn.zil"] == (FAIL, "missing")


def test_a_rule_that_can_no_longer_be_captured_fails(stored):
    now = run()
    now["tasks"]["digits-cnn"]["cost"]["zil"] = {"refused": "no program"}
    assert verdicts(now, stored())["time.digits-cnn.zil"] == FAIL


def test_what_was_taken_out_of_params_yaml_or_came_in_is_not_comparable(stored):
    before, parameters = stored(), copy.deepcopy(PARAMETERS)
    del parameters["profiles"]["smoke"]["tasks"]["digits-cnn"]
    only, both = run(tasks=("digits-mlp",)), run()
    assert held(only, before, parameters)["accuracy.digits-cnn.bp"][0] == NOT_COMPARABLE
    found = held(both, stored(only))
    assert found["accuracy.digits-cnn.bp"] == (NOT_COMPARABLE, "not in the baseline")


def test_other_seeds_have_no_pairs(stored):
    now = run()
    now["tasks"]["digits-mlp"]["accuracy"]["bp"]["by_seed"] = {"7": 0.1}
    assert held(now, stored())["accuracy.digits-mlp.bp"] == (NOT_COMPARABLE, "no seed in common")


def test_without_a_baseline_nothing_is_compared_and_it_is_said_how_to_write_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert baseline.load("smoke") is None
    findings = hold(run(), None, BOUNDS, PARAMETERS, "smoke")
    assert [finding.verdict for finding in findings] == [NOT_COMPARABLE]
    (line,) = told(findings)
    assert "no baseline" in line and "`pcbench check --profile smoke --update-baseline` writes it" in line


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text[:100], "cannot be read"),
        (lambda text: text.replace('"schema": 1', '"schema": 2'), "schema is 2"),
        (lambda text: text.replace('"profile": "smoke"', '"profile": "paper"'), "profile is 'paper'"),
        (lambda text: text.replace("0.95,", '"much",'), "is 'much'"),
        (lambda text: text.replace('"time"', '"times"'), "'time'"),
    ],
)
def test_a_damaged_baseline_is_refused(stored, spoil, said):
    stored()
    path = Path("baselines/smoke.json")
    text = path.read_text(encoding="utf-8")
    path.write_text(spoil(text), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    with pytest.raises(ResultError, match=said):
        baseline.load("smoke")


def test_what_changes_by_an_update_is_said(stored):
    before = stored()
    now = changed(run(ratio=3.0), "digits-mlp", "bp", lambda seed: -0.01)
    del now["tasks"]["digits-cnn"]["accuracy"]["zil"]
    lines = baseline.write(now, before, PARAMETERS, "smoke")
    assert lines == [
        "accuracy.digits-cnn.zil: gone",
        "accuracy.digits-mlp.bp: 95.40 % → 94.40 %, seeds 0, 1, 2, 3, 4",
        "2 accuracies as they were",
        "2 times, 2 to 2 × what they were",
        "wrote baselines/smoke.json",
    ]
    assert verdicts(now, baseline.load("smoke"))["accuracy.digits-mlp.bp"] == PASS


def test_the_same_run_gives_the_same_bytes(stored):
    stored()
    content = Path("baselines/smoke.json").read_bytes()
    stored()
    assert Path("baselines/smoke.json").read_bytes() == content


TASK = "digits-mlp"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder with all that `pcbench check` reads, really measured: one small task of profile smoke, with five seeds."""
    folder = tmp_path_factory.mktemp("measured")
    parameters = copy.deepcopy(PARAMETERS)
    parameters["profiles"]["smoke"] |= {"seeds": [0, 1, 2, 3, 4], "zoo": [], "scaling": [], "tasks": {TASK: 1}}
    parameters["tasks"][TASK]["model"] = {"hidden": 8}
    for stage in ("exactness", "proof", "conformance", "cost", "train"):
        parameters[stage]["rules"] = ["bp", "zil"] if stage in ("cost", "train") else ["zil"]
    del parameters["train"]["only"]
    parameters["conformance"]["grids"] = {}
    parameters["conditions"] |= {"gammas": [0.5, 1], "sigmas": [0, 0.01]}
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))
    # The committed ones miss the rules that are left out here.
    expected = {"baseline": BOUNDS, "weights": {"*.zil.max_ulp": {"equals": 0}}}
    (folder / "expectations.yaml").write_text(yaml.safe_dump(expected))
    for arguments in (
        ["fetch", "digits"],
        *([stage, TASK] for stage in params.OF_TASKS),
        ["report"],
    ):
        profile = [] if arguments[0] == "fetch" else ["--profile", "smoke"]
        assert_code(0, pcbench(folder, *arguments, *profile))
    return folder


def pcbench(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    command = [sys.executable, "-m", "pcbench", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def assert_code(code, done):
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def place(measured, tmp_path):
    shutil.copytree(measured, tmp_path / "place", symlinks=True)
    return tmp_path / "place"


CHECK = ("check", "--profile", "smoke")


def test_a_measured_run_is_stored_and_is_then_what_the_next_is_held_to(place):
    """And each fault that is planted in the report is found: it stands alone among what fell short."""
    assert "no baseline: baselines/smoke.json" in assert_code(0, pcbench(place, *CHECK))
    said = assert_code(0, pcbench(place, *CHECK, "--update-baseline"))
    assert "the first baseline of this profile: 2 accuracies, 1 times" in said
    assert "2 × accuracy identical in every seed; 1 × time no worse" in assert_code(0, pcbench(place, *CHECK))
    path = place / "reports/smoke/metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))

    worse = changed(metrics, TASK, "zil", lambda seed: -0.03)
    path.write_text(json.dumps(worse))
    said = assert_code(1, pcbench(place, *CHECK, "--annotate"))
    assert (
        "::error file=baselines/smoke.json" in said
        and "-3.00 points in 5 seeds (p = 0.031)" in said
        and "1 fail" in said
    )
    path.write_text(json.dumps(changed(metrics, TASK, "zil", lambda seed: -0.03 * (seed == 1))))
    assert_code(0, pcbench(place, *CHECK))
    slower = copy.deepcopy(metrics)
    ratio = slower["tasks"][TASK]["cost"]["zil"]["ratio"]
    ratio |= {
        "median": 2 * ratio["high"],
        "low": 1.5 * ratio["high"],
        "high": 3 * ratio["high"],
    }  # however much it scatters
    path.write_text(json.dumps(slower))
    assert f"baseline.time.{TASK}.zil" in assert_code(1, pcbench(place, *CHECK))


def test_a_run_that_falls_short_becomes_no_baseline(place):
    path = place / "reports/smoke/metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["tasks"][TASK]["weights"]["zil"]["max_ulp"] = 1
    path.write_text(json.dumps(metrics))
    said = assert_code(1, pcbench(place, *CHECK, "--update-baseline"))
    assert f"weights.{TASK}.zil.max_ulp" in said and "baselines/smoke.json stays as it is" in said
    assert not (place / "baselines").exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("figure", "metrics.json is not of the results in 'results/smoke'"),
        ("code", "was made by other code than lies here"),
        ("provenance", "says what code made it"),
        ("results", "holds no results"),
    ],
)
def test_a_run_of_other_results_or_code_than_lie_here_becomes_no_baseline(place, spoil, said):
    sidecar = place / f"results/smoke/train/{TASK}.provenance.json"
    if spoil == "figure":
        path = place / "reports/smoke/metrics.json"
        path.write_text(
            json.dumps(changed(json.loads(path.read_text(encoding="utf-8")), TASK, "bp", lambda seed: 0.01))
        )
    elif spoil == "code":
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_text(encoding="utf-8")), "code_sha256": "0" * 64}))
    elif spoil == "provenance":
        sidecar.unlink()
    else:
        shutil.rmtree(place / "results")
    error = assert_code(2, pcbench(place, *CHECK, "--update-baseline"))
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error
    assert not (place / "baselines").exists()


COMMITTED = sorted(path.stem for path in (ROOT / "baselines").glob("*.json"))


def test_the_profile_that_is_run_on_every_change_has_a_baseline():
    assert "smoke" in COMMITTED and set(COMMITTED) <= set(PARAMETERS["profiles"])


@pytest.mark.parametrize("profile", COMMITTED)
def test_a_committed_baseline_is_of_todays_parameters_and_holds_every_accuracy(profile, monkeypatch):
    """Else it would be compared with nothing, and no run could fall short of it."""
    monkeypatch.chdir(ROOT)
    found = baseline.load(profile)
    now = {"profile": profile, "timed_on": found["timed_on"], "tasks": {}}
    for task in PARAMETERS["profiles"][profile]["tasks"]:
        seeds = dict.fromkeys(map(str, PARAMETERS["profiles"][profile]["seeds"]), 0.0)
        rules = PARAMETERS["train"]["rules"]
        now["tasks"][task] = {"accuracy": {rule: {"by_seed": seeds} for rule in rules}, "cost": {}}
    bounds = load_expectations(ROOT / "expectations.yaml", PARAMETERS["tasks"])["baseline"]
    held = {each.what: each.verdict for each in hold(now, found, bounds, PARAMETERS, profile)}
    assert {held[f"baseline.accuracy.*.{rule}"] for rule in PARAMETERS["train"]["rules"]} == {FAIL}
    assert "not in the baseline" not in json.dumps(list(held.values()))
