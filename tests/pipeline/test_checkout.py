"""A clean clone stays clean; oracle: git and DVC themselves.

Aimed at: line ends that another system changes, and what editors and systems drop, which make a clone look modified or a
stage look out of date.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DROPPINGS = (".DS_Store", "Thumbs.db", ".zil.py.swp", "zil.py~", ".idea/workspace.xml", ".vscode/settings.json")


def git(*arguments, cwd=ROOT):
    return subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """As git on Windows makes it, which would have other line ends."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    folder = tmp_path_factory.mktemp("clone") / "with a space"
    git("clone", "-q", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", str(ROOT), str(folder))
    return folder


def test_every_text_has_unix_line_ends_whatever_git_is_set_to(clone):
    listed = [line.split("\t") for line in git("ls-files", "--eol", cwd=clone).splitlines()]
    assert listed
    assert [path for told, path in listed if "w/crlf" in told or "i/crlf" in told or "mixed" in told] == []
    assert git("status", "--porcelain", cwd=clone) == ""


def test_droppings_and_bytecode_are_seen_neither_by_git_nor_by_dvc(clone):
    dropped = [f"pcbench/rules/{name}" for name in (*DROPPINGS, "__pycache__/zil.cpython-311.pyc")]
    for name in dropped:
        path = clone / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("dropped")
    assert git("status", "--porcelain", "--untracked-files=all", cwd=clone) == ""
    command = [sys.executable, "-m", "dvc", "check-ignore", *dropped, "pcbench/rules/zil.py"]
    ignored = subprocess.run(command, cwd=clone, capture_output=True, text=True).stdout.split("\n")
    assert ignored[:-1] == dropped
