"""CONTRIBUTING.md and docs/architecture.md; oracle: the recipes are followed in a copy, and the results are looked at.

Aimed at: a recipe that no longer works or has grown, a field of a result that nobody describes, a description of a field that
is gone.
"""

import csv
import difflib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from pcbench import params
from pcbench.report import writing

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^### (.+)\n((?:(?!^### ).*\n)*)", TEXT.partition("## Recipes")[2], re.MULTILINE))
RULE, TASK, DATA, TABLE = RECIPES
# A line that begins with a file's name, and the block below it.
BLOCK = re.compile(r"^`([^`\n]+)`[^\n]*\n\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COUNTED = re.compile(r"^\| \[(.+)\]\(#(.+)\) \| (\d+) \| (\d+) \| (\d+) \|$", re.MULTILINE)
PROMISED = {name: tuple(map(int, numbers)) for name, _, *numbers in COUNTED.findall(TEXT)}


def read(path):
    return path.read_text(encoding="utf-8") if path.exists() else ""


def followed(recipe, root):
    """The files that a recipe adds or changes, with their new text, in the order in which it names them."""
    texts = {}
    for path, kind, block in BLOCK.findall(RECIPES[recipe]):
        assert kind == "diff" or not (root / path).exists(), f"{path} is there already"
        texts[path] = changed(texts.get(path, read(root / path)), block) if kind == "diff" else block
    return texts


def changed(text, diff):
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        before, after = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
        assert f"\n{text}".count(f"\n{before}") == 1, f"not there, or more than once:\n{before}"
        text = f"\n{text}".replace(f"\n{before}", f"\n{after}", 1)[1:]
    return text


def commands(recipe):
    return [
        line.removeprefix("$ ")
        for block in re.findall(r"^```console\n(.*?)^```$", RECIPES[recipe], re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]


class Copy:
    """A copy of the repository as it is, in which a recipe is followed."""

    def __init__(self, folder, *recipes):
        if not (ROOT / ".git").exists():
            pytest.skip("not a checkout")
        self.folder = folder
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        for path in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
            if (ROOT / path).is_file():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / path, folder / path)
        (folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
        for recipe in recipes:
            for path, text in followed(recipe, folder).items():
                (folder / path).write_text(text, encoding="utf-8")

    def python(self, *arguments):
        home = {"PYTHONPATH": str(self.folder), "GIT_CEILING_DIRECTORIES": str(self.folder.parent), "COLUMNS": "200"}
        command, environment = [sys.executable, *arguments], {**os.environ, **home}
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)

    def run(self, *arguments):
        done = self.python(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def make_profiles(self):
        """What `make profiles` runs; return the files that it has written anew."""
        before = {path: read(path) for kind in ("dvc.yaml", "README.md") for path in self.folder.rglob(kind)}
        self.run("profiles/pipelines.py")
        self.run("datasets/cards.py")
        after = {path: read(path) for kind in ("dvc.yaml", "README.md") for path in self.folder.rglob(kind)}
        return {path.relative_to(self.folder).as_posix() for path in after if before.get(path) != after[path]}

    def follow(self, recipe):
        """Run a recipe's commands; what is to be repeated is the profile smoke, whichever it names."""
        for command in commands(recipe):
            if command == "make profiles":
                self.make_profiles()
            elif command.startswith("make repro"):
                self.run("-m", "pcbench", "run", "--profile", "smoke")
            else:
                self.run("-m", *command.split())

    def small(self, task, rules=(), data=None, **profile):
        """Make the profile smoke a few seconds long: one task, one seed, one epoch, one round, one dtype."""
        path = self.folder / "params.yaml"
        numbers = yaml.safe_load(read(path))
        smoke = {"seeds": [0], "rounds": 1, "zoo": [], "scaling": [], "tasks": {task: 1}}
        numbers["profiles"]["smoke"] = smoke | profile
        numbers["exactness"] |= {"dtypes": ["float32"], "seeds": [0]}
        numbers["cost"]["warmup"] = 0
        numbers["scaling"] |= {"warmup": 0, "rounds": 1}
        for axis in numbers["scaling"]["axes"].values():
            axis |= {"sizes": [2, 3], "largest": {}}
        kept = {"bp", "bp-captured", "zil", "zil-captured", "zil-state", *rules}
        numbers["conditions"] |= {"gammas": [0.5, 1], "sigmas": [0, 0.1]}
        numbers["conditions"]["free_energy"]["evaluations"] = 20
        for stage in (*params.OF_TASKS, "scaling"):
            numbers[stage]["rules"] = [rule for rule in numbers[stage]["rules"] if rule in kept]
        numbers["train"].pop("only", None)
        grids = numbers["conformance"]["grids"]
        numbers["conformance"]["grids"] = {rule: grid for rule, grid in grids.items() if rule in kept}
        if data:
            numbers["tasks"][task]["data"] = data
        path.write_text(yaml.safe_dump(numbers, sort_keys=False, allow_unicode=True), encoding="utf-8")

    def rows(self, table):
        with open(self.folder / f"reports/smoke/tables/{table}.csv", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


def module(path):
    """A module from a file of a copy."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_can_be_followed_and_touches_as_many_files_and_lines_as_is_said(recipe, tmp_path, monkeypatch):
    texts = followed(recipe, ROOT)
    assert texts and commands(recipe)
    for path, text in texts.items():
        if path.endswith(".py"):
            compile(text, path, "exec")
    difference = [
        line
        for path, text in texts.items()
        for line in list(difflib.unified_diff(read(ROOT / path).splitlines(), text.splitlines(), n=0))[2:]
    ]
    assert PROMISED[recipe][:2] == (len(texts), sum(line.startswith("+") for line in difference))
    (tmp_path / "params.yaml").write_text(texts.get("params.yaml", read(ROOT / "params.yaml")), encoding="utf-8")
    shutil.copytree(ROOT / "pcbench", tmp_path / "pcbench", ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    monkeypatch.setattr(params, "_PACKAGE", tmp_path / "pcbench")  # where names are looked up
    params.load(tmp_path / "params.yaml")


def test_every_recipe_is_counted_and_linked_to():
    assert [*PROMISED] == [*RECIPES]
    assert [anchor for _, anchor, *_ in COUNTED.findall(TEXT)] == [name.lower().replace(" ", "-") for name in RECIPES]


@pytest.mark.parametrize("text", [TEXT, ARCHITECTURE], ids=["CONTRIBUTING.md", "docs/architecture.md"])
def test_what_a_paper_names_is_there(text):
    places = re.findall(r"`([\w/]+\.py):(\w+)`", text)
    for path, name in places:
        source = read(ROOT / "pcbench" / path) or read(ROOT / path)
        assert re.search(rf"^\s*(?:(?:def|class) {name}\b|{name} = )", source, re.MULTILINE), f"{path}:{name}"
    added = {path for recipe in RECIPES for path, _, _ in BLOCK.findall(RECIPES[recipe])}
    for path in re.findall(r"`((?:pcbench|tests|docs|profiles)/[\w./-]+\.\w+)`|\]\(((?!http)[^)#]+)\)", text):
        (name,) = filter(None, path)
        assert name in added or (ROOT / name).exists() or (ROOT / "docs" / name).exists(), name


@pytest.mark.parametrize(
    "name", ["CONTRIBUTING.md", "CHANGELOG.md", ".pre-commit-config.yaml", ".github/workflows/ci.yml"]
)
def test_what_is_to_be_made_can_be_made(name):
    targets = set(re.findall(r"^([a-z-]+):", read(ROOT / "Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ |run: |entry: )make ([a-z-]+)", read(ROOT / name)))
    assert named and named <= targets


def test_the_small_papers_say_what_pyproject_says():
    project = tomllib.loads(read(ROOT / "pyproject.toml"))
    assert yaml.safe_load(read(ROOT / "CITATION.cff"))["version"] == project["project"]["version"]
    assert f"max_line_length = {project['tool']['ruff']['line-length']}\n" in read(ROOT / ".editorconfig")


@pytest.mark.slow
def test_the_house_takes_what_the_recipes_add(tmp_path):
    """All four one after another: lint, types, and the tests of the repository's own files against one another."""
    copy = Copy(tmp_path, *RECIPES)
    copy.make_profiles()
    files = sorted({path for name in RECIPES for path, *_ in BLOCK.findall(RECIPES[name]) if path.endswith(".py")})
    copy.run("-m", "ruff", "check", "--no-cache", *files)
    copy.run("-m", "ruff", "format", "--no-cache", "--check", *files)
    copy.run("-m", "mypy", *(path for path in files if path.startswith("pcbench/")))
    tests = ("pipeline/test_consistency.py", "contracts/test_data_cards.py", "contracts/test_rooms.py")
    copy.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/{path}" for path in tests))


@pytest.mark.slow
def test_a_learning_rule_gets_its_place_in_the_tables(tmp_path):
    copy = Copy(tmp_path, RULE)
    assert len(copy.make_profiles()) == PROMISED[RULE][2]
    copy.small("digits-mlp", rules=["bp-rounded"])
    copy.follow(RULE)
    (row,) = (row for row in copy.rows("exactness") if row["rule"] == "bp-rounded")
    assert row["bitwise_equal"] == "False" and 0 < float(row["relative_l2"]) < 2**-8  # half of bfloat16's last place
    (row,) = (row for row in copy.rows("accuracy") if row["rule"] == "bp-rounded")
    assert int(row["weights_updates_equal"]) < int(row["weights_updates"])
    for table in ("exactness", "accuracy"):
        assert "BP, rounded |" in read(tmp_path / f"reports/smoke/tables/{table}.md").splitlines()[0]
    assert "BP, rounded" in read(tmp_path / "reports/smoke/index.html")


@pytest.mark.slow
def test_a_task_is_trained_and_held_to_backpropagation(tmp_path):
    copy = Copy(tmp_path, TASK)
    assert len(copy.make_profiles()) == PROMISED[TASK][2]
    entry = yaml.safe_load(read(tmp_path / "params.yaml"))["tasks"]["agnews-cnn"]
    data = SimpleNamespace(vocabulary=range(20_000), classes=range(4))  # as AG News has them
    network = module(tmp_path / "pcbench/tasks/text_cnn.py").model(data, **entry["model"]).eval()
    texts = torch.randint(2, 20_000, (3, 24))
    texts[:, :16] = 0
    torch.testing.assert_close(network(texts), network(texts[:, 16:]))  # without the padding that all of them have
    assert network(texts).shape == (3, 4)

    copy.small("agnews-cnn", data="surnames")
    copy.follow(TASK)
    assert [row["family"] for row in copy.rows("exactness") if row["rule"] == "zil"] == ["cnn"]
    metrics = json.loads(read(tmp_path / "reports/smoke/metrics.json"))["tasks"]["agnews-cnn"]
    assert metrics["exactness"]["zil"]["float32"]["bitwise_equal"] and metrics["proof"]["zil"]["equal"]
    assert metrics["weights"]["zil"]["updates"] == metrics["weights"]["zil"]["updates_equal"] > 0
    assert metrics["accuracy"]["bp"]["mean"] > 0


@pytest.mark.slow
def test_a_data_set_is_fetched_verified_and_read(tmp_path):
    copy = Copy(tmp_path, DATA)
    assert len(copy.make_profiles()) == PROMISED[DATA][2]
    copy.follow(DATA)
    told = copy.run("-m", "pcbench", "fetch", "wine")
    assert "142 training and 36 test examples" in told and "verified" in told
    card, source = read(tmp_path / "datasets/wine/README.md"), tmp_path / "pcbench/data/wine.py"
    (checksum,) = re.findall(r"\b[0-9a-f]{64}\b", read(source))
    assert card.startswith("# Wine\n") and checksum in card and "142 training and 36 test" in card
    stages = yaml.safe_load(read(tmp_path / "datasets/dvc.yaml"))["stages"]
    assert stages["fetch"]["foreach"]["wine"] == {"module": "wine", "format": "_packages"}
    copy.small("digits-mlp", data="wine")
    copy.run("-m", "pcbench", "exactness", "digits-mlp", "--profile", "smoke")

    source.write_text(read(source).replace(checksum, "0" * 64), encoding="utf-8")
    refused = copy.python("-m", "pcbench", "fetch", "wine")
    assert refused.returncode == 2 and f"its SHA-256 is {checksum}" in refused.stderr.replace("\n", "")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """All stages and the report, with the figure that the fourth recipe adds; dropout makes programs that are refused."""
    copy = Copy(tmp_path_factory.mktemp("measured"), TABLE)
    assert len(copy.make_profiles()) == PROMISED[TABLE][2]
    rules = ("gamma-half", "il-2", "il-20", "il-20-captured", "one-step")
    copy.small("digits-cnn", rules, zoo=["squeezenet1_1"], scaling=["length"])
    numbers = yaml.safe_load(read(copy.folder / "params.yaml"))
    numbers["profiles"]["smoke"]["tasks"]["digits-mlp"] = 1
    (copy.folder / "params.yaml").write_text(yaml.safe_dump(numbers, sort_keys=False), encoding="utf-8")
    copy.make_profiles()
    copy.follow(TABLE)
    return copy


@pytest.mark.slow
def test_a_figure_gets_its_rows_in_table_2_and_is_gated(measured):
    folder = measured.folder / "reports/smoke"
    group, *_ = re.findall(r'\("(.+)", "products"', RECIPES[TABLE])
    assert group in read(folder / "tables/cost.md") and group in read(folder / "index.html")
    for row in measured.rows("cost"):
        record = records(measured.folder / row["source"])[row["rule"]]
        assert row["products"] == ("" if "refused" in record else str(record["metrics"]["products"]))
    metrics = json.loads(read(folder / "metrics.json"))
    found = {rule: cell.get("products") for rule, cell in metrics["tasks"]["digits-mlp"]["cost"].items()}
    # Three layers: a product each in forward, two in backward, but for the first, whose input needs no gradient.
    assert found["bp"] == found["zil"] == found["bp-captured"] == found["zil-captured"] == 8 < found["il-20"]

    check = measured.python("-m", "pcbench", "check", "--profile", "smoke")
    assert ".products" not in check.stdout + check.stderr
    metrics["tasks"]["digits-mlp"]["cost"]["zil"]["products"] += 1
    tampered = folder / "metrics.json"
    before = tampered.read_bytes()
    tampered.write_text(json.dumps(metrics), encoding="utf-8")
    assert "cost.digits-mlp.zil.products" in measured.python("-m", "pcbench", "check", "--profile", "smoke").stdout
    tampered.write_bytes(before)


def records(path):
    return {record["rule"]: record for record in json.loads(read(path))["results"]}


@pytest.mark.slow
def test_a_number_is_the_same_from_the_clock_to_the_page(measured):
    """As docs/architecture.md follows it."""
    found = records(measured.folder / "results/smoke/cost/digits-mlp.json")
    zil, bp = (found[rule]["metrics"]["seconds"]["samples"] for rule in ("zil", "bp"))
    value = float(np.median(np.divide(zil, bp)))
    assert found["zil"]["metrics"]["ratio"]["median"] == value
    report = measured.folder / "reports/smoke"
    metrics = json.loads(read(report / "metrics.json"))
    assert metrics["tasks"]["digits-mlp"]["cost"]["zil"]["ratio"]["median"] == value
    (row,) = (row for row in measured.rows("cost") if (row["task"], row["rule"]) == ("digits-mlp", "zil"))
    assert float(row["ratio.median"]) == value and row["source"] == "results/smoke/cost/digits-mlp.json"
    for name in ("tables/cost.md", "tables/cost.tex", "tables/headline.md", "figures/cost.svg", "index.html"):
        assert writing.ratio(value) in read(report / name), name
    expectations = yaml.safe_load(read(measured.folder / "expectations.yaml"))
    assert "*.zil.ratio" in expectations["cost"] and '`"*.zil.ratio"`' in ARCHITECTURE


def described(text):
    """``{file: [path, ...]}`` of the tables of the result format; a path is a tuple of keys."""
    sections = re.findall(r"^### (.+)\n((?:(?!^### ).*\n)*)", text.partition("## The result format")[2], re.MULTILINE)
    return {
        heading.strip("`"): [
            tuple(re.findall(r"<\w+>|\[\]|\.\.\.|\w+", field))
            for field in re.findall(r"^\| `(.+?)` \|", body, re.MULTILINE)
        ]
        for heading, body in sections
    }


def paths(value):
    """The paths to everything in a JSON value that is no table and no list, with the value there."""
    if isinstance(value, dict):
        return [((key, *path), leaf) for key, inner in value.items() for path, leaf in paths(inner)]
    if isinstance(value, list):
        return [(("[]", *path), leaf) for inner in value for path, leaf in paths(inner)]
    return [((), value)]


def fits(path, leaf, field):
    """Whether a field describes what stands at a path; null may stand for what it describes below."""
    whole = len(path) == len(field) or (leaf is None and len(path) < len(field))
    if field[-1] == "...":
        field, whole = field[:-1], len(path) >= len(field) - 1
    return whole and all(a == b or b.startswith("<") for a, b in zip(path, field, strict=False))


FILES = {
    "exactness/<task>.json": "exactness/*[!e].json",
    "cost/<task>.json": "cost/*[!e].json",
    "train/<task>/seed-<seed>.json": "train/*/seed-*.json",
    "proof/<task>.json": "proof/*[!e].json",
    "conformance/<task>.json": "conformance/*[!e].json",
    "benchmarks/peers/results/<library>/<task>.json": "../../benchmarks/peers/results/*/*[!e].json",
    "conditions/<task>.json": "conditions/*[!e].json",
    "zoo/<model>.json": "zoo/*_1.json",
    "scaling/<axis>.json": "scaling/length.json",
    "<result>.provenance.json": "*/*.provenance.json",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_the_result_format_is_described_field_by_field(measured, name):
    fields = described(read(measured.folder / "docs/architecture.md"))
    assert fields.keys() == {"Every result", *FILES}
    own = fields[name] + (fields["Every result"] if name != "<result>.provenance.json" else [])
    files = list((measured.folder / "results/smoke").glob(FILES[name]))
    found = [each for path in files for each in paths(json.loads(read(path)))]
    assert found
    unnamed = {path for path, leaf in found if not any(fits(path, leaf, field) for field in own)}
    assert not unnamed, "no table of docs/architecture.md has these fields"
    there = {path for path, _ in found}
    absent = [field for field in own if not any(fits(path, ..., field) for path in there)]
    # What only results of several machines have, tests/contracts/test_cells.py looks at.
    assert not [field for field in absent if field[0] != "elsewhere"], "no result has these fields"
