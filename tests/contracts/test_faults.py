"""Faults of running, each provoked for real; oracle: the table in docs/faults.md.

Aimed at: a traceback, half a result, work lost that was finished, children that outlive their parent, a wait without a word.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pcbench import executors, params, pipeline, stages
from pcbench.files import alone, check_writable, read_json

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; from pcbench.cli import main; sys.argv[0] = 'pcbench'; main()"
TASK = "digits-mlp"
pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")


class Place:
    """A folder with parameters and the digits, in which `pcbench` runs in processes of its own."""

    def __init__(self, folder, digits):
        self.folder = folder
        whole = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        whole["train"] = {"rules": ["bp", "zil"]}
        whole["tasks"][TASK]["model"] = {"hidden": 8}
        whole["profiles"]["smoke"] |= {"seeds": [0, 1], "rounds": 1}
        whole["profiles"]["smoke"]["tasks"] = {TASK: 2}
        self.parameters = whole
        self.write()
        (folder / "datasets").symlink_to(digits)

    def write(self):
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.parameters, sort_keys=False))

    def epochs(self, count):
        self.parameters["profiles"]["smoke"]["tasks"][TASK] = count
        self.write()

    def start(self, *arguments, before="", **options):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
            "PYTHONPYCACHEPREFIX": "/tmp/pcbench-pyc",
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", before + MAIN, *map(str, arguments)]
        return subprocess.Popen(command, cwd=self.folder, env=environment, start_new_session=True, **pipes, **options)

    def run(self, *arguments, **options):
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=300)
        assert "Traceback" not in out + err, err
        return process.returncode, out, err

    def train(self, **options):
        return self.run("train", TASK, "--profile", "smoke", **options)

    def files(self, pattern="**/*"):
        found = (path for path in self.folder.glob(pattern) if path.is_file() and "pyc" not in path.suffix)
        return sorted(path.relative_to(self.folder).as_posix() for path in found)


@pytest.fixture
def place(tmp_path, digits):
    return Place(tmp_path, digits)


def children(pid):
    """The processes below ``pid``, and what each was called with."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            command = (path.parent / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found[int(path.parent.name)] = command
            found |= children(int(path.parent.name))
    return found


def workers(pid):
    return [child for child, command in children(pid).items() if "spawn_main" in command]


