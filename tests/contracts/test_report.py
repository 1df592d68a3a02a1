"""The report, built from results that the measurements wrote; oracle: what a reader may rely on.

Aimed at: a link that leads nowhere, a page that needs the network, a figure that changes between two runs on the same
results, a number without a source, half a report after a faulty result.
"""

import csv
import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import edits
import pytest
import theory
import yaml

from pcbench import brief, data, params, tasks
from pcbench.errors import PCBenchError, ResultError
from pcbench.files import read_json, write_json
from pcbench.measure import certificates, conditions, conformance, cost, exactness, scaling, zoo
from pcbench.measure.matched import Matched
from pcbench.measure.training import train
from pcbench.provenance import write_sidecar
from pcbench.report import peers, writing
from pcbench.report.build import build
from pcbench.report.claims import CLAIMS
from pcbench.report.fits import exponent
from pcbench.report.ledger.words import NOT_TESTED, REPRODUCED
from pcbench.report.results import stale
from pcbench.report.writing import BIT_IDENTICAL

ROOT = Path(__file__).parents[2]
TASKS = ("digits-mlp", "digits-transformer")
REPORT = ("index.html", "figures", "tables", "plots", "paper.tex", "metrics.json", "headline.json")
TABLES = (
    "exactness",
    "cost",
    "accuracy",
    "zoo",
    "certificates",
    "conformance",
    "scaling",
    "conditions",
    "energy",
    "published",
    "claims",
    "headline",
)
RULES = {"zil": {}, "zil-state": {}, "fixed-prediction": {"steps": ["levels"]}, "one-step": {"gamma": [1.0, 0.5, 0.25]}}


def parameters():
    """Two updates of two tasks, two seeds, and one model of the zoo."""
    found = params.load(ROOT / "params.yaml")
    found["exactness"]["seeds"] = [0]
    found["tasks"]["digits-transformer"]["model"] |= {"width": 8, "layers": 1}
    for name in TASKS:
        found["tasks"][name]["batch_size"] = 16
    profile = {"seeds": [0, 1], "rounds": 2, "zoo": ["squeezenet1_1"], "scaling": ["depth", "length"]}
    found["profiles"] = {"default": profile | {"tasks": dict.fromkeys(TASKS, 1)}}
    found["conformance"] |= {"rules": list(RULES), "grids": {rule: {**grid} for rule, grid in RULES.items() if grid}}
    found["conditions"] |= {"gammas": [0.5, 1], "sigmas": [0, 0.1]}
    found["conditions"]["free_energy"]["evaluations"] = 20
    found["scaling"]["rounds"] = 2
    for axis in found["scaling"]["axes"].values():
        axis |= {"sizes": [2, 3, 4], "largest": {"il-20": 3}}
    return found


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory):
    whole = parameters()
    folder = tmp_path_factory.mktemp("results")
    dataset = data.load("digits", digits)
    splits = {"train": dataset.train, "test": dataset.test}
    few = {name: data.Split(split.inputs[:32], split.targets[:32]) for name, split in splits.items()}
    dataset = dataclasses.replace(dataset, **few)
    for name in TASKS:
        settings = {stage: params.section(whole, stage) for stage in params.STAGES}
        entry = params.task(whole, name)
        matched = Matched(tasks.named(name, entry["network"]), entry, dataset)
        compared = [
            exactness.compare_rules(matched, settings["exactness"], *batch)
            for batch in exactness.batches(settings["exactness"])
        ]
        broken = [
            conditions.measure(matched, settings["conditions"], *part)
            for part in conditions.parts(settings["conditions"])
        ]
        results = {
            "exactness": exactness.exactness(matched.task, compared),
            "cost": cost.cost(matched, settings["cost"], rounds=2),
            "proof": certificates.proof(matched, settings["proof"]),
            "conformance": conformance.conformance(
                matched.task, [conformance.of_rule(matched, settings["conformance"], rule) for rule in RULES]
            ),
            "conditions": conditions.conditions(matched.task, settings["conditions"], broken),
        }
        for stage, result in results.items():
            write_json(folder / stage / f"{name}.json", result)
            made_of = params.of_stage(whole, "default", stage, name)
            write_sidecar(folder / stage / f"{name}.json", made_of, dataset.sha256)
        for seed in (0, 1):
            checkpoint = folder / f"{name}-{seed}.pt"
            trained = params.of_stage(whole, "default", "train", name)["train"]
            result = train(matched, trained, seed, 1, checkpoint)
            write_json(folder / "train" / name / f"seed-{seed}.json", result)
        write_sidecar(folder / "train" / name, params.of_stage(whole, "default", "train", name), dataset.sha256)
    write_json(folder / "zoo" / "squeezenet1_1.json", zoo.zoo("squeezenet1_1", whole["zoo"]))
    for axis in ("depth", "length"):
        write_json(folder / "scaling" / f"{axis}.json", scaling.scaling(axis, settings["scaling"]))
        write_sidecar(folder / "scaling" / f"{axis}.json", params.of_stage(whole, "default", "scaling", axis), None)
    return folder


