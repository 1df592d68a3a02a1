"""The report, built from results that the measurements wrote; oracle: what a reader may rely on.

Aimed at: a link that leads nowhere, a page that needs the network, a figure that changes between two runs on the same
results, a number without a source, half a report after a faulty result.
"""

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from pcbench import data, params
from pcbench.errors import ResultError
from pcbench.files import read_json, write_json
from pcbench.measure import cost, exactness, zoo
from pcbench.measure.training import train
from pcbench.provenance import write_sidecar
from pcbench.report.build import build
from pcbench.report.numbers import BIT_IDENTICAL

ROOT = Path(__file__).parents[2]
TASKS = ("digits-mlp", "digits-transformer")
TABLES = ("exactness", "cost", "accuracy", "zoo", "claims", "headline")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two updates of two tasks, two seeds, and one model of the zoo."""
    parameters = params.load(ROOT / "params.yaml")
    parameters["exactness"]["seeds"] = [0]
    parameters["tasks"]["digits-transformer"]["model"] |= {"width": 8, "layers": 1}
    folder = tmp_path_factory.mktemp("results")
    digits = tmp_path_factory.mktemp("datasets")
    data.fetch("digits", digits)
    dataset = data.load("digits", digits)
    splits = {"train": dataset.train, "test": dataset.test}
    few = {name: data.Split(split.inputs[:32], split.targets[:32]) for name, split in splits.items()}
    dataset = dataclasses.replace(dataset, **few)
    for name in TASKS:
        task, numbers = params.task(parameters, name)
        numbers = {**numbers, "batch_size": 16}
        settings = parameters["exactness"]
        compared = [
            exactness.compare_rules(task, numbers, dataset, settings, *batch) for batch in exactness.batches(settings)
        ]
        results = {
            "exactness": exactness.exactness(task, compared),
            "cost": cost.cost(task, numbers, dataset, parameters["cost"], rounds=2),
        }
        for stage, result in results.items():
            write_json(folder / stage / f"{name}.json", result)
            write_sidecar(folder / stage / f"{name}.json", {}, dataset.sha256)
        for seed in (0, 1):
            checkpoint = folder / f"{name}-{seed}.pt"
            result = train(task, numbers, dataset, parameters["train"], seed, 1, checkpoint)
            write_json(folder / "train" / name / f"seed-{seed}.json", result)
        write_sidecar(folder / "train" / name, {}, dataset.sha256)
    write_json(folder / "zoo" / "squeezenet1_1.json", zoo.zoo("squeezenet1_1", parameters["zoo"]))
    return folder


@pytest.fixture
def results(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "results"))


def change(path, edit):
    value = read_json(path)
    edit(value)
    write_json(path, value)


def test_every_file_that_is_promised_is_there_and_the_same_results_give_the_same_bytes(results, tmp_path):
    for out in ("first", "second"):
        build(results, tmp_path / out, "default")
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "first", tmp_path / "second")
    )
    names = {f"tables/{name}.{suffix}" for name in TABLES for suffix in ("md", "tex", "csv")}
    names |= {f"figures/{name}.svg" for name in ("divergence", "accuracy", "cost")} | {"index.html", "metrics.json"}
    assert {path.as_posix() for path in first} == names
    assert first == second


def test_the_page_needs_nothing_but_itself_and_its_links_lead_somewhere(results, tmp_path):
    build(results, tmp_path / "out", "default")
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|xlink:href)=["']?[^#"']|@import|url\(["']?[^#"']""", page)
    assert not re.findall(r"<(?:link|script|img|iframe)\b", page)
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(identifiers)


def test_every_record_of_a_table_names_a_result_that_exists(results, tmp_path):
    build(results, tmp_path / "out", "default")
    for name in ("exactness", "cost", "accuracy", "zoo"):
        with open(tmp_path / f"out/tables/{name}.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows and all(Path(row["source"]).exists() for row in rows)


def test_the_tables_say_what_the_results_say(results, tmp_path):
    summary = build(results, tmp_path / "out", "default")
    assert summary == json.loads((tmp_path / "out/metrics.json").read_text(encoding="utf-8"))
    exact = read_json(results / "exactness/digits-mlp.json")["results"]
    for record in exact:
        cell = summary["tasks"]["digits-mlp"]["exactness"][record["rule"]][record["dtype"]]
        assert cell["relative_l2"] == record["metrics"]["relative_l2"]
    assert summary["tasks"]["digits-transformer"]["identities"] > 0 == summary["tasks"]["digits-mlp"]["identities"]
    zoo_row = (tmp_path / "out/tables/zoo.md").read_text(encoding="utf-8").splitlines()[2]
    assert zoo_row.count(BIT_IDENTICAL) == 2


def test_a_model_of_the_zoo_that_differs_is_not_called_identical(results, tmp_path):
    def differ(value):
        value["results"][0]["metrics"] |= {"bitwise_equal": False, "relative_l2": 0.5, "l2": 1.0, "max_ulp": 9}

    change(results / "zoo/squeezenet1_1.json", differ)
    build(results, tmp_path / "out", "default")
    table = (tmp_path / "out/tables/zoo.md").read_text(encoding="utf-8")
    assert "0.5" in table and table.count(BIT_IDENTICAL) == 1
    assert "0 of 1 bit-identical" in (tmp_path / "out/index.html").read_text(encoding="utf-8").replace("\n", " ")


def test_a_result_that_was_exchanged_is_not_described_by_another_ones_provenance(results, tmp_path):
    change(results / "cost/digits-mlp.json", lambda value: value["results"][0].update(label="exchanged"))
    build(results, tmp_path / "out", "default")
    assert "not recorded" in (tmp_path / "out/index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("stage", "edit"),
    [
        ("exactness", lambda value: value.pop("results")),
        ("exactness", lambda value: value.update(task="another")),
        ("exactness", lambda value: value["results"][0]["metrics"].pop("max_ulp")),
        ("exactness", lambda value: value["results"][0]["metrics"].update(bitwise_equal=1)),
        ("cost", lambda value: value["results"][0]["metrics"]["ratio"].update(median="fast")),
        ("zoo", lambda value: value["results"][0]["metrics"].pop("buffers_equal")),
    ],
)
def test_a_faulty_result_is_named_and_nothing_is_written(results, tmp_path, stage, edit):
    path = next((results / stage).glob("*[!e].json"))
    change(path, edit)
    with pytest.raises(ResultError, match=re.escape(path.name)):
        build(results, tmp_path / "out", "default")
    assert not (tmp_path / "out").exists()


def test_a_missing_stage_is_named(results, tmp_path):
    (results / "cost/digits-mlp.json").unlink()
    with pytest.raises(ResultError, match=r"digits-mlp\.json"):
        build(results, tmp_path / "out", "default")


def test_the_pipeline_declares_every_file_of_the_report():
    """What DVC does not know of it neither caches nor removes."""
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["report"]
    paths = [*declared["outs"], *declared["metrics"]]
    names = {name if isinstance(name, str) else next(iter(name)) for name in paths}
    assert names == {"reports/index.html", "reports/figures", "reports/tables", "reports/metrics.json"}
