"""The grid of Z-IL's conditions and the verdicts on them; oracles: what γ does to a chain, worked out, and verdicts by hand.

Aimed at: a condition called necessary because nothing else was measured, noise that is another at each point, a verdict that
hangs on another.
"""

import math
from itertools import product
from pathlib import Path

import pytest
import yaml
from matplotlib.figure import Figure
from problems import relative_l2

from pcbench import Backprop, Dynamics, Schedule, params
from pcbench.errors import InvalidParameters
from pcbench.measure import conditions
from pcbench.measure.first import FirstUpdate
from pcbench.measure.matched import Matched
from pcbench.randomness import stream
from pcbench.report import metrics, panels

ROOT = Path(__file__).parents[2]
GAMMAS, SIGMAS = [0.5, 1], [0, 1e-7, 2e-7, 1.0]


@pytest.fixture(scope="module")
def whole():
    """params.yaml with a small network, and a small grid."""
    found = params.load(ROOT / "params.yaml")
    found["tasks"]["digits-mlp"] |= {"model": {"hidden": 8}, "batch_size": 16}
    found["conditions"] |= {"gammas": GAMMAS, "sigmas": SIGMAS}
    return found


@pytest.fixture(scope="module")
def matched(whole, digits):
    return Matched.load(whole, "digits-mlp", digits)


@pytest.fixture(scope="module")
def result(whole, matched):
    settings = params.section(whole, "conditions")
    calls = []
    measured = [
        conditions.measure(matched, settings, *part, lambda: calls.append(1)) for part in conditions.parts(settings)
    ]
    assert len(calls) == conditions.size(settings)
    return conditions.conditions(matched.task, settings, measured)


@pytest.fixture
def distances(result):
    """``{(γ, σ, layer-dependent): distance}``."""
    (record,) = result["results"]
    return {
        (point["gamma"], point["sigma"], point["layer_dependent"]): point["relative_l2"]
        for point in record["metrics"]["grid"]
    }


def test_every_point_of_the_grid_is_there_once(result, distances):
    assert set(distances) == set(product(GAMMAS, SIGMAS, (True, False)))
    assert len(result["results"][0]["metrics"]["grid"]) == len(distances)


def test_with_a_smaller_step_a_layer_gets_as_many_powers_of_it_as_it_is_levels_deep(matched, distances):
    """In a chain the wave is multiplied by γ once a level, and nothing else has moved when it arrives: γ^level times BP's."""
    gradients = FirstUpdate.of(matched, "float64", 0).gradients(Backprop)
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in gradients))[::-1]
    level = {name: layers.index(name.rpartition(".")[0]) for name in gradients}
    norms = {name: gradient.norm().item() for name, gradient in gradients.items()}
    expected = math.hypot(*((1 - 0.5 ** level[name]) * norm for name, norm in norms.items())) / math.hypot(
        *norms.values()
    )
    assert distances[0.5, 0, True] == pytest.approx(expected, rel=1e-9)
    assert distances[1, 0, True] < 1e-12


def test_the_noise_is_the_seeds_own_at_every_point_and_as_large_as_sigma_says(matched, distances):
    first = FirstUpdate.of(matched, "float64", 0)
    expected = first.gradients(Backprop)
    for gamma, sigma, layer_dependent in product(GAMMAS, (2e-7, 1.0), (True, False)):
        schedule = Schedule(gamma=gamma, sigma=sigma, layer_dependent=layer_dependent)
        found = first.gradients(lambda model, s=schedule: Dynamics(model, s, stream(0, "noise")))
        assert distances[gamma, sigma, layer_dependent] == pytest.approx(relative_l2(found, expected), rel=1e-9)
    assert distances[1, 2e-7, True] == pytest.approx(2 * distances[1, 1e-7, True], rel=1e-3)


def test_without_layer_dependence_the_update_is_the_free_energys_slope_at_the_last_time(result, distances):
    """Two engines for one number: the state form, and autograd's derivative of F."""
    (record,) = result["results"]
    passed = record["metrics"]["free_energy"]["mean"]["at_one_time"]
    assert passed["relative_l2"][-1] == pytest.approx(distances[1, 0, False], rel=1e-9)


