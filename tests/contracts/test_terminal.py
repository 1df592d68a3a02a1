"""Output on whatever terminal there is; oracle: the exit codes that the README promises, in processes of their own.

Aimed at: an exit code 1 that is no verdict, a traceback, a path that loses its brackets, a verdict that
a closed pipe changes, hours of work of which a log says nothing.
"""

import ast
import io
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

from pcbench import terminal
from pcbench.errors import PCBenchError

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; from pcbench.cli import main; sys.argv[0] = 'pcbench'; main()"
FACTORY = """
import warnings
import torch
from torch import nn

class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.stack = nn.ModuleDict({"[bold]γ": nn.Linear(4, 5), "last": nn.Linear(5, 3)})

    def forward(self, x):
        warnings.warn("mind the [red]gap[/red]")
        return self.stack["last"](self.stack["[bold]γ"](x).tanh())

def factory():
    return Layers(), torch.randn(6, 4), torch.randint(0, 3, (6,)), nn.functional.cross_entropy
"""


@pytest.fixture
def verify(tmp_path):
    """Run `pcbench verify` of a model with odd names in a folder with an odd name."""
    folder = tmp_path / "[red]a b[/red]"
    folder.mkdir(parents=True)
    (folder / "own[x].py").write_text(FACTORY, encoding="utf-8")

    def run(rule, environment=(), redirected="", **options):
        verified = f'verify "{folder}/own[x].py:factory" --no-ablations --rule {rule}'
        command = f'"{sys.executable}" -c "$MAIN" {verified} {redirected}'
        whole = {**os.environ, "PYTHONPATH": str(ROOT), "MAIN": MAIN, "COLUMNS": "200", **dict(environment)}
        shell = ["bash", "-c", command]
        return subprocess.run(shell, cwd=tmp_path, env=whole, stdin=subprocess.DEVNULL, capture_output=True, **options)

    return run


ENVIRONMENTS = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
    "no terminal": {"TERM": "dumb", "COLUMNS": "20"},
    "unknown locale": {"LC_ALL": "xx_YY.ISO-8859-1", "LANG": "xx"},
    "no home": {"HOME": "/nonexistent"},
}


@pytest.mark.parametrize(
    ("environment", "rule", "code"),
    [(name, "zil", 0) for name in ENVIRONMENTS]
    + [("ascii", "il", 1), ("ascii", "none", 2), ("no terminal", "none", 2)],
)
def test_the_exit_code_is_the_verdict_under_every_encoding(verify, environment, rule, code):
    done = verify(rule, ENVIRONMENTS[environment])
    text = (done.stdout + done.stderr).decode("latin-1")
    assert done.returncode == code, text
    assert "Traceback" not in text
    assert done.stderr.startswith(b"error: ") == (code == 2) or b"UserWarning" in done.stderr


def test_brackets_are_printed_as_they_are_and_a_warning_is_a_warning(verify):
    done = verify("zil")
    assert done.returncode == 0, done.stderr
    out = done.stdout.decode()
    assert "stack.[bold]γ.weight" in out and "[red]a b[/red]/own[x].py" in out
    assert b"mind the [red]gap[/red]" in done.stderr


@pytest.mark.parametrize(("rule", "code"), [("zil", 0), ("il", 1)])
@pytest.mark.parametrize(
    "redirected",
    ["| head -c 1 > /dev/null", "| true", ">&-", "2>&-", ">&- 2>&-"],
    ids=["head", "true", "out", "err", "both"],
)
def test_a_closed_output_changes_no_verdict(verify, rule, code, redirected):
    done = verify(rule, redirected=redirected + "; code=${PIPESTATUS[0]}; exit $code")
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_an_output_that_is_full_is_no_verdict(verify):
    done = verify("il", redirected="> /dev/full")
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert b"error: cannot write the output (No space left on device)" in done.stderr


@pytest.fixture
def told(monkeypatch):
    """What is printed, to no terminal; and long is a millisecond."""
    made = Console(file=io.StringIO(), force_terminal=False, markup=False, highlight=False, soft_wrap=True)
    monkeypatch.setattr(terminal, "_SILENCE", 0.001)
    monkeypatch.setattr(terminal, "console", made)
    return made.file


class Asked:
    """Says what is going on, and knows that it was asked since."""

    def __init__(self):
        self._event = threading.Event()

    def __call__(self):
        self._event.set()
        return "train digits-mlp 0 on [node1]"

    def wait(self):
        self._event.clear()
        assert self._event.wait(60), "nobody asks"


def test_long_work_says_in_lines_how_far_it_is_where_nobody_sees_a_bar(told):
    asked = Asked()
    with terminal.progress("cells", 9, asked, done=3) as advance:
        asked.wait()
        asked.wait()  # so a line is whole
        for _ in range(3):
            advance()
        asked.wait()  # that line may have been begun before
        asked.wait()
    text = told.getvalue()
    assert text.startswith("cells: 3 of 9; running: train digits-mlp 0 on [node1]\n")
    assert re.search(
        r"^cells: 6 of 9, about \d+ min left; running: train digits-mlp 0 on \[node1\]$", text, re.MULTILINE
    )


def test_work_that_is_over_at_once_says_so_and_nothing_before(told, monkeypatch):
    monkeypatch.setattr(terminal, "_SILENCE", 3600)
    with terminal.progress("cells", 1) as advance:
        advance()
    (line,) = told.getvalue().split("\n\n")[0].splitlines()
    assert line.startswith("cells ━") and "1/1" in line


def test_a_line_that_cannot_be_written_is_an_error_as_every_other(told, monkeypatch):
    def full(text):
        raise PCBenchError("cannot write the output")

    monkeypatch.setattr(terminal, "say", full)
    asked = Asked()
    with pytest.raises(PCBenchError, match="cannot write"), terminal.progress("cells", 1, asked):
        asked.wait()


def test_a_fault_of_our_own_is_one_line_and_exit_code_2(tmp_path):
    """1 would mean: not equal."""
    code = (
        "import sys; from pcbench import cli, terminal\n"
        "@cli.app.command()\ndef broken(): raise KeyError('a\\nb')\n"
        "sys.argv = ['pcbench', 'broken']; cli.main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: KeyError") and "fault of PCBench" in done.stderr
    shown = {**environment, "PCBENCH_TRACEBACK": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=shown, capture_output=True, text=True)
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("path", sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "pcbench").rglob("*.py")))
def test_the_package_is_python_3_11(path):
    """The syntax of the oldest Python that pyproject.toml promises, whichever runs this."""
    ast.parse((ROOT / path).read_text(encoding="utf-8"), feature_version=(3, 11))
