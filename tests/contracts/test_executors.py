"""What executors say where there is no cluster; oracle: their docstrings.

Aimed at: minutes of silence, and a traceback, for an address that nobody answers at. What they do where there is one:
tests/cluster.
"""

import importlib.util
import socket
from pathlib import Path

import pytest

from pcbench import executors
from pcbench.cells import Cell, Experiment
from pcbench.errors import InvalidParameters


@pytest.fixture
def cells(tmp_path):
    experiment = Experiment("digits-mlp", "smoke", {}, Path("datasets"), kept=tmp_path / "kept")
    return [Cell("exactness", ("float32", 0), experiment, {"parameters": {"device": "cpu"}})]


def refused(executor, cells, **options):
    """What the executor says instead of computing."""
    with pytest.raises(InvalidParameters) as found:
        list(executors.named(executor).outcomes(cells, options))
    return str(found.value)


def test_an_address_that_nobody_answers_at_is_named_with_what_starts_a_cluster(cells):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = refused("ray", cells, address=address)
    assert address in said and "ray start --head" in said


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_it_is_said_what_installs_it(cells, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert "pip install 'pcbench[ray]'" in refused("ray", cells)


def test_without_slurm_it_is_said_which_command_is_missing(cells, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no `scontrol` here" in refused("slurm", cells)


@pytest.mark.parametrize(
    ("executor", "option", "named"),
    [
        ("ray", {"adress": "a:1"}, ("'adress'", "address, shared")),
        ("ray", {"shared": "maybe"}, ("shared='maybe'", "yes_or_no")),
        ("slurm", {"jobs": "many"}, ("jobs='many'", "int")),
    ],
)
def test_an_option_that_is_none_is_refused_before_anything_is_asked_for(executor, option, named, cells):
    said = refused(executor, cells, **option)
    assert all(each in said for each in named)


@pytest.mark.parametrize("executor", executors.NAMES)
def test_no_cells_need_no_cluster(executor):
    assert list(executors.named(executor).outcomes([], {})) == []