def judged(rounding=1e-10, **distances):
    """The verdicts on a grid of three γ and three σ: zero where all conditions are met, else one, but for what is given.

    What is given is the distance of the first point that lacks ``noise``, ``step``, ``time``, ``noise_step``, ... or nothing.
    """
    grid = []
    for gamma, sigma, layer_dependent in product((0.25, 0.5, 1), (0, 0.5, 1.0), (True, False)):
        lacks = [
            name for name, kept in (("noise", sigma == 0), ("step", gamma == 1), ("time", layer_dependent)) if not kept
        ]
        distance = distances.pop("_".join(lacks) or "whole", 1.0 if lacks else 1e-14)
        point = {"gamma": gamma, "sigma": sigma, "layer_dependent": layer_dependent, "relative_l2": distance}
        grid.append(point)
    assert not distances
    return metrics.conditions({"metrics": {"grid": grid, "free_energy": {}}}, rounding)


NAMES = {"noise": "zero_initial_error", "step": "unit_step", "time": "layer_dependent"}


def test_all_three_suffice_and_each_is_needed():
    found = judged()
    assert found["sufficient"] is True and found["relative_l2"] == 1e-14
    for name, points in {"zero_initial_error": 2, "unit_step": 2, "layer_dependent": 1, "otherwise": 17}.items():
        verdict = {} if name == "otherwise" else {"necessary": True}
        assert found[name] == {**verdict, "points": points, "zero": 0, "least": 1.0, "largest": 1.0}


@pytest.mark.parametrize("lacking", NAMES)
def test_a_condition_without_which_one_point_is_zero_is_not_necessary_and_the_others_still_are(lacking):
    found = judged(**{lacking: 1e-11})
    assert found["sufficient"] is True
    assert {name: found[key]["necessary"] for name, key in NAMES.items()} == {name: name != lacking for name in NAMES}
    assert found["otherwise"]["zero"] == 1 and found["otherwise"]["least"] == 1e-11


@pytest.mark.parametrize("lacking", ["noise_step", "noise_time", "step_time", "noise_step_time"])
def test_conditions_broken_together_say_nothing_of_any_but_are_counted(lacking):
    found = judged(**{lacking: 0.0})
    assert all(found[key]["necessary"] for key in NAMES.values()) and found["otherwise"]["zero"] == 1


def test_necessity_does_not_hang_on_sufficiency():
    found = judged(whole=0.3)
    assert found["sufficient"] is False and all(found[key]["necessary"] for key in NAMES.values())


def test_what_is_not_finite_is_not_zero_and_exceeds_everything():
    found = judged(noise=None, whole=None)
    assert found["sufficient"] is False and found["relative_l2"] is None
    assert found["zero_initial_error"] == {"necessary": True, "points": 2, "zero": 0, "least": 1.0, "largest": None}
    assert found["otherwise"]["largest"] is None and found["otherwise"]["least"] == 1.0


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        (
            "gammas",
            [0.5, 0.9],
            r"conditions\.gammas is \[0\.5, 0\.9\]: 1, which keeps the condition, must be among them",
        ),
        ("gammas", [1], r"conditions\.gammas is \[1\]: 1, which keeps"),
        ("gammas", [0, 1], r"conditions\.gammas\.0 is 0: input should be greater than 0"),
        ("sigmas", [0.1, 1], r"conditions\.sigmas is \[0\.1, 1\]: 0, which keeps the condition, must be among them"),
        ("sigmas", [0, 0.0], r"conditions\.sigmas is \[0, 0\.0\]: its items must be different"),
        ("rules", ["zil-state", "il-20"], r"conditions\.rules"),
    ],
)
def test_a_grid_that_could_show_nothing_is_refused(key, values, message, tmp_path):
    found = params.load(ROOT / "params.yaml")
    found["conditions"][key] = values
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(found), encoding="utf-8")
    with pytest.raises(InvalidParameters, match=message):
        params.load(tmp_path / "params.yaml")


def test_a_panel_shows_zero_as_zero_and_what_is_not_finite():
    points = [
        {"gamma": gamma, "sigma": sigma, "relative_l2": distance}
        for (gamma, sigma), distance in zip(product((0.5, 1), (0, 1e-6)), (0.25, 1e-7, 3e-14, None), strict=True)
    ]
    panel = Figure().subplots()
    panels.conditions(panel, (points, 1e-10), {})
    shown = {text.get_position(): text.get_text() for text in panel.texts}
    assert shown == {(0, 0): "0.25", (0, 1): "1.0e-7", (1, 0): "0", (1, 1): "∞"}
    colours = [patch.get_facecolor() for patch in panel.patches]
    assert len(set(colours)) == 4 and colours[2] == (1, 1, 1, 1)
    assert [label.get_text() for label in panel.get_yticklabels()] == ["0", "1e-6"]
