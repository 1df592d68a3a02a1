"""What code a result depends on; oracle: small packages written here, git, and what a stage really calls.

Aimed at: a stage that is not run again after a change of its code, and one that is after a change of another's; one
checkout's code under another one's commit.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pcbench import code, params
from pcbench.errors import PCBenchError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def package(tmp_path):
    """Write files of a package called `pcbench`; return the closure of entries in it, without the folder."""

    def write(files, *entries):
        for name, text in files.items():
            path = tmp_path / "pcbench" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            for folder in (path.parent, tmp_path / "pcbench"):
                (folder / "__init__.py").touch()
            path.write_text(text)
        return [path.removeprefix("pcbench/") for path in code.closure(*entries, root=tmp_path)]

    return write


@pytest.mark.parametrize(
    "statement",
    [
        "import pcbench.b",
        "import pcbench.b as other",
        "from pcbench import b",
        "from pcbench.b import thing",
        "from . import b",
        "from .b import thing as other",
        "def late():\n    from pcbench.b import thing",
        "class Late:\n    def at_last(self):\n        import pcbench.b",
        "try:\n    import pcbench.b\nexcept ImportError:\n    pass",
        "if False:\n    import pcbench.b",
    ],
)
def test_every_way_to_import_counts(package, statement):
    assert package({"a.py": statement, "b.py": "import os, torch", "c.py": ""}, "pcbench.a") == ["a.py", "b.py"]


def test_it_goes_on_through_what_is_imported_and_takes_packages_in_between(package):
    files = {"a.py": "from pcbench.room.b import x", "room/b.py": "from ..c import y", "c.py": "import pcbench.a"}
    assert package(files, "pcbench.a") == ["a.py", "c.py", "room/__init__.py", "room/b.py"]


def test_a_file_beside_it_that_it_names_counts(package):
    files = {"room/a.py": "open('style.css'); 'a text of other.css'", "room/style.css": "", "room/other.css": ""}
    assert package(files, "pcbench.room.a") == ["room/__init__.py", "room/a.py", "room/style.css"]


def test_of_a_thin_module_only_what_the_function_uses_counts(package):
    stages = (
        "from pcbench import b\nfrom pcbench.c import c\nimport pcbench.d\n"
        "LIMIT = b.LIMIT\n"
        "def first():\n    return helper()\n"
        "def helper():\n    return LIMIT\n"
        "def second():\n    return c\n"
    )
    files = {
        "stages.py": stages,
        "b.py": "",
        "c.py": "",
        "d.py": "",
        "a.py": "from pcbench import stages\nstages.second()",
    }
    assert package(files, "pcbench.stages:first") == ["b.py", "stages.py"]
    assert package({}, "pcbench.a") == ["a.py", "c.py", "stages.py"]
    assert package({}, "pcbench.stages") == ["b.py", "c.py", "d.py", "stages.py"]


def test_an_entry_that_does_not_exist_is_an_error(package):
    for entry in ("pcbench.nothing", "pcbench.a:nothing"):
        with pytest.raises(PCBenchError, match="nothing"):
            package({"a.py": ""}, entry)
    with pytest.raises(PCBenchError, match="no command 'bake'"):
        code.of_command("bake")


SEEN = """
import os, sys, threading
def importing(frame):
    while frame:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith({home!r}):
            return True
        frame = frame.f_back
def see(frame, event, argument, seen=set(), home={home!r}, log={log!r}):
    file = frame.f_code.co_filename
    if event == "call" and file.startswith(home) and file not in seen and not importing(frame):
        seen.add(file)
        with open(log, "a") as out:
            print(file[len(home):], file=out)