def until(condition, patience=120):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def catches(pid, number):
    """Whether the process has a handler for the signal."""
    caught = re.search(r"^SigCgt:\t(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught[1], 16) >> (number - 1) & 1)


def gone(pids):
    until(lambda: not any(Path(f"/proc/{pid}").exists() and children_state(pid) != "Z" for pid in pids))


def children_state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_the_table_names_a_test_that_exists_for_every_fault():
    text = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| fault |")]
    assert len(rows) >= 20
    tests = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    for row in rows:
        (named,) = re.findall(r"`(test_\w+)`", row)
        assert named in tests, row


@pytest.mark.parametrize("stage", ["exactness", "cost", "train"])
@pytest.mark.parametrize("blocked", ["results", "results/smoke", "result", "provenance"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(place, stage, blocked):
    suffix = "" if stage == "train" else ".json"
    path = place.folder / "results/smoke" / stage / f"{TASK}{suffix}"
    if blocked == "provenance":
        path.with_name(f"{TASK}.provenance.json").mkdir(parents=True)
    elif blocked == "result" and stage != "train":
        path.mkdir(parents=True)
    else:
        path = path if blocked == "result" else place.folder / blocked
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("in the way")
    before = place.files()
    (place.folder / "datasets").unlink()  # it is said before the data are read
    code, _, err = place.run(stage, TASK, "--profile", "smoke")
    assert code == 2 and err.startswith("error: cannot write to ") and err.count("\n") == 1
    assert place.files() == before


def test_a_folder_of_another_user_is_refused_before_the_work(tmp_path):
    """Root may write anywhere, so it becomes nobody first."""
    home = tmp_path / "of-somebody-else"
    home.mkdir(mode=0o500)
    code = (
        "import os; from pcbench.files import check_writable\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        f"check_writable({str(home / 'results/a.json')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and "NodeFault: cannot write to" in done.stderr and "Permission denied" in done.stderr


def test_a_probe_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "a/b/c.json")
    check_writable(tmp_path / "a/b/folder")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_the_old_result_and_no_half(place):
    assert place.run("cost", TASK, "--profile", "smoke")[0] == 0
    before = place.files("results/**/*")
    content = {name: (place.folder / name).read_bytes() for name in before}
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
    code, _, err = place.run("cost", TASK, "--profile", "smoke", before=limit)
    assert code == 2 and re.search(
        r"cannot write '\.pcbench/cells/cost/digits-mlp/\w+\.json' \(File too large\)", err
    ), err
    assert err.count("\n") == 1 and "nothing of it is left" in err
    assert {name: (place.folder / name).read_bytes() for name in place.files("results/**/*")} == content
    assert not place.files(".pcbench/**/*.json") and not place.files(".pcbench/**/.*")


@pytest.mark.slow
def test_a_disk_that_is_full_in_the_middle_of_training_is_named_and_the_next_run_goes_on(place):
    limit = (
        "import resource\nfrom pcbench import stages\nold = stages.reproducible\n"
        "def reproducible():\n    old()\n    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "stages.reproducible = reproducible\n"
    )
    (place.folder / "limited.py").write_text(limit)
    code, _, err = place.train(before="import limited\nlimited.reproducible()\n")
    assert code == 2 and re.search(r"cannot write '\.?p?.*seed-\d\.pt' \(File too large\)|cannot write", err), err
    assert not place.files("results/**/*") and not place.files(".pcbench/**/.seed*")
    assert place.train()[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_training_ends_its_children_and_is_gone_on_with(place, number):
    place.epochs(40)
    process = place.start("train", TASK, "--profile", "smoke")
    until(lambda: place.files(".pcbench/**/seed-*.pt") or process.poll() is not None)
    below = children(process.pid)
    assert len(workers(process.pid)) == 2
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number and "Traceback" not in out + err
    assert "run the same command again to go on" in out
    gone(below)
    assert not place.files("results/**/*") and place.files(".pcbench/**/seed-*.pt")
    assert place.train()[0] == 0
    assert place.files("results/**/seed-*") == [f"results/smoke/train/{TASK}/seed-{seed}.json" for seed in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["exactness", "cost"])
def test_an_interrupted_stage_leaves_no_result_and_no_child(place, stage):
    place.parameters["profiles"]["smoke"]["rounds"] = 100_000
    place.write()
    process = place.start(stage, TASK, "--profile", "smoke")
    until(lambda: len(workers(process.pid)) == 2 if stage == "exactness" else catches(process.pid, signal.SIGTERM))
    below = children(process.pid)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in out + err
    gone(below)
    assert not place.files("results/**/*")


@pytest.mark.slow
def test_a_worker_that_the_system_kills_is_named_and_its_work_done_once_more(place):
    process = place.start("train", TASK, "--profile", "smoke")
    until(lambda: len(place.files(".pcbench/**/*.running")) == 2)
    os.kill(workers(process.pid)[0], signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert re.search(rf"a worker was killed by SIGKILL; train {TASK} [01] is done once more, at the end", err), err
    assert "Traceback" not in out + err
    killed = {name: (place.folder / name).read_bytes() for name in place.files("results/**/seed-*")}
    assert place.train()[0] == 0
    assert {name: (place.folder / name).read_bytes() for name in place.files("results/**/seed-*")} == killed


@pytest.mark.slow
def test_a_worker_that_is_killed_twice_is_reported_and_what_is_finished_is_kept(place):
    process = place.start("train", TASK, "--profile", "smoke")
    while process.poll() is None:
        for each in workers(process.pid):
            os.kill(each, signal.SIGKILL)
        time.sleep(0.2)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2 and "Traceback" not in err
    assert re.search(
        rf"error: .* (was|were) killed .*, twice, at train {TASK} [01]: free some memory and run again", err
    )
    assert not place.files("results/**/*")
    assert place.train()[0] == 0


@pytest.mark.slow
def test_two_trainings_of_one_task_wait_for_each_other(place):
    with alone(place.folder / f".pcbench/cells/train/{TASK}.lock", "this test"):
        second = place.start("train", TASK, "--profile", "smoke")
        said = second.stderr.readline()
        assert not place.files(".pcbench/**/seed-*") and not place.files("results/**/*")
    assert f"train of '{TASK}' is already going on in another process; waiting" in said
    second.communicate(timeout=300)
    assert second.returncode == 0 and place.files("results/**/seed-*")


def test_who_must_wait_says_so_and_then_goes_on(tmp_path, capsys):
    hold = (
        "import sys, time; from pathlib import Path; from pcbench.files import alone\n"
        "with alone('locks/x.lock', 'x'):\n    Path('held').touch()\n    time.sleep(2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", hold], cwd=tmp_path, env=environment):
        until((tmp_path / "held").exists)
        with alone(tmp_path / "locks/x.lock", "the work"):
            pass
    assert "the work is already going on in another process; waiting for its end" in capsys.readouterr().err


@pytest.mark.slow
def test_data_in_a_folder_that_cannot_be_written_are_read(place, digits):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (digits / "digits").chmod(0o500)
    try:
        assert place.run("cost", TASK, "--profile", "smoke")[0] == 0
    finally:
        (digits / "digits").chmod(0o700)


def test_a_checkout_of_another_owner_is_no_obstacle(place, monkeypatch):
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):  # whatever `safe.directory` this machine has
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert place.run("cost", TASK, "--profile", "smoke")[0] == 0
    record = read_json(place.folder / f"results/smoke/cost/{TASK}.provenance.json")
    known = subprocess.run(
        ["git", "-C", ROOT, "-c", f"safe.directory={ROOT}", "rev-parse", "HEAD"], capture_output=True
    )
    assert record["git_commit"] in (None, known.stdout.decode().strip())


@pytest.fixture
def repository(place):
    """A pipeline of one slow stage, under DVC."""
    script = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(float(open('seconds').read()))"
    (place.folder / "slow.py").write_text(f"{script}; open('out', 'w').write('done')\n")
    (place.folder / "seconds").write_text("60")
    (place.folder / "dvc.yaml").write_text(
        f"stages:\n  slow:\n    cmd: {sys.executable} slow.py\n    deps: [seconds]\n    outs: [out]\n"
    )
    (place.folder / "profiles").mkdir()
    (place.folder / "profiles/dvc.yaml").write_text(
        f"stages:\n  code:\n    wdir: ..\n    cmd: {sys.executable} -m pcbench code\n    outs: [.pcbench/code]\n"
    )
    quiet = {"cwd": place.folder, "check": True, "capture_output": True}
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], **quiet)
    place.parameters["profiles"]["default"] = place.parameters["profiles"]["smoke"]
    place.write()
    return place


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_pipeline_ends_dvc_and_its_stage_and_is_gone_on_with(repository, number):
    process = repository.start("run")
    until(lambda: (repository.folder / "pid").exists() and (repository.folder / "pid").read_text())
    below = children(process.pid)
    assert any("slow.py" in command for command in below.values())
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, out + err
    assert "interrupted; what is finished is kept" in err
    gone(below)
    (repository.folder / "seconds").write_text("0")
    code, out, err = repository.run("run")
    assert code == 0, out + err
    assert (repository.folder / "out").read_text() == "done"


@pytest.mark.slow
def test_two_runs_of_the_pipeline_wait_for_each_other(repository):
    (repository.folder / "seconds").write_text("0")
    with alone(repository.folder / ".pcbench/repro.lock", "this test"):
        second = repository.start("run")
        said = second.stderr.readline()
        assert not (repository.folder / "pid").exists()
    assert "a run of the pipeline is already going on in another process; waiting for its end" in said
    second.communicate(timeout=300)
    assert second.returncode == 0 and (repository.folder / "out").exists()


@pytest.mark.slow
def test_a_stage_that_fails_is_exit_code_2(repository):
    (repository.folder / "slow.py").write_text("raise SystemExit(1)")
    code, _, err = repository.run("run")
    assert code == 2 and "error: `dvc repro dvc.yaml` failed" in err


@pytest.mark.slow
def test_a_cell_that_always_fails_is_reported_and_the_others_are_finished_and_recorded(repository):
    place = repository
    (place.folder / "dvc.yaml").write_text(
        "stages:\n  exactness:\n    foreach: [broken, digits-mlp]\n    do:\n"
        f"      cmd: {sys.executable} -m pcbench exactness ${{item}}\n"
        "      params: ['tasks.${item}']\n"
        "      outs: ['results/default/exactness/${item}.json', 'results/default/exactness/${item}.provenance.json']\n"
    )
    good = place.parameters["tasks"][TASK]
    place.parameters["exactness"] |= {"dtypes": ["float32"], "seeds": [0, 1], "rules": ["zil"]}
    place.parameters["tasks"]["broken"] = {**good, "model": {"hidden": -1}}
    place.parameters["profiles"]["default"]["tasks"] = {TASK: 1, "broken": 1}
    place.write()
    code, out, err = place.run("run")
    assert code == 2 and "error: 2 of 4 cells failed, for the reasons above; the others are kept" in err, out + err
    assert out.count("no model can be made of {'hidden': -1}") == 2
    assert place.files("results/**/*.json") == [
        f"results/default/exactness/{TASK}{end}" for end in (".json", ".provenance.json")
    ]
    recorded = yaml.safe_load((place.folder / "dvc.lock").read_text())["stages"]
    assert [*recorded] == [f"exactness@{TASK}"]
    place.parameters["tasks"]["broken"] = good
    place.write()
    code, out, err = place.run("run")
    assert code == 0 and "2/2" in out, out + err
    one, other = (place.folder / f"results/default/exactness/{name}.json" for name in (TASK, "broken"))
    assert read_json(one)["results"][0]["metrics"] == read_json(other)["results"][0]["metrics"]
    code, out, err = place.run("run")
    assert code == 0 and "cells" not in out and "Running stage" not in out, out + err


class _Waits:
    """An executor that computes all cells but those of one task, and then does something before it goes on to these."""

    def __init__(self, task, before):
        self._task, self._before = task, before

    def outcomes(self, cells, options):
        last = [cell for cell in cells if cell.experiment.task == self._task]
        stages.reproducible()
        yield from (executors.kept(cell, stages.compute(cell)) for cell in cells if cell not in last)
        self._before()
        yield from (executors.kept(cell, stages.compute(cell)) for cell in last)


@pytest.fixture
def two(repository, monkeypatch, as_before):
    """A pipeline of two stages, and a function that runs it; between their cells, something happens."""
    place = repository
    # DVC runs this stage by itself.
    command = f"{sys.executable} -m pcbench exactness ${{item}}"
    command += " && touch ran-${item} && sleep $(cat wait-${item}) && rm ran-${item}"
    (place.folder / "dvc.yaml").write_text(
        f"stages:\n  exactness:\n    foreach: [{TASK}, other]\n    do:\n      cmd: {command}\n"
        "      outs: ['results/default/exactness/${item}.json', 'results/default/exactness/${item}.provenance.json']\n"
    )
    place.parameters["exactness"] |= {"dtypes": ["float32"], "seeds": [0], "rules": ["zil"]}
    place.parameters["tasks"]["other"] = place.parameters["tasks"][TASK]
    place.parameters["profiles"]["default"]["tasks"] = {TASK: 1, "other": 1}
    place.write()
    for name in (TASK, "other"):
        (place.folder / f"wait-{name}").write_text("0")
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(pipeline, "_ENOUGH", 1)

    def run(before):
        monkeypatch.setattr(executors, "named", lambda name: _Waits("other", before))
        pipeline.run("default", params.load())

    return run


def test_a_stage_whose_cells_are_done_is_recorded_while_others_are_computed(two):
    recorded = []

    def record():
        recorded.append(sorted(yaml.safe_load(Path("dvc.lock").read_text())["stages"]))

    def meanwhile():
        # While DVC writes the lock it is empty, for a moment: that is read when DVC has ended.
        until(lambda: not any("\0dvc\0" in command for command in children(os.getpid()).values()))
        record()

    two(meanwhile)
    record()
    assert recorded == [[f"exactness@{TASK}"], [f"exactness@{TASK}", "exactness@other"]]


def test_an_interruption_meanwhile_ends_dvc_and_its_stage_too(two):
    Path(f"wait-{TASK}").write_text("30")
    seen = {}

    def interrupted():
        until(Path(f"ran-{TASK}").exists)
        seen.update(children(os.getpid()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        two(interrupted)
    assert any("sleep" in command for command in seen.values())
    assert Path(f"ran-{TASK}").exists(), "it went on to its end"
    gone({pid: command for pid, command in seen.items() if "dvc" in command or "sleep" in command})


@pytest.mark.parametrize("content", ["<<<<<<< HEAD\n", "stages: 3", "\t"], ids=["half merged", "no stages", "no yaml"])
def test_a_pipeline_with_a_damaged_lock_does_not_begin(place, content):
    (place.folder / "dvc.lock").write_text(content)
    code, _, err = place.run("run")
    assert code == 2 and "dvc.lock" in err and "make repro" in err and err.count("\n") == 1


def test_a_pipeline_that_cannot_write_does_not_begin(place):
    (place.folder / "reports").write_text("in the way")
    code, _, err = place.run("run")
    assert code == 2 and "cannot write to 'reports'" in err


def test_a_pipeline_of_a_damaged_parameter_file_does_not_begin(place):
    (place.folder / "params.yaml").write_text("profiles: {smoke: 1, smoke: 2}")
    code, _, err = place.run("run")
    assert code == 2 and "the key 'smoke' stands twice" in err
