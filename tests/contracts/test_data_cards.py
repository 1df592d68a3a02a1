"""Every data set has a card and a stage; the card is its module's, with the checksums that the code verifies.

Aimed at: a card that lags behind its module, and a file that is taken as it comes.
"""

import re
import sys
from pathlib import Path

import pytest
import yaml

from pcbench import data

DATASETS = Path(__file__).parents[2] / "datasets"

before = sys.path[:]
sys.path.insert(0, str(DATASETS))
import cards  # noqa: E402

sys.path[:] = before


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
    assert set(re.findall(r"\b(?:[0-9a-f]{32}|[0-9a-f]{64})\b", card)) == verified(data.module(name).SPEC) - {""}


@pytest.mark.parametrize("name", data.names())
def test_the_card_is_what_make_profiles_writes(name):
    assert (DATASETS / name / "README.md").read_text(encoding="utf-8") == cards.card(name)


def test_every_card_is_of_a_data_set_and_every_module_is_of_its_own():
    assert sorted(path.parent.name for path in DATASETS.glob("*/README.md")) == sorted(data.names())
    assert [data.module(name).SPEC.name for name in data.names()] == list(data.names())


def test_every_data_set_has_a_stage_that_fetches_it():
    stage = yaml.safe_load((DATASETS / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["fetch"]
    assert sorted(stage["foreach"]) == sorted(data.names())


@pytest.mark.parametrize("name", data.names())
def test_no_file_goes_unverified(name):
    spec = data.module(name).SPEC
    archives = getattr(spec.make, "args", [spec.name, ()])[1]
    known = {file.path for archive in archives if archive.digest for file in archive.files}
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) or file.path in known for file in spec.files)
    for archive in archives:
        assert not archive.digest or re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", archive.digest)
        assert all(address.endswith(f"/{archive.name}") for address in archive.addresses)