@pytest.fixture
def results(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "results"))


def change(path, edit):
    value = read_json(path)
    edit(value)
    write_json(path, value)


@pytest.mark.parametrize("stage", params.STAGES)
def test_a_stage_says_in_one_line_what_it_has_found_and_where_it_is(results, stage):
    name = {"zoo": "squeezenet1_1", "scaling": "depth"}.get(stage, "digits-mlp")
    path = results / stage / (name if stage == "train" else f"{name}.json")
    line = brief.found(stage, name, path)
    assert line.startswith(f"{name}: ") and line.endswith(f"; see {path}") and "\n" not in line
    records = [read_json(each) for each in (sorted(path.glob("seed-*")) if path.is_dir() else [path])]
    if stage == "train":
        zil = [r["metrics"]["test_accuracy"] for each in records for r in each["results"] if r["rule"] == "zil"]
        assert f"Z-IL ({100 * sum(zil) / len(zil):.1f} %)" in line
    elif stage == "cost":
        (zil,) = (r["metrics"]["ratio"]["median"] for r in records[0]["results"] if r["rule"] == "zil")
        assert f"Z-IL ({writing.ratio(zil)} ×)" in line and "BP (" not in line
    elif stage in ("exactness", "proof", "zoo"):
        assert re.search(r"Z-IL \((\d+) of \1\)", line)


def test_every_file_that_is_promised_is_there_and_the_same_results_give_the_same_bytes(results, tmp_path):
    for out in ("first", "second"):
        build(results, tmp_path / out, "default", parameters())
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "first", tmp_path / "second")
    )
    names = {f"tables/{name}.{suffix}" for name in TABLES for suffix in ("md", "tex", "csv")}
    drawn = ("divergence", "loss", "accuracy", "cost", "scaling", "conditions")
    names |= {f"figures/{name}.{suffix}" for name in drawn for suffix in ("svg", "pdf")}
    names |= {"index.html", "metrics.json", "headline.json", "paper.tex", "plots/training.csv", "plots/distance.csv"}
    assert {path.as_posix() for path in first} == names
    assert first == second


