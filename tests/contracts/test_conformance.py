"""What each rule is of backpropagation; oracle: rules, gradients and distances that were planted, and the rules' equations.

Aimed at: an approach that is a floor, an equality that one dtype or seed lacks, a multiple that is none, a verdict that takes
the slower of two series for a law.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pcbench import params
from pcbench.files import write_json
from pcbench.grids import combinations
from pcbench.measure.conformance import conformance, levels, of_rule
from pcbench.measure.matched import Matched
from pcbench.report.conformance import setting, told
from pcbench.report.verdicts import approach, verdict
from pcbench.rules import ENGINES, Backprop, Rule

ROOT = Path(__file__).resolve().parents[2]
OWN = params.load(ROOT / "params.yaml")
SETTINGS = params.section(OWN, "conformance")


@pytest.fixture(scope="module")
def mlp(digits):
    return Matched.load(OWN, "digits-mlp", digits)


class Half(Backprop):
    """Backpropagation's gradients times a half."""

    backward = Rule.backward

    def gradients(self, inputs, targets, loss_fn):
        loss, found = super().gradients(inputs, targets, loss_fn)
        return loss, {tensor: 0.5 * gradient for tensor, gradient in found.items()}


class NearlyHalf(Half):
    """One element of one tensor is one last place off."""

    def gradients(self, inputs, targets, loss_fn):
        loss, found = super().gradients(inputs, targets, loss_fn)
        largest = max(found.values(), key=lambda gradient: gradient.abs().max()).view(-1)
        at = largest.abs().argmax()
        largest[at] = torch.nextafter(largest[at], largest.new_tensor(np.inf))
        return loss, found


class Third(Backprop):
    """No power of two."""

    backward = Rule.backward

    def gradients(self, inputs, targets, loss_fn):
        loss, found = super().gradients(inputs, targets, loss_fn)
        return loss, {tensor: gradient / 3 for tensor, gradient in found.items()}


class HalfOfSome(Half):
    """Half of every tensor but the first."""

    def gradients(self, inputs, targets, loss_fn):
        loss, found = super().gradients(inputs, targets, loss_fn)
        first = next(iter(found))
        return loss, {tensor: 2 * gradient if tensor is first else gradient for tensor, gradient in found.items()}


def planted(mlp, monkeypatch, engine):
    """What is measured of an engine in Z-IL's place, and the verdict."""
    monkeypatch.setitem(ENGINES, "zil", engine)
    records = of_rule(mlp, SETTINGS, "zil")["results"]
    return records, verdict(records)


def test_a_half_is_found_bit_for_bit_in_both_dtypes(mlp, monkeypatch):
    records, found = planted(mlp, monkeypatch, Half)
    assert [record["dtype"] for record in records] == ["float64", "float32"]
    assert all(record["metrics"]["scaled_bitwise"] and not record["metrics"]["bitwise_equal"] for record in records)
    assert (found["verdict"], found["by"], found["scale"]) == ("equal up to scale", "bits", 0.5)
    assert found["tensors"] == found["scaled_tensors"] and found["scale_low"] == found["scale_high"] == 0.5


def test_one_last_place_beside_a_half_is_rounding_and_no_equality(mlp, monkeypatch):
    records, found = planted(mlp, monkeypatch, NearlyHalf)
    assert [record["dtype"] for record in records] == ["float64"]
    assert (found["verdict"], found["by"]) == ("equal up to scale", "rounding")
    assert found["scaled_tensors"] == found["tensors"] - 1
    assert told(found) == "equal up to scale (one for all), and to rounding"


def test_a_third_is_equal_to_rounding(mlp, monkeypatch):
    _, found = planted(mlp, monkeypatch, Third)
    assert (found["verdict"], found["by"]) == ("equal up to scale", "rounding")
    assert found["scale"] == pytest.approx(1 / 3, rel=1e-12)


def test_a_scale_for_each_tensor_is_told_from_one_scale(mlp, monkeypatch):
    records, found = planted(mlp, monkeypatch, HalfOfSome)
    assert not any(record["metrics"]["scaled_bitwise"] for record in records) and found["residual"] > 0.01
    assert told(found) == "equal up to scale (one each tensor), bit for bit"
    assert (found["scale_low"], found["scale_high"]) == (0.5, 1.0)


