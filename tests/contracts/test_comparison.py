"""Comparing runs; oracle: real trainings of a few updates, in which this test flips one bit, and figures made up here.

Aimed at: "identical" said of other bits, a place that is not the first one, an archive that lost something, a verdict where
nothing can be compared.
"""

import dataclasses
import shutil
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from torch.optim.optimizer import register_optimizer_step_post_hook

from pcbench import data, params, tasks
from pcbench.check import runs
from pcbench.check.comparison import COMPATIBLE, DIFFERS, IDENTICAL, NOT_COMPARABLE, NOT_JUDGED, compare_runs
from pcbench.cli import main
from pcbench.errors import InvalidParameters, ResultError
from pcbench.files import read_json, write_json
from pcbench.measure import certificates, cost
from pcbench.measure.matched import Matched
from pcbench.measure.training import train
from pcbench.provenance import environment, sidecar, write_sidecar

ROOT = Path(__file__).resolve().parents[2]
TASK = "digits-mlp"


def parameters(seeds=(0, 1)):
    """Two epochs of three updates."""
    found = params.load(ROOT / "params.yaml")
    found["train"] = {"rules": ["bp", "zil"]}
    found["tasks"][TASK] |= {"batch_size": 32, "model": {"hidden": 6}}
    found["profiles"]["smoke"] = {"seeds": list(seeds), "rounds": 4, "zoo": [], "scaling": [], "tasks": {TASK: 2}}
    return found


@pytest.fixture(scope="module")
def dataset(digits):
    whole = data.load("digits", digits)
    few = {
        name: data.Split(s.inputs[:96], s.targets[:96]) for name, s in (("train", whole.train), ("test", whole.test))
    }
    return dataclasses.replace(whole, **few)


@contextmanager
def fault(step, index=None, bit=0):
    """After the given optimizer step of all (two rules take turns), flip a bit of one weight, or of every one."""
    taken = 0

    def flip(optimizer, *_):
        nonlocal taken
        taken += 1
        if taken == step:
            words = optimizer.param_groups[0]["params"][0].data.view(-1).view(torch.int32)
            words[slice(None) if index is None else index] ^= 2**bit

    hook = register_optimizer_step_post_hook(flip)
    yield
    hook.remove()


def of(whole, dataset):
    settings = params.task(whole, TASK)
    return Matched(tasks.named(TASK, settings["network"]), settings, dataset)


def run(folder, dataset, seeds=(0, 1), planted=None, edit=lambda numbers: None):
    whole = parameters(seeds)
    edit(whole)
    matched, settings = of(whole, dataset), params.section(whole, "train")
    path = folder / "train" / TASK
    for seed in seeds:
        with planted if planted and seed == seeds[0] else fault(0):
            write_json(path / f"seed-{seed}.json", train(matched, settings, seed, 2, folder / str(seed)))
    made_on = [("", environment())]  # whatever the parameters say
    write_sidecar(path, params.of_stage(whole, "smoke", "train", TASK), dataset.sha256, made_on=made_on)
    return folder


@pytest.fixture(scope="module")
def first(dataset, tmp_path_factory):
    return run(tmp_path_factory.mktemp("first") / "smoke", dataset)


def compared(one, other):
    with runs.opened(str(one), "smoke", Path(".")) as a, runs.opened(str(other), "smoke", Path(".")) as b:
        return compare_runs(a, b)


def test_two_real_runs_are_identical(first, dataset, tmp_path):
    found = compared(first, run(tmp_path / "second", dataset))
    assert (found.environment, found.code) == ({}, 0)
    assert [(each.result, each.verdict, each.reasons) for each in found.findings] == [(f"train/{TASK}", IDENTICAL, ())]


