"""Every data set has a card and a stage, and the card's checksums are those that the code verifies."""

import importlib
import re
from pathlib import Path

import pytest
import yaml

from pcbench import data
from pcbench.data import table

DATASETS = Path(__file__).parents[2] / "datasets"


def verified(spec):
    """The checksums that a fetch compares with: of content, and of archives whose content is not known."""
    archives = getattr(spec.make, "args", [spec.name, ()])[1]
    return {file.sha256 for file in spec.files} | {archive.digest.partition(":")[2] for archive in archives}


@pytest.mark.parametrize("name", data.names())
def test_the_card_names_its_source_licence_splits_size_checksums_and_citation(name):
    card = (DATASETS / name / "README.md").read_text(encoding="utf-8")
    for row in ("Source", "Licence", "Splits", "Size", "Inputs"):
        assert f"| {row} | " in card
    assert f"`pcbench fetch {name}`" in card
    assert "## Citation\n" in card
    assert set(re.findall(r"\b(?:[0-9a-f]{32}|[0-9a-f]{64})\b", card)) == verified(data._spec(name)) - {""}


@pytest.mark.parametrize("family", table.FAMILIES)
def test_a_familys_module_knows_exactly_the_data_sets_that_are_listed_for_it(family):
    assert tuple(importlib.import_module(f"pcbench.data.{family}").SPECS) == table.FAMILIES[family]


def test_every_data_set_has_a_stage_that_fetches_it():
    stage = yaml.safe_load((DATASETS / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["fetch"]
    assert sorted(stage["foreach"]) == sorted(data.names())


@pytest.mark.parametrize("name", data.names())
def test_no_file_goes_unverified(name):
    spec = data._spec(name)
    archives = getattr(spec.make, "args", [spec.name, ()])[1]
    known = {file.path for archive in archives if archive.digest for file in archive.files}
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) or file.path in known for file in spec.files)
    for archive in archives:
        assert not archive.digest or re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", archive.digest)
        assert all(address.endswith(f"/{archive.name}") for address in archive.addresses)