def test_the_same_gradients_by_other_operations_are_bit_identical_and_no_program(mlp, monkeypatch):
    class Twice(Half):
        def gradients(self, inputs, targets, loss_fn):
            loss, found = super().gradients(inputs, targets, loss_fn)
            return loss, {tensor: 2 * gradient for tensor, gradient in found.items()}

    records, found = planted(mlp, monkeypatch, Twice)
    assert records[-1]["metrics"]["proof"]["equal"] is False
    assert (found["verdict"], found["by"]) == ("equal", "bits") and told(found) == "bit-identical"


def test_zil_is_the_program_and_its_state_form_is_rounding(mlp):
    zil, state = (verdict(of_rule(mlp, SETTINGS, rule)["results"]) for rule in ("zil", "zil-state"))
    assert (zil["verdict"], zil["by"], told(zil)) == ("equal", "program", "the same program")
    assert state["verdict"] == told(state) == "equal up to rounding" and 0 < state["relative_l2"] < 1e-10


def test_fixed_prediction_has_backpropagations_numbers_from_the_largest_level_on(mlp):
    records = of_rule(mlp, SETTINGS, "fixed-prediction")["results"]
    reached = {tuple(r["options"].values()) for r in records if r["metrics"]["l2"] == 0}
    depth = levels(mlp)
    assert reached == {(steps, 1.0) for steps in (depth, 20)}
    assert verdict(records)["verdict"] == "equal"


def test_one_step_of_error_optimisation_scales_the_first_layer_alone_to_the_bit(mlp):
    """Its input is clamped; every other layer learns at values that the errors have moved, the more the larger γ."""
    records = [record for record in of_rule(mlp, SETTINGS, "one-step")["results"] if record["dtype"] == "float64"]
    names = list(records[0]["metrics"]["scales"])
    for record in records:
        gamma, scales = record["options"]["gamma"], record["metrics"]["scales"]
        assert scales[names[0]] == pytest.approx(gamma, rel=1e-12) and not record["metrics"]["scaled_bitwise"]
        assert 1 <= record["metrics"]["scaled_tensors"] < len(names)
    found = verdict(records)
    assert (found["verdict"], found["of"]) == ("approaches", "BP with a scale for each tensor")
    assert found["rate"]["option"] == "gamma" and found["rate"]["value"] == pytest.approx(1, abs=0.05)


def test_a_result_is_a_json_value_with_a_record_for_each_setting(mlp, tmp_path):
    result = conformance(mlp.task, [of_rule(mlp, SETTINGS, rule) for rule in ("zil", "strict")])
    head = {key: result[key] for key in ("schema", "stage", "task", "family", "levels")}
    assert head == {"schema": 1, "stage": "conformance", "task": "digits-mlp", "family": "mlp", "levels": 3}
    assert [r["options"] for r in result["results"] if r["rule"] == "strict"] == [{"steps": t} for t in (1, 3, 20)]
    write_json(tmp_path / "conformance.json", result)
    assert json.loads((tmp_path / "conformance.json").read_text()) == result


def test_combinations_are_each_there_once_with_the_number_of_levels():
    found = combinations({"steps": [1, "levels", 5], "gamma": [1.0, 0.1]}, levels=5)
    assert found == [{"steps": steps, "gamma": gamma} for steps in (1, 5) for gamma in (1.0, 0.1)]
    assert combinations({}, levels=5) == [{}]
    assert setting({"steps": 5, "gamma": 0.1, "variance": 10}) == "T = 5, γ = 0.1, v = 10"
    assert setting({"gamma": 1.0, "alpha": 2.0**-10}) == "γ = 1, α = 2^−10"


VARIANCES = [1, 10, 100, 1000]


@pytest.mark.parametrize(
    ("option", "values", "distances", "kind", "value"),
    [
        ("variance", VARIANCES, [0.3 / v for v in VARIANCES], "exponent", -1),
        ("gamma", [1.0, 0.1, 0.01], [0.5, 0.05, 0.005], "exponent", 1),
        ("steps", [5, 10, 20, 40], [np.exp(-0.2 * t) for t in (5, 10, 20, 40)], "per step", -0.2),
        ("steps", [5, 40, 20], [np.exp(-0.2 * t) for t in (5, 40, 20)], "per step", -0.2),  # `levels` in the middle
    ],
)
def test_a_law_that_was_planted_is_found(option, values, distances, kind, value):
    found = approach(values, distances, option)
    assert (found["option"], found["kind"]) == (option, kind)
    assert found["low"] <= found["value"] <= found["high"] and found["value"] == pytest.approx(value)