@pytest.mark.parametrize(("step", "rule", "update"), [(1, "bp", 1), (6, "zil", 3), (9, "bp", 5)])
def test_a_flipped_bit_is_found_at_its_update_in_its_parameter(first, dataset, tmp_path, step, rule, update):
    found = compared(first, run(tmp_path / "second", dataset, planted=fault(step, index=77, bit=3)))
    (finding,) = found.findings
    assert (finding.verdict, found.code) == (DIFFERS, 1)
    name = next(
        iter(read_json(first / "train" / TASK / "seed-0.json")["results"][0]["metrics"]["fingerprints"]["layout"])
    )[0]
    assert f"first: seed 0, rule {rule}: update {update}: {name}, element 77, bit 3" in finding.reasons[0]
    # Where BP's weights part, so does Z-IL's distance from them.
    assert finding.reasons[0].startswith(f"{2 if rule == 'bp' else 1} of 4 part")
    assert all("accuracy of" in line for line in finding.reasons[1:])


def test_of_many_elements_that_differ_the_tensors_are_named(first, dataset, tmp_path):
    found = compared(first, run(tmp_path / "second", dataset, planted=fault(3)))
    (reason, *_) = found.findings[0].reasons
    assert "update 2: several elements, in 1 of 6 tensors: " in reason and "rule bp" in reason


@pytest.mark.parametrize(
    ("edit", "key"),
    [
        (lambda p: p["tasks"][TASK]["optimizer"].update(lr=0.5), "task.optimizer.lr"),
        (lambda p: p.update(device="cuda"), "device"),  # a GPU rounds otherwise
    ],
    ids=["learning rate", "device"],
)
def test_other_parameters_are_named_rather_than_compared(first, dataset, tmp_path, edit, key):
    found = compared(first, run(tmp_path / "second", dataset, edit=edit))
    (finding,) = found.findings
    assert (finding.verdict, found.code) == (NOT_COMPARABLE, 2)
    assert finding.reasons == (f"other parameters: {key}",)


def test_seeds_in_common_are_compared_bit_by_bit_and_a_seed_that_is_lacking_is_no_pass(first, dataset, tmp_path):
    found = compared(first, run(tmp_path / "second", dataset, seeds=(1,)))
    (finding,) = found.findings
    assert (finding.verdict, found.code) == (NOT_COMPARABLE, 2) and "seed 0, rule bp" in finding.reasons[0]


def test_without_a_seed_in_common_accuracies_are_compared(first, dataset, tmp_path):
    found = compared(first, run(tmp_path / "second", dataset, seeds=(2, 3)))
    (finding,) = found.findings
    assert (finding.verdict, found.code) == (COMPATIBLE, 0)
    assert "Welch" in finding.reasons[0] and "no seed in common" in finding.reasons[-1]


def edited(folder, path, edit):
    value = read_json(folder / path)
    edit(value)
    write_json(folder / path, value)
    record = folder / "train" / f"{TASK}.provenance.json"
    described = read_json(record)
    write_sidecar(folder / "train" / TASK, described["parameters"], described["data_sha256"])


def test_accuracies_that_are_far_apart_differ(first, dataset, tmp_path):
    second = run(tmp_path / "second", dataset, seeds=(2, 3))
    for seed in (2, 3):
        edited(
            second,
            f"train/{TASK}/seed-{seed}.json",
            lambda v: [r["metrics"].update(test_accuracy=9.0) for r in v["results"]],
        )
    found = compared(first, second)
    assert (found.findings[0].verdict, found.code) == (DIFFERS, 1)


def test_a_figure_that_differs_while_all_weights_are_equal_is_named(first, tmp_path):
    second = Path(shutil.copytree(first, tmp_path / "second"))
    edited(second, f"train/{TASK}/seed-0.json", lambda v: v["results"][1]["metrics"].update(test_accuracy=0.5))
    reason = compared(first, second).findings[0].reasons[0]
    assert "rule zil: the same bits after 6 updates, but metrics.test_accuracy" in reason


def test_results_without_fingerprints_still_differ(first, tmp_path):
    second = Path(shutil.copytree(first, tmp_path / "second"))
    edited(second, f"train/{TASK}/seed-0.json", lambda v: v["results"][0]["metrics"].pop("fingerprints"))
    (finding,) = compared(first, second).findings
    assert finding.verdict == DIFFERS and "no fingerprints were kept" in finding.reasons[0]


