"""The README; oracle: it is run, and its figures are the committed report's.

Aimed at: an example that no longer works, and a headline table from a report of last month.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

sys.path.insert(0, str(ROOT / "docs"))
import readme  # noqa: E402

sys.path.remove(str(ROOT / "docs"))


def test_the_example_runs_and_prints_what_it_says(capsys):
    example, in_several_processes = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert "init_process_group" in in_several_processes  # which tests/numerics/test_data_parallel.py starts
    promised = re.findall(r"^print\(.*\)  # (.*)$", example, re.MULTILINE)
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == promised


def committed(path):
    """A file's text as it is committed: whoever has run the pipeline here has a report with times of their own."""
    shown = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True)
    return (ROOT / path).read_text(encoding="utf-8") if shown.returncode else shown.stdout.decode()


def test_its_tables_are_the_reports(tmp_path):
    text = committed("README.md")
    blocks = readme._BLOCK.findall(text)
    assert len(blocks) == text.count("<!-- end -->") >= 1
    for _, path, _ in blocks:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(committed(path), encoding="utf-8")
    assert readme.written(text, tmp_path) == text, "run `make readme`"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_what_it_links_to_is_there(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([\w/.*-]+\.(?:py|yaml|md))`", README))))
def test_the_files_that_it_names_are_there(path):
    if path.startswith("path/to/"):
        pytest.skip("a placeholder")
    assert list(ROOT.glob(path)) or list(ROOT.glob(f"pcbench/rules/{path}"))