def test_the_page_needs_nothing_but_itself_and_its_links_lead_somewhere(results, tmp_path):
    build(results, tmp_path / "out", "default", parameters())
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|xlink:href)=["']?[^#"']|@import|url\(["']?[^#"']""", page)
    assert not re.findall(r"<(?:link|img|iframe|script\s)\b", page)
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(identifiers)


def test_every_record_of_a_table_names_a_result_that_exists(results, tmp_path):
    build(results, tmp_path / "out", "default", parameters())
    for name in ("exactness", "cost", "accuracy", "zoo", "certificates", "conformance", "scaling", "published"):
        with open(tmp_path / f"out/tables/{name}.csv", encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["source"] or name != "published"]
        assert rows and all(Path(row["source"]).exists() for row in rows)


def test_the_tables_say_what_the_results_say(results, tmp_path):
    summary = build(results, tmp_path / "out", "default", parameters())
    assert summary == json.loads((tmp_path / "out/metrics.json").read_text(encoding="utf-8"))
    exact = read_json(results / "exactness/digits-mlp.json")["results"]
    for record in exact:
        cell = summary["tasks"]["digits-mlp"]["exactness"][record["rule"]][record["dtype"]]
        assert cell["relative_l2"] == record["metrics"]["relative_l2"]
    assert summary["tasks"]["digits-transformer"]["identities"] > 0 == summary["tasks"]["digits-mlp"]["identities"]
    zoo_row = (tmp_path / "out/tables/zoo.md").read_text(encoding="utf-8").splitlines()[2]
    assert zoo_row.count(BIT_IDENTICAL) == 2
    operations = {
        record["rule"]: record["metrics"]["operations"]
        for record in read_json(results / "cost/digits-mlp.json")["results"]
    }
    for rule, count in operations.items():
        assert summary["tasks"]["digits-mlp"]["cost"][rule]["operations"] == count
        assert f" {writing.count(count)} " in (tmp_path / "out/tables/cost.md").read_text(encoding="utf-8")


def keys(value, at=""):
    """The dotted paths of a JSON value's tables, names of tasks, models and axes left out."""
    if not isinstance(value, dict):
        return {at}
    return {at}.union(*(keys(inner, f"{at}.{key}") for key, inner in value.items()))


def test_the_metrics_that_claims_are_tried_on_have_the_shape_of_real_ones(results, tmp_path):
    """Else a verdict would follow figures that no stage writes."""
    summary = build(results, tmp_path / "out", "default", parameters())
    for section in ("tasks", "zoo", "scaling"):
        real, tried = (
            {re.sub(r"^\.conformance\.[\w-]+", ".conformance.rule", key) for value in values for key in keys(value)}
            for values in (summary[section].values(), theory.METRICS[section].values())
        )
        assert tried <= real


def test_a_rule_that_could_not_be_captured_is_said_to_be_that(results, tmp_path):
    """IL on the transformer, whose dropout masks every step of inference repeats."""
    summary = build(results, tmp_path / "out", "default", parameters())
    refused = summary["tasks"]["digits-transformer"]["cost"]["il-20-captured"]["refused"]
    assert "random numbers" in refused
    assert "operations" in summary["tasks"]["digits-mlp"]["cost"]["il-20-captured"]
    rows = (tmp_path / "out/tables/cost.md").read_text(encoding="utf-8").splitlines()
    assert sum(row.count("not capturable") for row in rows) == 1
    with open(tmp_path / "out/tables/cost.csv", encoding="utf-8", newline="") as file:
        (row,) = (row for row in csv.DictReader(file) if row["refused"])
    assert (row["task"], row["rule"], row["operations"]) == ("digits-transformer", "il-20-captured", "")
    assert row["refused"] == refused


def test_how_cost_grows_is_fitted_and_il_only_where_it_was_measured(results, tmp_path):
    summary = build(results, tmp_path / "out", "default", parameters())
    depth = summary["scaling"]["depth"]
    assert list(summary["scaling"]) == ["depth", "length"]
    seconds = depth["zil"]["exponent"]["seconds"]
    assert (depth["zil"]["largest"], depth["il-20"]["largest"]) == (4, 3)
    assert seconds["low"] <= seconds["value"] <= seconds["high"]
    few = depth["il-20"]["exponent"]["seconds"]
    assert few["value"] is not None and few["low"] is None  # two sizes have no interval
    change(results / "scaling/depth.json", lambda value: value["results"].pop())
    with pytest.raises(ResultError, match=r"scaling/depth\.json"):
        build(results, tmp_path / "out", "default", parameters())


def test_an_exponent_is_that_of_the_power_law_that_made_the_values():
    found = exponent([2, 4, 8, 16], [3 * size**1.5 for size in (2, 4, 8, 16)])
    assert found == pytest.approx({"value": 1.5, "low": 1.5, "high": 1.5})
    noisy = exponent([1, 2, 4, 8], [1.0, 2.2, 3.7, 8.4])
    assert noisy["low"] < 1.0 < noisy["high"]
    assert exponent([2, 4, 8], [38, 38, 38]) == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert exponent([4], [1.0]) == dict.fromkeys(("value", "low", "high"))


def test_certificates_and_controls_are_told_apart(results, tmp_path):
    summary = build(results, tmp_path / "out", "default", parameters())
    written = read_json(results / "proof/digits-mlp.json")["results"]
    found = summary["tasks"]["digits-mlp"]["proof"]
    assert {record["rule"]: record["metrics"] for record in written} == found
    refused = summary["tasks"]["digits-transformer"]["proof"]["il-2"]
    assert not refused["equal"] and "random numbers" in refused["refused"]
    text = (tmp_path / "out/tables/certificates.md").read_text(encoding="utf-8")
    rows = text.splitlines()[2 : text.splitlines().index("")]
    assert "**Certificates: the same program for every input.** Whether" in text
    assert len(rows) == 2 * 4 + 1
    for row, name in zip(rows[:3], ("digits-mlp", "digits-transformer", "squeezenet1_1"), strict=True):
        assert name in row and re.search(r"\| equal +\| [0-9a-f]{12} +\|$", row)
    assert sum("not equal: aten." in row and "pcbench/tasks/mlp.py:" in row for row in rows[3:6]) == 3
    assert sum("none: " in row and refused["refused"].partition(",")[0] in row for row in rows[6:]) == 3
    assert summary["claims"]["same-program"]["verdict"] == REPRODUCED
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert 'href="#source-proof-digits-mlp"' in page and 'id="source-zoo-squeezenet1_1"' in page
    assert "<span>Table 5</span> Certificates" in page


def test_what_each_rule_is_of_backpropagation_stands_in_table_6(results, tmp_path):
    summary = build(results, tmp_path / "out", "default", parameters())
    for name in TASKS:
        found = summary["tasks"][name]["conformance"]
        assert {rule: cell["verdict"] for rule, cell in found.items()} == {
            **{"zil": "equal", "zil-state": "equal up to rounding"},
            **{"fixed-prediction": "equal", "one-step": "approaches"},
        }
        assert (found["zil"]["by"], found["one-step"]["of"]) == ("program", "BP with a scale for each tensor")
        assert found["one-step"]["options"] == {"gamma": 0.25} and found["one-step"]["settings"] == 3
    rows = (tmp_path / "out/tables/conformance.md").read_text(encoding="utf-8").splitlines()
    assert sum("the same program" in row for row in rows) == len(TASKS)
    assert sum("approaches BP with a scale for each tensor" in row for row in rows) == len(TASKS)
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert "<span>Table 6</span> Conformance" in page and 'href="#source-conformance-digits-mlp"' in page


def test_what_another_library_gives_stands_below_our_rule_and_leads_to_its_own_result(results, tmp_path):
    path = tmp_path / "peers/fabricpc/digits-mlp.json"
    value = read_json(ROOT / peers.FOLDER / "fabricpc/digits-mlp.json")
    write_json(path, value)
    rules = sorted({record["like"] for record in value["results"]})
    write_sidecar(path, peers.decided_by(parameters(), "digits-mlp", rules), None)
    libraries = peers.read(tmp_path / "peers", parameters(), "default").sources
    summary = build(results, tmp_path / "out", "default", parameters(), libraries)
    assert set(summary["peers"]["digits-mlp"]) == {record["rule"] for record in value["results"]}
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    table = page[page.index("<span>Table 6</span>") : page.index("Every figure of Table 6")]
    bodies = {
        re.search(r"<th colspan[^>]*><span>(.*?)</span>", body)[1]: re.findall(r'href="#(source-[^"]*)"', body)
        for body in table.split("<tbody>")[1:]
    }
    ours = [f"source-conformance-{name}" for name in TASKS]
    below = f"FabricPC {value['library']['version']}: EPCInference, one step, summed loss"
    assert set(bodies["Z-IL"]) == set(ours) and bodies[below] == ["source-peers-fabricpc-digits-mlp"]
    order = list(bodies)
    assert order.index(below) == order.index("error optimisation, one step") + 1
    assert 'id="source-peers-fabricpc-digits-mlp"' in page


def test_a_setting_that_was_not_tried_is_missed(results, tmp_path):
    for path in results.glob("conformance/*.provenance.json"):
        path.unlink()
    change(results / "conformance/digits-mlp.json", lambda value: value["results"].pop())
    with pytest.raises(ResultError, match=r"conformance/digits-mlp\.json' has the settings .*'gamma': 0\.25"):
        build(results, tmp_path / "out", "default", parameters())


def test_a_control_that_is_called_equal_makes_no_claim(results, tmp_path):
    def equal(value):
        value["results"][-1]["metrics"] = value["results"][0]["metrics"]

    change(results / "proof/digits-mlp.json", equal)
    assert build(results, tmp_path / "out", "default", parameters())["claims"]["same-program"]["verdict"] == NOT_TESTED


def test_a_model_of_the_zoo_that_differs_is_not_called_identical(results, tmp_path):
    def differ(value):
        value["results"][0]["metrics"] |= {"bitwise_equal": False, "relative_l2": 0.5, "l2": 1.0, "max_ulp": 9}

    change(results / "zoo/squeezenet1_1.json", differ)
    build(results, tmp_path / "out", "default", parameters())
    table = (tmp_path / "out/tables/zoo.md").read_text(encoding="utf-8")
    assert "0.5" in table and table.splitlines()[2].count(BIT_IDENTICAL) == 1
    assert "0 of 1 bit-identical" in (tmp_path / "out/index.html").read_text(encoding="utf-8").replace("\n", " ")


def test_a_result_that_was_exchanged_is_not_described_by_another_ones_provenance(results, tmp_path):
    change(results / "cost/digits-mlp.json", lambda value: value["results"][0]["metrics"].update(peak_bytes=1))
    build(results, tmp_path / "out", "default", parameters())
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
        ("zoo", lambda value: value["results"][0]["metrics"].pop("proof")),
        ("zoo", lambda value: value["results"][0]["metrics"]["proof"].pop("digest")),
        ("proof", lambda value: value["results"][0]["metrics"].update(equal="yes")),
        ("proof", lambda value: value["results"][0]["metrics"].update(equal=False)),
        ("proof", lambda value: value["results"][0].update(metrics={})),
        ("proof", lambda value: value["results"][0].update(metrics={"refused": None})),
        ("conditions", lambda value: value.pop("rounding")),
        ("conditions", lambda value: value["results"][0]["metrics"]["grid"].pop()),
        ("conditions", lambda value: value["results"][0]["metrics"]["grid"][0].update(layer_dependent=0)),
        ("conditions", lambda value: value["results"][0]["metrics"]["free_energy"].pop("sum")),
        ("conditions", lambda value: value["results"][0]["metrics"]["free_energy"]["mean"].pop("settled")),
    ],
)
def test_a_faulty_result_is_named_and_nothing_is_written(results, tmp_path, stage, edit):
    path = next((results / stage).glob("*[!e].json"))
    change(path, edit)
    with pytest.raises(ResultError, match=re.escape(path.name)):
        build(results, tmp_path / "out", "default", parameters())
    assert not (tmp_path / "out").exists()