def test_a_certificate_that_differs_is_named_by_its_figure(dataset, tmp_path):
    whole = parameters()
    whole["proof"]["rules"] = ["zil"]
    result = certificates.proof(of(whole, dataset), params.section(whole, "proof"))
    for name in ("first", "same", "other"):
        if name == "other":
            result["results"][0]["metrics"]["digest"] = "0" * 64
        path = tmp_path / name / "proof" / f"{TASK}.json"
        write_json(path, result)
        write_sidecar(path, params.of_stage(whole, "smoke", "proof", TASK), dataset.sha256)
    same, other = (compared(tmp_path / "first", tmp_path / name) for name in ("same", "other"))
    assert [finding.verdict for finding in same.findings] == [IDENTICAL]
    (finding,) = other.findings
    assert (finding.verdict, finding.reasons) == (DIFFERS, ("1 of 1 part; first: rule zil: metrics.digest",))


def test_the_environment_is_told_first(first, tmp_path):
    second = Path(shutil.copytree(first, tmp_path / "second"))
    record = sidecar(second / "train" / TASK)
    write_json(record, {**read_json(record), "cpu": "another", "threads": 64, "versions": {"torch": "0.1"}})
    found = compared(first, second)
    assert found.environment["cpu"][1] == "another" and found.environment["versions.torch"][1] == "0.1"
    assert found.environment["versions.numpy"][1] == "not recorded"
    assert found.code == 0, "another environment with the same bits is what one hopes for"


def test_a_result_that_only_one_has_is_no_pass(first, tmp_path):
    second = Path(shutil.copytree(first, tmp_path / "second"))
    shutil.copytree(first / "train" / TASK, first.with_name("third") / "train" / "digits-cnn")
    for path in (first.with_name("third") / "train" / "digits-cnn").iterdir():
        value = read_json(path)
        write_json(path, {**value, "task": "digits-cnn"})
    found = compared(first.with_name("third"), second)
    assert {each.verdict for each in found.findings} == {NOT_COMPARABLE} and found.code == 2


