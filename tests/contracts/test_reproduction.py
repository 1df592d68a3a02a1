"""The reproduction's verdict; oracle: the documented contract, on dvc.lock files made up here and committed in real git.

Aimed at: "identical" said of other bits, of nothing at all, or of a stage whose code or parameters have changed.
"""

import copy
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from pcbench.check.reproduction import DIFFERS, IDENTICAL, NOT_COMPARABLE, compare_locks, verdict
from pcbench.errors import ResultError


def stage(out="aa", dep="bb", parameter=3):
    return {
        "cmd": "pcbench train digits-mlp",
        "deps": [{"path": "pcbench/rules", "md5": dep}, {"path": "requirements.lock", "md5": "cc"}],
        "params": {"params.yaml": {"tasks.digits-mlp": {"epochs": parameter}}},
        "outs": [{"path": "results/train/digits-mlp", "md5": out}],
    }


PROVENANCE = Path("results/train/digits-mlp.provenance.json")
RECORDED = {"asked": "avx2", "pinned": "avx2", "force": "AVX2"}
PROFILE = {"tasks": ["digits-mlp"], "zoo": ["resnet18"]}
NAMES = ("exactness@digits-mlp", "train@digits-mlp", "zoo@resnet18")
LOCK = {"schema": "2.0", "stages": {**{name: stage() for name in NAMES}, "cost@digits-mlp": stage(), "report": stage()}}


def kinds(committed, current):
    return {name: kind for name, (kind, _) in compare_locks(committed, current).items()}


def changed(name, **options):
    lock = copy.deepcopy(LOCK)
    lock["stages"][name] = stage(**options)
    return lock


def test_the_same_lock_is_identical_in_every_deterministic_stage_and_in_no_other():
    assert kinds(LOCK, copy.deepcopy(LOCK)) == dict.fromkeys(NAMES, IDENTICAL)


@pytest.mark.parametrize("name", NAMES)
def test_other_bits_from_the_same_code_data_and_parameters_differ(name):
    assert kinds(LOCK, changed(name, out="other")) == {**dict.fromkeys(NAMES, IDENTICAL), name: DIFFERS}


@pytest.mark.parametrize("options", [{"dep": "other"}, {"parameter": 4}, {"dep": "other", "out": "other"}])
def test_what_was_made_from_something_else_is_not_comparable_and_it_is_said_from_what(options):
    verdicts = compare_locks(LOCK, changed(NAMES[1], **options))
    kind, reason = verdicts[NAMES[1]]
    assert kind == NOT_COMPARABLE
    assert ("pcbench/rules" if "dep" in options else "params.yaml:tasks.digits-mlp") in reason


def test_a_stage_that_was_not_committed_is_not_comparable():
    committed = copy.deepcopy(LOCK)
    del committed["stages"][NAMES[0]]
    assert kinds(committed, LOCK)[NAMES[0]] == NOT_COMPARABLE


@pytest.mark.parametrize("section", ["deps", "outs", "params"])
def test_a_lost_section_is_never_identical(section):
    lock = copy.deepcopy(LOCK)
    del lock["stages"][NAMES[0]][section]
    assert kinds(LOCK, lock)[NAMES[0]] != IDENTICAL