def test_what_table_8_says_of_the_conditions_is_in_the_results(results, tmp_path):
    summary = build(results, tmp_path / "out", "default", parameters())
    (record,) = read_json(results / "conditions/digits-mlp.json")["results"]
    at = {(p["gamma"], p["sigma"], p["layer_dependent"]): p["relative_l2"] for p in record["metrics"]["grid"]}
    found = summary["tasks"]["digits-mlp"]["conditions"]["zil-state"]
    assert found["sufficient"] and found["relative_l2"] == at[1, 0, True]
    ends = {"zero_initial_error": at[1, 0.1, True], "unit_step": at[0.5, 0, True], "layer_dependent": at[1, 0, False]}
    for name, distance in ends.items():
        assert found[name] == {"necessary": True, "points": 1, "zero": 0, "least": distance, "largest": distance}
    assert found["otherwise"]["points"] == len(at) - 1 == 7
    text = (tmp_path / "out/tables/conditions.md").read_text(encoding="utf-8")
    assert (
        text.count(" sufficient ") == 2
        and text.count(" necessary ") == 6
        and writing.scientific(at[0.5, 0, True]) in text
    )
    settled = record["metrics"]["free_energy"]["sum"]["settled"]
    with open(tmp_path / "out/tables/energy.csv", encoding="utf-8", newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if (row["task"], row["loss"]) == ("digits-mlp", "sum")]
    assert float(row["settled.cosine"]) == settled["cosine"] and float(row["settled.energy"]) == settled["energy"]