@pytest.fixture(scope="module")
def timings(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("timings") / "smoke"
    whole = parameters()
    result = cost.cost(of(whole, dataset), params.section(whole, "cost"), rounds=4)
    for record in result["results"]:  # how busy this machine is decides no test
        record["metrics"]["seconds"]["samples"] = [0.010, 0.011, 0.009, 0.010]
    write_json(folder / f"cost/{TASK}.json", result)
    write_sidecar(folder / f"cost/{TASK}.json", params.of_stage(whole, "smoke", "cost", TASK), dataset.sha256)
    return folder


@pytest.mark.parametrize(
    ("factor", "cpu", "verdict", "code"),
    [(1, None, COMPATIBLE, 0), (40, None, DIFFERS, 1), (1 / 40, None, DIFFERS, 1), (40, "another", NOT_JUDGED, 2)],
)
def test_timings_are_compared_by_intervals_and_on_one_machine_only(timings, tmp_path, factor, cpu, verdict, code):
    second = Path(shutil.copytree(timings, tmp_path / "second"))
    path = second / f"cost/{TASK}.json"
    value = read_json(path)
    seconds = next(r for r in value["results"] if r["rule"] == "zil")["metrics"]["seconds"]
    seconds["samples"] = [factor * each for each in seconds["samples"]]
    write_json(path, value)
    described = read_json(sidecar(path))
    write_sidecar(path, described["parameters"], described["data_sha256"])
    if cpu:
        write_json(sidecar(path), {**read_json(sidecar(path)), "cpu": cpu})
    found = compared(timings, second)
    assert (found.findings[0].verdict, found.code) == (verdict, code)
    assert any("time of zil" in reason for reason in found.findings[0].reasons)


@pytest.fixture
def pcbench(tmp_path, monkeypatch, capsys):
    """Run `pcbench` by its real entry point in ``tmp_path``; return the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["pcbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code or 0, *capsys.readouterr())

    return call


def test_an_archive_is_compared_as_the_folder_is_and_the_same_results_give_the_same_bytes(first, pcbench, tmp_path):
    shutil.copytree(first, tmp_path / "results/smoke", ignore=shutil.ignore_patterns("[01]"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    assert pcbench("pack", "one.zip", "--profile", "smoke")[0] == 0
    assert pcbench("pack", "two.zip", "--profile", "smoke")[0] == 0
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        names = set(archive.namelist())
    assert {"manifest.json", "params.yaml", f"results/train/{TASK}.provenance.json"} <= names
    code, out, _ = pcbench("compare", "one.zip", first)
    assert code == 0 and "1 identical" in out
    edited(tmp_path / "results/smoke", f"train/{TASK}/seed-0.json", lambda v: v["results"][0].update(label="x"))
    assert pcbench("compare", "one.zip", "results/smoke")[0] == 1


@pytest.mark.parametrize("damage", ["cut", "text", "changed", "outside", "no manifest"])
def test_a_damaged_archive_is_refused_in_one_line(first, pcbench, tmp_path, damage):
    shutil.copytree(first, tmp_path / "results/smoke", ignore=shutil.ignore_patterns("[01]"))
    pcbench("pack", "one.zip", "--profile", "smoke")
    path = tmp_path / "one.zip"
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    if damage == "changed":
        contents[f"results/train/{TASK}/seed-0.json"] += b" "
    elif damage == "outside":
        contents["../evil.json"] = b"{}"
    elif damage == "no manifest":
        del contents["manifest.json"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "text":
        path.write_text("no archive")
    code, _, err = pcbench("compare", path, first)
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and "one.zip" in err
    assert not (tmp_path.parent / "evil.json").exists()


@pytest.mark.parametrize("place", ["nowhere", "HEAD", "-x", ""])
def test_what_is_neither_folder_nor_archive_nor_revision_is_refused(first, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(
        (InvalidParameters, ResultError), match=r"no folder, no archive, and no git revision|no results"
    ):
        compared(first, place)


def test_a_folder_without_results_is_refused(first, tmp_path):
    with pytest.raises(ResultError, match="holds no results"):
        compared(first, tmp_path)


def test_a_result_of_another_schema_is_refused(first, tmp_path):
    second = Path(shutil.copytree(first, tmp_path / "second"))
    edited(second, f"train/{TASK}/seed-0.json", lambda v: v.update(schema=2))
    with pytest.raises(ResultError, match="says schema 2"):
        compared(first, second)


def test_a_result_without_provenance_cannot_be_reproduced(first, pcbench, tmp_path):
    shutil.copytree(first, tmp_path / "results/smoke")
    sidecar(tmp_path / "results/smoke/train" / TASK).unlink()
    code, _, err = pcbench("reproduce", f"results/smoke/train/{TASK}")
    assert code == 2 and "nothing says what to run again" in err
    code, _, err = pcbench("reproduce", "results/smoke/train")
    assert code == 2 and "is no result" in err


def test_a_result_that_is_not_here_is_told_from_what_is_no_result(first, pcbench, tmp_path):
    code, _, err = pcbench("reproduce", f"results/smoke/train/{TASK}")
    assert code == 2 and "`make repro PROFILE=smoke` makes them; of this stage there is none" in err
    shutil.copytree(first, tmp_path / "results/smoke")
    code, _, err = pcbench("reproduce", "results/smoke/train/digits")
    assert code == 2 and f"of this stage there is results/smoke/train/{TASK}" in err and err.count("\n") == 1


def test_a_revision_that_is_not_there_is_told_from_one_without_a_run(tmp_path, monkeypatch, pcbench):
    monkeypatch.chdir(tmp_path)
    identity = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    for arguments in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "empty"]):
        subprocess.run(["git", *arguments], check=True, capture_output=True)
    code, _, err = pcbench("compare", "nowhere", "HEAD")
    assert code == 2 and "'nowhere' is no folder, no archive, and no git revision" in err and err.count("\n") == 1
    code, _, err = pcbench("compare", "HEAD", "nowhere", "--profile", "smoke")
    said = "git revision 'HEAD' has no profiles/smoke/dvc.lock: no run of profile 'smoke' was committed there"
    assert code == 2 and said in err and err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("which", [TASK, f"{TASK}/seed-1.json"])
def test_a_result_is_reproduced_from_its_provenance_and_one_flipped_bit_is_found(pcbench, tmp_path, which):
    whole = parameters()
    whole["tasks"][TASK]["batch_size"] = 512
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    for arguments in (["fetch", "digits"], ["train", TASK, "--profile", "smoke"]):
        assert pcbench(*arguments)[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()}
    code, out, _ = pcbench("reproduce", f"results/smoke/train/{which}")
    assert code == 0 and f"train/{TASK}: identical" in out
    assert {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()} == before

    def fake(value):
        """As if the second update of BP had set bit 4 of a bias."""
        prints = value["results"][0]["metrics"]["fingerprints"]
        prints["updates"][1] = f"{(int(prints['updates'][1], 16) + 1) % 2**128:032x}"

    edited(tmp_path / "results/smoke", f"train/{TASK}/seed-1.json", fake)
    code, out, _ = pcbench("reproduce", f"results/smoke/train/{which}")
    assert code == 1 and "seed 1, rule bp: update 2" in out


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.slow
def test_a_git_revision_is_compared_from_dvcs_cache_and_without_it_by_hash(first, dataset, pcbench, tmp_path):
    made = tmp_path / "made"
    shutil.copytree(first / "train", made)
    (tmp_path / "dvc.yaml").write_text(
        f"stages:\n  train@{TASK}:\n    cmd: mkdir -p results/smoke && cp -r made results/smoke/train\n"
        f"    deps: [made]\n    outs: [results/smoke/train/{TASK}, results/smoke/train/{TASK}.provenance.json]\n"
    )
    (tmp_path / "dvc.yaml").write_text((tmp_path / "dvc.yaml").read_text().replace(f"train@{TASK}:", f"train-{TASK}:"))
    (tmp_path / ".gitignore").write_text("/results\n/made\n")
    git(tmp_path, "init", "-q")
    dvc = [sys.executable, "-m", "dvc"]
    for arguments in (["init", "-q"], ["repro", "-q"]):
        subprocess.run([*dvc, *arguments], cwd=tmp_path, check=True, capture_output=True)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "run")
    (tmp_path / "profiles").mkdir()
    shutil.copytree(
        tmp_path, tmp_path / "profiles/smoke", ignore=lambda *_: {"profiles", ".git", ".dvc", "made", "results"}
    )
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "the profile's lock")
    code, out, err = pcbench("compare", "HEAD", "results/smoke", "--profile", "smoke")
    assert code == 0 and f"train/{TASK}: identical" in out, out + err
    edited(tmp_path / "results/smoke", f"train/{TASK}/seed-0.json", lambda v: v["results"][0].update(label="x"))
    assert pcbench("compare", "HEAD", "results/smoke", "--profile", "smoke")[0] == 1
    shutil.rmtree(tmp_path / ".dvc/cache")
    code, out, _ = pcbench("compare", "HEAD", "results/smoke", "--profile", "smoke")
    assert code == 2 and "by dvc.lock alone" in out


@pytest.mark.parametrize(("md5", "verdict", "code"), [("a", IDENTICAL, 0), ("b", DIFFERS, 1)])
def test_of_two_revisions_that_no_cache_has_anything_of_the_locks_speak(tmp_path, md5, verdict, code):
    def lock(result):
        return {"stages": {"train@x": {"outs": [{"path": "results/smoke/train/x", "md5": result}]}, "report": {}}}

    sides = runs.Run("HEAD", tmp_path, lock("a")), runs.Run("HEAD~1", tmp_path, lock(md5))
    found = compare_runs(*sides)
    assert [(each.result, each.verdict) for each in found.findings] == [("train/x", verdict)] and found.code == code