def test_times_are_not_compared():
    assert kinds(LOCK, changed("cost@digits-mlp", out="other")) == dict.fromkeys(NAMES, IDENTICAL)


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """With the lock committed, and the result there that it speaks of, with its provenance."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "train" / "digits-mlp").mkdir(parents=True)
    PROVENANCE.write_text(json.dumps({"instruction_set": RECORDED}))
    git(tmp_path, "init", "-q")
    path = tmp_path / "dvc.lock"
    path.write_text(yaml.safe_dump(LOCK))
    git(tmp_path, "add", "dvc.lock")
    git(tmp_path, "commit", "-q", "-m", "lock")
    return path


def test_the_verdict_counts_and_lists_what_is_not_identical(repository):
    (line,) = verdict(repository, PROFILE)
    assert "3 identical" in line
    repository.write_text(yaml.safe_dump(changed(NAMES[2], out="other")))
    head, *rest = verdict(repository, PROFILE)
    assert "2 identical" in head and "1 differs" in head
    assert NAMES[2] in rest[0] and not any(name in " ".join(rest) for name in NAMES[:2])


def test_a_fresh_clone_in_which_nothing_was_run_reproduces_nothing(repository, tmp_path):
    (tmp_path / "results" / "train" / "digits-mlp").rmdir()
    head, line = verdict(repository, PROFILE)
    assert "3 not comparable" in head and "identical" not in head
    assert "not run here" in line and all(name in line for name in NAMES)


def test_what_params_yaml_no_longer_lists_is_not_spoken_of(repository):
    lock = copy.deepcopy(LOCK)
    gone = stage()
    gone["outs"][0]["path"] = "results/train/digits-svm"
    lock["stages"]["train@digits-svm"] = gone
    repository.write_text(yaml.safe_dump(lock))
    (line,) = verdict(repository, PROFILE)
    assert "3 identical" in line


def test_what_was_committed_and_is_gone_from_the_lock_was_not_run(repository):
    lock = copy.deepcopy(LOCK)
    del lock["stages"][NAMES[1]]
    repository.write_text(yaml.safe_dump(lock))
    head, line = verdict(repository, PROFILE)
    assert "2 identical, 1 not comparable" in head and f"{NAMES[1]}: not comparable (not run here)" in line


DAMAGED = {
    "half merged": "schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n=======\nstages: {a: {}}\n>>>>>>> theirs\n",
    "no yaml": "stages: [",
    "no lock": "[1, 2]",
    "no stages": "schema: '2.0'",
    "no stage": "stages: {train@digits-mlp: 3}",
    "a stage twice": "stages:\n  a: {}\n  a: {}\n",
    "not UTF-8": b"stages: {}\n# \xff",
    "empty": "",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("committed", [False, True], ids=["here", "committed"])
def test_a_damaged_lock_is_refused_in_one_line_with_its_remedy(repository, content, committed):
    repository.write_bytes(content if isinstance(content, bytes) else content.encode())
    if committed:
        git(repository.parent, "commit", "-qam", "damaged")
        repository.write_text(yaml.safe_dump(LOCK))
        if isinstance(content, bytes):
            pytest.skip("git hands on what it can: the rest of it is a lock")
    with pytest.raises(ResultError, match=r"dvc\.lock' is .*; take the committed one.*make repro") as refused:
        verdict(repository, PROFILE)
    assert "\n" not in str(refused.value)


def test_stages_that_differ_for_the_same_reason_share_a_line(repository):
    lock = changed(NAMES[0], out="other")
    lock["stages"][NAMES[1]] = changed(NAMES[1], out="other")["stages"][NAMES[1]]
    repository.write_text(yaml.safe_dump(lock))
    _, line, *_ = verdict(repository, PROFILE)
    assert f"{NAMES[0]}, {NAMES[1]}: differs" in line and NAMES[2] not in line


def test_without_a_lock_of_our_own_nothing_is_identical(repository):
    repository.unlink()
    head, line = verdict(repository, PROFILE)
    assert "identical" not in head and "3 not comparable" in head and "not run here" in line


@pytest.mark.parametrize("with_git", [True, False], ids=["nothing committed", "no git"])
def test_without_a_committed_lock_it_is_not_comparable(tmp_path, with_git, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    if with_git:
        git(tmp_path, "init", "-q")
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(LOCK))
    (line,) = verdict(tmp_path / "dvc.lock", PROFILE)
    assert "not comparable" in line and "identical" not in line


@pytest.mark.parametrize(
    ("recorded", "kind"),
    [
        (RECORDED, DIFFERS),
        ({**RECORDED, "pinned": "native", "force": "AVX512"}, NOT_COMPARABLE),
        ({"asked": "baseline", "pinned": "baseline", "force": "DEFAULT"}, NOT_COMPARABLE),
        (None, NOT_COMPARABLE),
    ],
)
def test_other_bits_are_news_only_under_the_instruction_set_that_all_hold_to(repository, recorded, kind):
    repository.write_text(yaml.safe_dump(changed(NAMES[1], out="other")))
    PROVENANCE.unlink()
    if recorded:
        PROVENANCE.write_text(json.dumps({"instruction_set": recorded}))
    head, line, *_ = verdict(repository, PROFILE)
    assert f"2 identical, 1 {kind}" in head
    assert ("instruction set" in line) == (kind == NOT_COMPARABLE)
    if recorded:
        assert kind == DIFFERS or recorded["force"] in line


def test_other_bits_on_a_gpu_are_no_news(repository):
    """Nothing says which GPU the committed ones are of; the same bits are identical there too."""
    PROVENANCE.write_text(json.dumps({"instruction_set": RECORDED, "gpu": "NVIDIA H100"}))
    (line,) = verdict(repository, PROFILE)
    assert "3 identical" in line
    repository.write_text(yaml.safe_dump(changed(NAMES[1], out="other")))
    head, line, *_ = verdict(repository, PROFILE)
    assert f"2 identical, 1 {NOT_COMPARABLE}" in head and "computed on a GPU, NVIDIA H100" in line


def test_the_same_bits_are_identical_whatever_the_provenance_says(repository):
    lock = copy.deepcopy(LOCK)
    for name, provenance in ((NAMES[0], "here"), (NAMES[1], "there")):
        lock["stages"][name]["outs"].append({"path": "results/train/digits-mlp.provenance.json", "md5": provenance})
    repository.write_text(yaml.safe_dump(lock))
    (line,) = verdict(repository, PROFILE)
    assert "3 identical" in line