def test_a_missing_stage_is_named(results, tmp_path):
    (results / "cost/digits-mlp.json").unlink()
    with pytest.raises(ResultError, match=r"digits-mlp\.json"):
        build(results, tmp_path / "out", "default", parameters())


def test_a_missing_seed_is_named(results, tmp_path):
    (results / "train/digits-mlp/seed-1.json").unlink()
    with pytest.raises(ResultError, match=r"digits-mlp/seed-1\.json' does not exist"):
        build(results, tmp_path / "out", "default", parameters())


def put(where, value):
    """The parameters with ``value`` at the path ``where``; ``...`` removes the key."""
    return edits.put(parameters(), where, value)


def test_what_was_taken_out_of_params_yaml_leaves_tables_figures_page_and_metrics(results, tmp_path):
    out = tmp_path / "out"
    build(results, out, "default", parameters())
    whole = put("profiles/default/tasks/digits-transformer", ...)
    whole["profiles"]["default"] |= {"zoo": [], "scaling": ["length"]}
    summary = build(results, out, "default", whole)
    assert set(summary["tasks"]) == {"digits-mlp"} and summary["zoo"] == {}
    assert not list(out.glob("tables/zoo.*"))
    texts = [p.read_text(encoding="utf-8") for p in out.rglob("*") if p.is_file() and p.suffix != ".pdf"]
    assert len(texts) > 10 and not any("digits-transformer" in text or "squeezenet" in text for text in texts)
    assert [path.relative_to(results).as_posix() for path in stale(results, whole, "default")] == [
        "exactness/digits-transformer.json",
        "cost/digits-transformer.json",
        "train/digits-transformer",
        "proof/digits-transformer.json",
        "conformance/digits-transformer.json",
        "conditions/digits-transformer.json",
        "zoo/squeezenet1_1.json",
        "scaling/depth.json",
    ]
    assert stale(results, parameters(), "default") == []


