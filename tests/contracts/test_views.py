"""One table from the shell, and what DVC's own views read; oracle: the files of the report, and the results themselves.

Aimed at: a printed table that is another one than the file's, a wrong number that prints some table, a view of a file that
nobody writes, a mean over other seeds than there are.
"""

import csv
import json
import re
from pathlib import Path
from statistics import fmean, median

import pytest
import yaml
from dvc_render.vega import VegaRenderer
from test_report import ROOT, TASKS, made, parameters  # noqa: F401

from pcbench.cli import main
from pcbench.files import read_json
from pcbench.report.build import build
from pcbench.report.table import FORMATS


@pytest.fixture(scope="module")
def report(made, tmp_path_factory):  # noqa: F811
    """A folder as the command line finds it, with the report of its results."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters()))
    (folder / "results").mkdir()
    (folder / "results/default").symlink_to(made)
    return folder, build(made, folder / "reports", "default", parameters())


@pytest.fixture
def pcbench(report, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.chdir(report[0])
        monkeypatch.setattr("sys.argv", ["pcbench", "report", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


def without_paths(text):
    """A result's path is written as it was given: the folder that it lies in differs here."""
    return re.sub(r"[^,\s]*/((?:exactness|cost|train|zoo|proof|scaling)/)", r"\1", text)


@pytest.mark.parametrize(("which", "name"), [("2", "cost"), ("certificates", "certificates"), ("headline", "headline")])
@pytest.mark.parametrize("form", FORMATS)
def test_a_table_is_printed_as_its_file_has_it_and_nothing_is_written(pcbench, report, which, name, form):
    before = {path: path.stat().st_mtime_ns for path in report[0].rglob("*")}
    code, out, err = pcbench("--table", which, "--format", form)
    expected = (report[0] / f"reports/tables/{name}.{FORMATS[form][0]}").read_text(encoding="utf-8")
    assert (code, err) == (0, "")
    assert without_paths(out) == without_paths(expected)
    assert {path: path.stat().st_mtime_ns for path in report[0].rglob("*")} == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--table", "99"), ("'99'", "1 exactness, 2 cost,", "claims, headline")),
        (("--table", "None"), ("'None'", "2 cost")),
        (("--table", "2", "--format", "html"), ("'html'", "md, latex, csv")),
        (("--format", "csv"), ("--table",)),
    ],
)
def test_a_table_or_format_that_there_is_not_is_refused_with_those_there_are(pcbench, arguments, parts):
    code, out, err = pcbench(*arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert all(part in err for part in parts)


def rows(report, name):
    with open(report[0] / f"reports/plots/{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_curves_are_means_and_medians_over_the_seeds_of_the_results(made, report):  # noqa: F811
    training, distance = rows(report, "training"), rows(report, "distance")
    for task in TASKS:
        seeds = [read_json(made / f"train/{task}/seed-{seed}.json")["results"] for seed in (0, 1)]
        for records in zip(*seeds, strict=True):
            label, metrics = records[0]["label"], [record["metrics"] for record in records]
            (row,) = (row for row in training if (row["task"], row["rule"], row["epoch"]) == (task, label, "1"))
            for key in ("train_loss", "test_accuracy"):
                assert float(row[key]) == pytest.approx(fmean(each["epochs"][0][key] for each in metrics))
            drawn = [float(row["distance"]) for row in distance if (row["task"], row["rule"]) == (task, label)]
            if label == "BP":
                assert drawn == []
                continue
            runs = [each["divergence"]["relative_l2"] for each in metrics]
            assert drawn == [pytest.approx(median(values)) for values in zip(*runs, strict=True)]


def numbers(value):
    return [each for inner in value.values() for each in numbers(inner)] if isinstance(value, dict) else [value]


def test_the_headline_is_a_few_numbers_of_the_metrics(report):
    found = json.loads((report[0] / "reports/headline.json").read_text(encoding="utf-8"))
    known = set(numbers(report[1]["tasks"]))
    for task in TASKS:
        assert found[task]["equal_gradients"] == found[task]["equal_weights"] == 1.0
        assert set(numbers({key: found[task][key] for key in ("accuracy", "time")})) <= known
    assert sum(found["claims"].values()) == len(report[1]["claims"])
    assert all(isinstance(number, int | float) for number in numbers(found))


@pytest.mark.parametrize("pipeline", [ROOT / "dvc.yaml", *sorted(ROOT.glob("profiles/*/dvc.yaml"))], ids=str)
def test_what_dvc_plots_is_a_column_of_a_file_that_the_report_writes_and_a_template_takes_it(pipeline, report):
    declared = yaml.safe_load(pipeline.read_text(encoding="utf-8"))
    outs = {
        (ROOT / name).resolve()
        for entry in declared["stages"]["report"]["outs"]
        for name in ([entry] if isinstance(entry, str) else entry)
    }
    assert len(declared["plots"]) == 3
    for plot in declared["plots"]:
        ((title, settings),) = plot.items()
        ((place, x),), ((same, y),) = settings["x"].items(), settings["y"].items()
        assert place == same and (pipeline.parent / place).resolve().parent in outs
        points = rows(report, Path(place).stem)
        assert {"task", "rule", x, y} <= points[0].keys()
        template = ROOT / ".dvc" / "plots" / f"{settings['template']}.json"
        points = [{**point, "rev": "workspace"} for point in points]
        drawn = VegaRenderer(points, title, template=str(template), x=x, y=y, title=title).get_filled_template()
        assert drawn["encoding"]["y"]["field"] == y and drawn["data"]["values"] == points
