"""Cells; oracle: a stage that computes everything by itself, in one go.

Aimed at: a cell taken for another one, a finished cell computed again or lost, one that two compute at once, a node of
another environment whose result nobody tells from this one's.
"""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pcbench import cells, executors, params, provenance, stages
from pcbench.cells import Cell, Experiment
from pcbench.errors import InvalidParameters, PCBenchError, ResultError
from pcbench.executors import local
from pcbench.files import read_json, write_json
from pcbench.provenance import result_digest, sidecar

ROOT = Path(__file__).resolve().parents[2]
TASK = "digits-mlp"


def parameters():
    whole = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    whole["tasks"][TASK]["model"] = {"hidden": 8}
    whole["exactness"] |= {"dtypes": ["float32"], "seeds": [0, 1], "rules": ["zil"]}
    whole["train"] = {"rules": ["bp", "zil"]}
    return whole


@pytest.fixture(autouse=True)
def _here(as_before, tmp_path, monkeypatch):
    """A stage writes where it runs."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def experiment(digits):
    return Experiment(TASK, "smoke", parameters(), digits)


def keys(experiment, stage="exactness"):
    return [cell.key for cell in stages.named(stage).cells(experiment)]


def changed(experiment, change):
    whole = parameters()
    change(whole)
    return replace(experiment, parameters=whole)


def test_what_decides_a_cells_bits_is_in_its_key_and_nothing_else(experiment, monkeypatch):
    before = keys(experiment)
    assert len({*before}) == 2, "two parts under one key"
    assert keys(replace(experiment, profile="default")) == before
    assert keys(replace(experiment, results=Path("elsewhere"))) == before
    assert keys(changed(experiment, lambda p: p["tasks"][TASK]["optimizer"].update(lr=0.5))) != before
    assert keys(changed(experiment, lambda p: p["rules"]["zil"].update(label="other"))) != before
    assert keys(changed(experiment, lambda p: p["tasks"]["digits-cnn"].update(batch_size=3))) == before
    monkeypatch.setattr(stages, "code_of", lambda *arguments: "0" * 64)
    assert {*keys(experiment)}.isdisjoint(before)
    monkeypatch.undo()
    for name, value in {"versions": {"torch": "0.1"}, "instruction_set": {"force": "AVX512"}}.items():
        elsewhere = {**provenance.environment(), name: value}
        with monkeypatch.context() as patched:
            patched.setattr(provenance, "environment", lambda elsewhere=elsewhere: elsewhere)
            assert {*keys(experiment)}.isdisjoint(before)
    there = {**provenance.environment(), "cpu": "other"}
    monkeypatch.setattr(provenance, "environment", lambda: there)
    assert keys(experiment) == before, "another processor of the same instruction set gives the same bits"


def test_a_seed_is_the_same_cell_whatever_other_seeds_there_are(experiment):
    fewer = changed(experiment, lambda p: p["profiles"]["smoke"].update(seeds=[1]))
    assert keys(experiment, "train")[1:] == keys(fewer, "train")
    longer = changed(experiment, lambda p: p["profiles"]["smoke"]["tasks"].update({TASK: 3}))
    assert {*keys(longer, "train")}.isdisjoint(keys(experiment, "train"))


def test_a_stage_takes_what_is_stored_computes_the_rest_and_forgets_what_it_took(experiment):
    whole = read_json(stages.exactness(experiment))
    assert not list(Path(".pcbench/cells").rglob("*.json")), "a forced run would take what was taken before"
    first, second = stages.exactness.cells(experiment)
    stages.compute(first)
    stages.compute(second)
    marked = read_json(first.path)
    marked["value"]["results"][0]["label"] = "taken from the store"
    write_json(first.path, marked)
    second.forget()
    again = read_json(stages.exactness(experiment))
    assert again["results"][0].pop("label") == "taken from the store"
    whole["results"][0].pop("label")
    assert again == whole


def test_cells_of_the_local_executor_make_the_result_that_the_stage_makes(experiment):
    expected = result_digest(stages.exactness(experiment))
    asked = stages.exactness.cells(experiment)
    found = list(local.outcomes(asked, {"processes": "2"}))
    assert {outcome.cell.key for outcome in found} == {cell.key for cell in asked}
    assert not any(outcome.failed for outcome in found)
    for outcome in found:
        assert outcome.cell.stored() == outcome.record
    assert result_digest(stages.exactness(experiment)) == expected


def test_a_cell_that_fails_is_told_of_and_the_others_are_finished(experiment):
    broken = changed(experiment, lambda p: p["tasks"][TASK].update(model={"hidden": -1}))
    good = stages.exactness.cells(experiment)
    found = list(local.outcomes([*stages.exactness.cells(broken), *good], {}))
    failed = [outcome for outcome in found if outcome.failed]
    assert len(failed) == 2 and all("no model can be made" in outcome.failed for outcome in failed)
    assert "\n" not in failed[0].failed and not failed[0].cell.path.exists()
    assert all(cell.stored() for cell in good)


def cell_of(measured, folder, key=0):
    return Cell(
        "exactness",
        (),
        Experiment(TASK, "smoke", {}, Path(), kept=folder),
        {"key": key, "measured": measured, "parameters": {"device": "cpu"}},
    )


def test_of_several_that_want_one_cell_one_computes_it(tmp_path):
    cell, count = cell_of("once", tmp_path), []
    together = threading.Barrier(4)

    def measure():
        count.append(1)
        threading.Event().wait(0.2)
        return len(count)

    def want():
        together.wait()
        found.append(cells.computed(cell, measure)["value"])

    found: list[int] = []
    threads = [threading.Thread(target=want) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [1, 1, 1, 1]


def test_while_it_is_computed_a_cell_says_where_and_then_no_more(tmp_path):
    cell = cell_of("place", tmp_path)
    idle = cell_of("idle", tmp_path)
    assert cells.running([idle, cell]) == []
    record = cells.computed(cell, lambda: [(str(each), where) for each, where in cells.running([idle, cell])])
    ((name, where),) = record["value"]
    assert name == str(cell) and where["pid"] == os.getpid() and where["host"]
    assert cells.running([idle, cell]) == []
    assert cells.computed(cell, lambda: pytest.fail("computed twice")) == record


def test_a_measurement_that_fails_or_is_killed_leaves_nothing_that_counts(tmp_path):
    cell = cell_of("killed", tmp_path)
    with pytest.raises(ZeroDivisionError):
        cells.computed(cell, lambda: 1 / 0)
    assert cell.stored() is None
    script = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from test_cells import cell_of; from pcbench import cells\n"
        "cells.computed(cell_of('killed', Path(sys.argv[2])), lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)], env=environment)
    assert done.returncode == -9
    assert cell.stored() is None and cell.runs()["pid"] != os.getpid()
    assert cells.computed(cell, lambda: "anew")["value"] == "anew", "the lock of a process that is gone is held"


def test_a_damaged_record_is_named(tmp_path):
    cell = cell_of("damaged", tmp_path)
    cells.computed(cell, lambda: 1)
    cell.path.write_text("{")
    with pytest.raises(ResultError, match=cell.key):
        cell.stored()


def test_a_node_that_would_compute_something_else_refuses(experiment, monkeypatch):
    cell = stages.exactness.cells(experiment)[0]
    there = {**provenance.environment(), "versions": {**provenance.environment()["versions"], "torch": "0.1"}}
    monkeypatch.setattr(provenance, "environment", lambda: there)
    with pytest.raises(PCBenchError, match=r"would compute another exactness digits-mlp float32 0 .*versions\.torch"):
        executors.work(cell, os.getcwd())
    assert cell.stored() is None


def test_a_node_without_the_data_set_fetches_it_and_without_the_folder_hands_its_record_back(experiment, tmp_path):
    own = replace(experiment, datasets=tmp_path / "datasets of a node", kept=tmp_path / "kept by a node")
    here = stages.exactness.cells(experiment)[0]
    there = replace(here, experiment=own)
    record = executors.work(there, os.getcwd())
    assert (own.datasets / "digits/data").is_dir() and there.stored() == record and here.stored() is None
    assert executors.kept(here, record).record == record == here.stored()


def test_a_result_of_several_machines_says_so(experiment):
    first, second = stages.exactness.cells(experiment)
    for cell in (first, second):
        stages.compute(cell)
    record = read_json(second.path)
    record["made_on"] |= {"cpu": "a node's", "platform": "another"}
    write_json(second.path, record)
    beside = read_json(sidecar(stages.exactness(experiment)))
    assert beside["cpu"] == provenance.environment()["cpu"]
    (other,) = beside["elsewhere"]
    assert other == {"parts": [str(second)], "differs": {"cpu": "a node's", "platform": "another"}}
    one, two = provenance.environments(beside)
    assert (one["cpu"], two["cpu"], one["threads"]) == (beside["cpu"], "a node's", two["threads"])


def test_unknown_executors_and_options_are_refused(experiment):
    with pytest.raises(InvalidParameters, match="unknown executor 'cloud'; the executors are local, ray, slurm"):
        executors.named("cloud")
    asked = stages.exactness.cells(experiment)
    with pytest.raises(InvalidParameters, match="executor 'local' has no option 'nodes'; it has processes"):
        list(local.outcomes(asked, {"nodes": "3"}))
    with pytest.raises(InvalidParameters, match="processes='many' of executor 'local' is no int"):
        list(local.outcomes(asked, {"processes": "many"}))


def test_every_stage_is_named_and_lists_its_parts(digits):
    whole = params.load(ROOT / "params.yaml")
    names = {"zoo": "resnet18", "scaling": "depth"}
    for stage in params.STAGES:
        asked = stages.named(stage).cells(Experiment(names.get(stage, TASK), "default", whole, digits))
        assert asked and len({cell.key for cell in asked}) == len(asked)
        assert all(str(cell).startswith(f"{stage} ") for cell in asked)


def test_what_a_killed_process_has_half_written_goes_when_its_cell_is_computed(experiment):
    first, second = stages.exactness.cells(experiment)
    first.path.parent.mkdir(parents=True)
    halves = [cell.path.with_name(f".{cell.path.name}.half") for cell in (first, second)]
    for half in halves:
        half.write_text("{", encoding="utf-8")
    stages.compute(first)
    assert [half.exists() for half in halves] == [False, True], "another cell's may still be written"