@pytest.mark.parametrize(
    ("where", "value", "named"),
    [
        ("profiles/default/seeds", [0], r"train/digits-mlp' was made with other parameters .*\(seeds\)"),
        ("profiles/default/rounds", 3, r"cost/digits-mlp\.json' was made with other parameters .*\(rounds\)"),
        ("profiles/default/tasks/digits-mlp", 2, r"train/digits-mlp' .*\(epochs\)"),
        ("tasks/digits-mlp/optimizer/lr", 0.5, r"digits-mlp\.json' .*\(task\.optimizer\.lr\)"),
        ("exactness/rules", ["zil", "zil-state"], r"digits-\w+\.json' .*\(exactness\.rules\..*il-20"),
        ("exactness/dtypes", ["float64"], r"\(exactness\.dtypes\)"),
        ("rules/il-L/label", "IL", r"\(cost\.rules\.il-L\.label\)"),
        ("train/rules", ["bp", "il-20"], r"\(train\.rules\.zil\)"),
        ("scaling/axes/depth/sizes", [2, 3], r"scaling/depth\.json' .*\(scaling\.axes\.depth\.sizes\)"),
        ("proof/rules", ["zil", "zil-state", "gamma-half"], r"\(proof\.rules\.il-2\)"),
        ("conformance/grids/one-step/gamma", [1.0, 0.5], r"\(conformance\.grids\.one-step\.gamma\)"),
        (
            "conditions/sigmas",
            [0, 0.1, 1.0],
            r"conditions/digits-mlp\.json' .*(\(conditions\.sigmas\)|points of sigma)",
        ),
        ("zoo/seed", 1, r"squeezenet1_1\.json' has the seeds \[0\], but params\.yaml lists \[1\]"),
    ],
)
@pytest.mark.parametrize("described", [True, False], ids=["with provenance", "without"])
def test_a_result_of_other_parameters_is_refused_with_what_differs(results, tmp_path, where, value, named, described):
    if not described:
        if "optimizer" in where or "rounds" in where:
            pytest.skip("nothing but the provenance knows it")
        for path in results.rglob("*.provenance.json"):
            path.unlink()
        named = r"' has .*, but params\.yaml lists " if "/seeds" not in where else None
    if named is None:  # the other seed lies there, and is not read
        assert build(results, tmp_path / "out", "default", put(where, value))["tasks"]["digits-mlp"]["accuracy"]["bp"][
            "seeds"
        ] == len(value)
        return
    with pytest.raises(ResultError, match=named) as refused:
        build(results, tmp_path / "out", "default", put(where, value))
    assert "make repro" in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_profile_of_the_reference_alone_has_a_report_in_which_nothing_is_reproduced(results, tmp_path):
    """Only BP is left in Tables 2 and 3: no panel has anything to draw, and no claim a figure to stand on."""
    whole = parameters()
    controls = {"exactness": "il-20", "proof": "il-2", "conformance": "zil-state", "conditions": "zil-state"}
    for stage, rule in {"cost": "bp", "train": "bp", **controls}.items():
        whole[stage]["rules"] = [rule]
    del whole["train"]["only"]
    whole["profiles"]["default"] |= {"zoo": [], "scaling": []}
    whole["conformance"]["grids"] = {}
    for path in [*results.rglob("*.json")]:
        if path.name.endswith(".provenance.json"):
            path.unlink()
        elif path.parent.name != "zoo":
            keep = controls.get(path.parent.name, "bp")
            change(path, lambda v, keep=keep: v.update(results=[r for r in v["results"] if r["rule"] == keep]))
    summary = build(results, tmp_path / "out", "default", whole)
    assert "Not tested." in (tmp_path / "out/index.html").read_text(encoding="utf-8")
    # The grid of conditions needs no other rule than the one that it breaks.
    rest = [claim.id for claim in CLAIMS if "conditions" not in claim.stages]
    assert {summary["claims"][name]["verdict"] for name in rest} == {NOT_TESTED}


