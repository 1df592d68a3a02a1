"""Certificates as results; oracle: `pcbench.prove` on the same network, and one's own eyes on the lines.

Aimed at: a certificate that holds on one machine only, a refusal that passes for a proof, a control that nothing tells apart.
"""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import pcbench
from pcbench import params
from pcbench.errors import UnsupportedModule
from pcbench.measure import certificates
from pcbench.measure.matched import Matched
from pcbench.measure.proof import as_metrics

ROOT = Path(__file__).resolve().parents[2]
OWN = params.load(ROOT / "params.yaml")
SETTINGS = params.section(OWN, "proof")
CERTIFICATE = {"equal", "operations", "own_operations", "digest"}
PARTING = {"result", "step", "expected", "line", "explanation"}


def made(name, digits, advance=lambda: None):
    return certificates.proof(Matched.load(OWN, name, digits), SETTINGS, advance)


@pytest.fixture(scope="module")
def mlp(digits):
    counted = []
    result = made("digits-mlp", digits, lambda: counted.append(1))
    assert len(counted) == len(SETTINGS["rules"])
    return result


def test_zil_is_equal_and_each_control_is_not(mlp):
    head = {key: mlp[key] for key in ("schema", "stage", "task", "family")}
    assert head == {"schema": 1, "stage": "proof", "task": "digits-mlp", "family": "mlp"}
    found = {record["rule"]: record["metrics"] for record in mlp["results"]}
    assert {record["rule"]: record["label"] for record in mlp["results"]} == {
        rule: entry["label"] for rule, entry in SETTINGS["rules"].items()
    }
    assert found["zil"].keys() == CERTIFICATE and found["zil"]["equal"]
    assert found["zil"]["operations"] == found["zil"]["own_operations"] > 10
    controls = [metrics for rule, metrics in found.items() if rule != "zil"]
    assert len(controls) == 3 and not any(metrics["equal"] for metrics in controls)
    assert len({metrics["digest"] for metrics in found.values()}) == 4
    for metrics in controls:
        assert metrics.keys() == CERTIFICATE | PARTING
        assert metrics["result"].startswith("gradient of parameter") and metrics["step"].startswith("aten.")
        assert "of backpropagation's" in metrics["explanation"]


def test_a_line_is_the_models_and_the_same_on_every_machine(mlp):
    place = re.compile(r"pcbench/tasks/mlp\.py:(\d+)")
    for record in mlp["results"][1:]:
        (number,) = place.fullmatch(record["metrics"]["line"]).groups()
        text = (ROOT / "pcbench/tasks/mlp.py").read_text(encoding="utf-8").splitlines()[int(number) - 1]
        assert "(" in text and "def " not in text
    assert str(ROOT) not in json.dumps(mlp)


def test_a_result_is_the_same_each_time_and_what_prove_says(mlp, digits):
    assert made("digits-mlp", digits) == mlp
    matched = Matched.load(OWN, "digits-mlp", digits)
    certificate = pcbench.prove(matched.model(seed=0), *matched.first_batch(seed=0), matched.task.loss)
    assert certificate.digest == mlp["results"][0]["metrics"]["digest"]


def test_what_has_no_program_is_refused_with_the_reason_and_fails_nothing(digits):
    """The state form repeats a dropout at every step, with the same mask: no program does."""
    found = {record["rule"]: record["metrics"] for record in made("digits-cnn", digits)["results"]}
    assert found.pop("zil")["equal"]
    for metrics in found.values():
        assert metrics.keys() == {"refused"} and "dropout draws random numbers" in metrics["refused"]


def test_where_backpropagation_has_no_program_every_rule_is_refused(digits, monkeypatch):
    def refuse(*_):
        raise UnsupportedModule(f"no program: {ROOT}/pcbench/tasks/mlp.py:3")

    monkeypatch.setattr(certificates, "canonical_update", refuse)
    found = [record["metrics"] for record in made("digits-mlp", digits)["results"]]
    assert found == [{"refused": "no program: pcbench/tasks/mlp.py:3"}] * 4


def test_without_lines_the_certificate_is_the_same():
    batch = nn.Sequential(nn.Linear(4, 3), nn.Tanh()), torch.randn(5, 4), torch.randn(5, 3), nn.functional.mse_loss
    for rule in ("zil", "il"):
        known, unknown = (pcbench.prove(*batch, rule=rule, lines=lines) for lines in (True, False))
        assert dataclasses.replace(known, first_difference=None) == dataclasses.replace(unknown, first_difference=None)
    metrics = as_metrics(lambda: unknown)
    assert metrics["line"] is None and metrics["step"]