sys.setprofile(see)
threading.setprofile(see)
"""
MAIN = "import sys; from pcbench.__main__ import main; sys.argv[0] = 'pcbench'; main()"
SMALL = {
    "depth: {sizes: [4, 8, 16, 32, 64, 128, 256]": "depth: {sizes: [4, 8]",
    "dtypes: [float32, float64]": "dtypes: [float32]",
    "seeds: [0, 1, 2]": "seeds: [0]",
    "seeds: [0, 1]": "seeds: [0]",
    "digits-mlp: 2": "digits-mlp: 1",
}


@pytest.mark.slow
def test_no_stage_calls_code_that_it_is_not_said_to_depend_on(tmp_path):
    """Seen by the interpreter's own profiler, in the workers too; what runs while modules are imported is left out."""
    home, log = f"{ROOT / 'pcbench'}/", tmp_path / "seen"
    (tmp_path / "sitecustomize.py").write_text(SEEN.format(home=home, log=str(log)))
    parameters = (ROOT / "params.yaml").read_text()
    for old, new in SMALL.items():
        assert old in parameters
        parameters = parameters.replace(old, new)
    # A profile of one task, so that there is a report on it.
    smoke, rest = parameters.split("      digits-cnn:", 1)
    parameters = smoke + rest[rest.index("  default:") :]
    (tmp_path / "params.yaml").write_text(parameters)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}

    def run(*arguments):
        command = [sys.executable, "-c", MAIN, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        called = {f"pcbench/{line}" for line in log.read_text().split()}
        log.unlink()
        return called - code.HARMLESS - said

    said = {*code.closure("pcbench.report.results", "pcbench.report.writing")} - {*code.closure("pcbench.params")}
    modules = ("pcbench.tasks.mlp", "pcbench.data.digits")
    # What is pinned is no matter of a download.
    assert run("fetch", "digits") - {"pcbench/instructions.py"} <= {*code.of_command("fetch", modules[1])}
    for stage in params.OF_TASKS:
        called = run(stage, "digits-mlp", "--profile", "smoke")
        assert {"pcbench/rules/zil.py", "pcbench/tasks/mlp.py"} <= called <= {*code.of_command(stage, *modules)}
    assert run("zoo", "squeezenet1_1", "--profile", "smoke") <= {*code.of_command("zoo")}
    assert run("scaling", "depth", "--profile", "smoke") <= {*code.of_command("scaling")}
    assert run("report", "--profile", "smoke") <= {*code.of_command("report")}


def test_the_digest_is_of_the_code_that_the_command_depends_on():
    assert code.digest("train", "pcbench.tasks.mlp") == code.digest("train", "pcbench.tasks.mlp")
    others = (("train", "pcbench.tasks.cnn"), ("train",), ("exactness", "pcbench.tasks.mlp"), ("zoo",))
    assert len({code.digest(*other) for other in others} | {code.digest("train", "pcbench.tasks.mlp")}) == 5


def test_a_working_directory_with_another_checkouts_package_is_refused(tmp_path):
    code.check_beside(ROOT)
    code.check_beside(tmp_path)  # none at all: a user's own parameters
    (tmp_path / "pcbench").mkdir()
    code.check_beside(tmp_path)
    (tmp_path / "pcbench" / "__init__.py").touch()
    with pytest.raises(PCBenchError) as refused:
        code.check_beside(tmp_path)
    assert str(tmp_path / "pcbench") in str(refused.value) and str(ROOT / "pcbench") in str(refused.value)


def test_the_same_package_by_another_path_is_not_refused(tmp_path):
    (tmp_path / "pcbench").symlink_to(ROOT / "pcbench")
    code.check_beside(tmp_path)


@pytest.mark.parametrize(
    "command", [["train", "digits-mlp"], ["zoo", "resnet18"], ["report"], ["check"], ["fetch", "digits"]], ids=" ".join
)
def test_a_stage_in_another_clone_runs_nothing_and_names_both(tmp_path, command):
    shutil.copytree(ROOT / "pcbench", tmp_path / "pcbench", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    # -P: as for the installed command, the working directory is not where modules are looked for.
    run = [sys.executable, "-P", "-c", MAIN, *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert str(ROOT / "pcbench") in done.stderr and str(tmp_path / "pcbench") in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml", "pcbench"]


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_the_codes_own_checkout_and_whether_it_has_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    package = tmp_path / "pcbench"
    package.mkdir()
    (package / "__init__.py").write_text("1\n")
    assert code.version(package) == (None, None), "no repository"
    git(tmp_path, "init", "-q")
    (tmp_path / "dvc.lock").write_text("1\n")
    git(tmp_path, "add", "dvc.lock")
    git(tmp_path, "commit", "-q", "-m", "lock")
    assert code.version(package) == (None, None), "a repository around it, of which it is no part"
    git(tmp_path, "add", "pcbench")
    git(tmp_path, "commit", "-q", "-m", "code")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert code.version(package) == (commit, False)
    (tmp_path / "dvc.lock").write_text("2\n")  # as DVC does while the pipeline runs
    assert code.version(package) == (commit, False)
    (package / "new.py").write_text("2\n")
    assert code.version(package) == (commit, True)