@pytest.mark.parametrize(
    ("values", "distances"),
    [
        (VARIANCES, [0.3, 0.03, 0.011, 0.01]),  # it falls no more
        (VARIANCES, [0.01 + 0.3 / v for v in VARIANCES]),
        (VARIANCES, [0.3, 0.01, 0.3, 0.1]),  # up and down
        (VARIANCES, [0.3 * v for v in VARIANCES]),  # towards the other end
        (VARIANCES[::-1], [0.3 / v for v in VARIANCES[::-1]]),
        (VARIANCES, [0.3, 0.03, np.inf, 1e-4]),
        (VARIANCES, [0.3, 0.29, 0.29, 0.01]),  # one step is no law: the slope's interval holds zero
        ([*range(1, 11)], [*(2.0**-v for v in range(1, 10)), 0.9 * 2.0**-9]),  # a law, until the last step
        (VARIANCES[:2], [0.3, 0.03]),  # no interval
        (["a", "b", "c"], [0.3, 0.03, 0.003]),
        ([False, True, 2], [0.3, 0.03, 0.003]),
    ],
)
def test_what_does_not_fall_to_the_end_is_no_approach(values, distances):
    assert approach(values, distances, "variance") is None


def record(options, dtype="float64", seed=0, **metrics):
    distance = metrics.get("relative_l2", 0.5)
    found = {"l2": distance, "relative_l2": distance, "bitwise_equal": False, "scale": 0.5, "residual": 0.5}
    found |= {"scaled_bitwise": False, "tensor_residual": 0.5, "scales": {"w": 0.5}, "scaled_tensors": 0}
    return {"rule": "r", "label": "r", "options": options, "dtype": dtype, "seed": seed, "metrics": found | metrics}


def test_a_faster_series_that_has_come_to_its_floor_decides_and_not_a_slow_one_that_still_falls():
    slow = [record({"steps": t, "gamma": 0.1}, relative_l2=0.9**t) for t in (5, 10, 20)]
    fast = [record({"steps": t, "gamma": 0.4}, relative_l2=0.01 + 0.2**t) for t in (5, 10, 20)]
    assert verdict(slow)["verdict"] == "approaches"
    found = verdict([*slow, *fast])
    assert found["verdict"] == "does not" and found["rate"] is None and found["settings"] == 6


ROUNDED = ("equal up to rounding", "rounding")
SAME = {"relative_l2": 0.0, "bitwise_equal": True, "scaled_bitwise": True, "residual": 0.0, "scale": 1.0}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (record({}, "float32", **SAME), ("equal", "bits")),
        (record({}, "float32", **SAME, proof={"equal": True}), ("equal", "program")),
        (record({}, "float32", **SAME, proof={"refused": "no program"}), ("equal", "bits")),
        (record({}, "float32", **{**SAME, "bitwise_equal": False, "scaled_bitwise": False}), ("equal", "numbers")),
        (
            record({}, "float32", **{**SAME, "relative_l2": 1e-7, "bitwise_equal": False}),
            ("equal up to rounding", "rounding"),
        ),
        (
            record({}, "float32", 1, **{**SAME, "bitwise_equal": False, "relative_l2": 1e-3}),
            ("equal up to rounding", "rounding"),
        ),
    ],
)
def test_equality_is_of_every_dtype(other, expected):
    found = verdict([record({}, **SAME), other])
    assert (found["verdict"], found["by"]) == expected


def test_one_dtype_alone_is_no_equality():
    assert verdict([record({}, **SAME)])["verdict"] == "equal up to rounding"


def test_a_scale_that_differs_from_seed_to_seed_is_none():
    half = {"scaled_bitwise": True, "residual": 0.0}
    both = [
        record({}, dtype, seed, **half, scale=scale)
        for seed, scale in ((0, 0.5), (1, 0.25))
        for dtype in ("float64", "float32")
    ]
    assert (verdict(both[:2])["by"], verdict(both[2:])["by"]) == ("bits", "bits")
    assert verdict(both)["by"] != "bits"


def test_what_is_not_finite_is_never_the_best():
    found = verdict([record({"steps": 5}, relative_l2=None, residual=None), record({"steps": 1}, relative_l2=0.7)])
    assert found["options"] == {"steps": 1}
    broken = verdict(
        [record({}, relative_l2=None, residual=None, tensor_residual=None, scale=None, scales={"w": None})]
    )
    assert broken["verdict"] == "does not" and broken["scale_low"] is None