def test_a_result_of_another_schema_is_refused(results, tmp_path):
    change(results / "cost/digits-mlp.json", lambda value: value.update(schema=2))
    with pytest.raises(ResultError, match=r"cost/digits-mlp\.json' says schema 2, but 1 belongs there; .*make repro"):
        build(results, tmp_path / "out", "default", parameters())


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_made(results, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/figures").write_text("a file in the way")
    with pytest.raises(PCBenchError, match=r"cannot write to '.*out/figures'"):
        build(results, tmp_path / "out", "default", parameters())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["figures"]


LATEX = r"""\documentclass{article}
\usepackage{booktabs}
\usepackage[paperwidth=200cm,paperheight=100cm]{geometry}
\begin{document}
%s
\end{document}
"""


def test_tables_are_latex_in_ascii_whatever_the_labels_hold(results, tmp_path):
    label = "50 % & more_of #1 — é, → {σ} $x$ \\ ~^"
    whole = put("rules/il-20/label", label)
    for path in results.rglob("*.provenance.json"):
        path.unlink()
    for path in (path for path in results.rglob("*.json") if path.parent.name != "zoo"):
        change(path, lambda v: [r.update(label=label) for r in v["results"] if r["rule"] == "il-20"])
    build(results, tmp_path / "out", "default", whole)
    texts = [path.read_text(encoding="utf-8") for path in sorted((tmp_path / "out/tables").glob("*.tex"))]
    assert texts and all(text.isascii() for text in texts)
    if not shutil.which("pdflatex"):
        pytest.skip("TeX is not installed")
    (tmp_path / "tables.tex").write_text(LATEX % "\n\n".join(texts))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 1000


def test_the_paper_compiles_with_every_table_and_figure(results, tmp_path):
    build(results, tmp_path, "default", parameters())
    text = (tmp_path / "paper.tex").read_text(encoding="utf-8")
    assert text.isascii() and "?" not in text
    shown = {name for name in TABLES if name not in ("claims", "headline")}
    assert set(re.findall(r"\\input\{tables/(\w+)\.tex\}", text)) == shown
    if not shutil.which("pdflatex"):
        pytest.skip("TeX is not installed")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\vbox" not in done.stdout


def test_the_pipeline_declares_every_file_of_the_report():
    """What DVC does not know of it neither caches nor removes."""
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["report"]
    paths = [*declared["outs"], *declared["metrics"]]
    names = {name if isinstance(name, str) else next(iter(name)) for name in paths}
    assert names == {f"reports/{name}" for name in REPORT}
