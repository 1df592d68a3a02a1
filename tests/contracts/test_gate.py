"""The regression gate; oracle: the documented verdicts, on metrics made up here and perturbed one figure at a time.

Aimed at: a check that cannot fail. A figure that vanished, a bound that is never reached, ≤ for ≥.
"""

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcbench.check.gate import FAIL, NOT_COMPARABLE, PASS, SECTIONS, check, load_expectations
from pcbench.errors import InvalidParameters, ResultError


def metrics_of(tasks=("mlp", "cnn"), profile="default"):
    def divergence(relative_l2, equal):
        return {"relative_l2": relative_l2, "max_ulp": 0 if equal else 12, "bitwise_equal": equal}

    def task():
        return {
            "family": "mlp",
            "exactness": {
                "zil": {"float32": divergence(0.0, True), "float64": divergence(0.0, True)},
                "sigma-1e-2": {"float64": divergence(0.3, False)},
            },
            "weights": {"zil": {"max_ulp": 0, "final_l2": 0.0}},
            "accuracy": {"bp": {"mean": 0.9, "low": None}},
            "cost": {
                "bp": {"operations": 38},
                "zil": {"ratio": {"median": 1.5, "low": 1.4, "high": 1.6}, "operations": 38},
            },
            "proof": {"zil": {"equal": True, "operations": 35, "own_operations": 35}, "il-2": {"equal": False}},
        }

    proof = {"equal": True, "operations": 171, "own_operations": 171}
    zoo = {"resnet18": {"bitwise_equal": True, "buffers_equal": True, "proof": proof}}
    scaling = {axis: {"zil": {"exponent": 1.0}} for axis in ("depth", "width")}
    return {"profile": profile, "tasks": {name: task() for name in tasks}, "zoo": zoo, "scaling": scaling}


PROMISED = {"tasks": ["mlp", "cnn"], "zoo": ["resnet18"], "scaling": ["depth", "width"]}


def verdicts(section, figure, bounds, metrics=None, promised=PROMISED, **more):
    found = check(metrics or metrics_of(), {section: {figure: bounds}, **more}, promised)
    return {finding.what: finding.verdict for finding in found}


def put(metrics, where, value):
    changed = copy.deepcopy(metrics)
    inner = changed
    for key in where[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    return changed


MEAN = ("tasks", "mlp", "accuracy", "bp", "mean")


@pytest.mark.parametrize(
    ("value", "bounds", "verdict"),
    [
        (0.9, {"min": 0.9}, PASS),
        (0.89, {"min": 0.9}, FAIL),
        (0.91, {"min": 0.9}, PASS),
        (0.9, {"max": 0.9}, PASS),
        (0.89, {"max": 0.9}, PASS),
        (0.91, {"max": 0.9}, FAIL),
        (0.5, {"min": 0.4, "max": 0.6}, PASS),
        (0.3, {"min": 0.4, "max": 0.6}, FAIL),
        (0.7, {"min": 0.4, "max": 0.6}, FAIL),
        (0, {"equals": 0}, PASS),
        (1, {"equals": 0}, FAIL),
        (True, {"equals": True}, PASS),
        (False, {"equals": True}, FAIL),
        (1, {"equals": True}, FAIL),
        (0, {"equals": False}, FAIL),
        (True, {"equals": 1}, FAIL),
        (1e-300, {"equals": 0.0}, FAIL),
        (math.nan, {"min": 0.0}, FAIL),
        (math.nan, {"max": 0.0}, FAIL),
        (math.nan, {"equals": 0.0}, FAIL),
        (None, {"max": 1e300}, FAIL),
        (None, {"equals": 0}, FAIL),
        (None, {"min": 0.0, "max": 1.0}, FAIL),
        ("0.95", {"min": 0.9}, FAIL),
        (True, {"min": 0.5}, FAIL),
        ({"mean": 1.0}, {"min": 0.9}, FAIL),
    ],
)
def test_a_figure_is_held_to_its_bounds(value, bounds, verdict):
    found = verdicts("accuracy", "mlp.bp.mean", bounds, put(metrics_of(), MEAN, value))
    assert found == {"accuracy.mlp.bp.mean": verdict}


def test_a_divergence_beyond_all_numbers_meets_a_lower_bound():
    """None stands for a distance that is not finite: the control that must differ from backpropagation does."""
    metrics = put(metrics_of(), ("tasks", "mlp", "exactness", "sigma-1e-2", "float64", "relative_l2"), None)
    found = verdicts("exactness", "mlp.sigma-1e-2.float64.relative_l2", {"min": 1e-3}, metrics)
    assert list(found.values()) == [PASS]


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(value=numbers, low=numbers, high=numbers)
def test_inside_passes_and_outside_fails(value, low, high):
    low, high = sorted((low, high))
    (found,) = verdicts("accuracy", "mlp.bp.mean", {"min": low, "max": high}, put(metrics_of(), MEAN, value)).values()
    assert found == (PASS if low <= value <= high else FAIL)


kinds = st.dictionaries(st.sampled_from(["min", "max", "equals"]), numbers, min_size=1)
places = st.sampled_from(
    [
        ("exactness", "zil.float32.max_ulp"),
        ("exactness", "sigma-1e-2.float64.relative_l2"),
        ("weights", "zil.final_l2"),
        ("accuracy", "bp.mean"),
        ("cost", "zil.ratio.median"),
    ]
)


@given(place=places, bounds=kinds, task=st.sampled_from(["mlp", "*", "nowhere"]), cut=st.integers(0, 9))
def test_a_missing_figure_never_passes(place, bounds, task, cut):
    """Whether the figure is gone, its rule, its section or its task."""
    section, key = place
    rule, *rest = key.split(".")
    path = ["tasks", "mlp", section, rule, *rest]
    metrics = put(metrics_of(tasks=("mlp",)), path[: 3 + cut % (len(path) - 2)], ...)
    found = verdicts(section, f"{task}.{key}", bounds, metrics, {"tasks": ["mlp"], "zoo": [], "scaling": []})
    assert found and set(found.values()) == {NOT_COMPARABLE if task == "nowhere" else FAIL}


def test_a_star_is_every_task_and_one_task_short_of_it_fails():
    key = "exactness", "*.zil.float32.bitwise_equal", {"equals": True}
    assert verdicts(*key) == {f"exactness.{task}.zil.float32.bitwise_equal": PASS for task in ("mlp", "cnn")}
    broken = put(metrics_of(), ("tasks", "cnn", "exactness", "zil", "float32", "bitwise_equal"), False)
    assert verdicts(*key, broken) == {
        "exactness.mlp.zil.float32.bitwise_equal": PASS,
        "exactness.cnn.zil.float32.bitwise_equal": FAIL,
    }


def test_a_task_that_vanished_from_the_report_fails_and_so_does_a_model_of_the_zoo():
    gone = put(put(metrics_of(), ("tasks", "cnn"), ...), ("zoo", "resnet18"), ...)
    assert verdicts("weights", "*.zil.max_ulp", {"equals": 0}, gone) == {
        "weights.mlp.zil.max_ulp": PASS,
        "weights.cnn.zil.max_ulp": FAIL,
    }
    assert verdicts("accuracy", "cnn.bp.mean", {"min": 0.1}, gone) == {"accuracy.cnn.bp.mean": FAIL}
    assert verdicts("zoo", "*.bitwise_equal", {"equals": True}, gone) == {"zoo.resnet18.bitwise_equal": FAIL}


def test_a_task_of_another_profile_is_not_comparable():
    assert set(verdicts("accuracy", "fashion-cnn.bp.mean", {"min": 0.9}).values()) == {NOT_COMPARABLE}


def test_a_section_that_the_profile_cannot_meet_is_not_comparable_in_it_alone():
    hopeless, skip = ("accuracy", "mlp.bp.mean", {"min": 2.0}), {"not_comparable": {"smoke": ["accuracy"]}}
    assert set(verdicts(*hopeless, metrics_of(profile="smoke"), **skip).values()) == {NOT_COMPARABLE}
    assert set(verdicts(*hopeless, metrics_of(profile="default"), **skip).values()) == {FAIL}


OPERATIONS = "cost", "mlp.zil.operations", {"same_as": "bp.operations"}


@pytest.mark.parametrize(
    ("rule", "value", "verdict"),
    [
        ("zil", 38, PASS),
        ("zil", 39, FAIL),
        ("zil", 38.0, FAIL),
        ("bp", 37, FAIL),
        ("zil", ..., FAIL),
        ("bp", ..., FAIL),
    ],
)
def test_a_figure_is_held_to_another_one_of_its_task(rule, value, verdict):
    metrics = put(metrics_of(), ("tasks", "mlp", "cost", rule, "operations"), value)
    assert verdicts(*OPERATIONS, metrics) == {"cost.mlp.zil.operations": verdict}


@pytest.mark.parametrize(
    ("interval", "bounds", "verdict"),
    [
        ((1.4, 1.6), {"at_most": 1.7}, PASS),
        ((1.4, 1.6), {"at_most": 1.5}, PASS),
        ((1.4, 1.6), {"at_most": 1.4}, PASS),
        ((1.4, 1.6), {"at_most": 1.39}, FAIL),
        ((1.4, 1.6), {"at_least": 1.3}, PASS),
        ((1.4, 1.6), {"at_least": 1.6}, PASS),
        ((1.4, 1.6), {"at_least": 1.61}, FAIL),
        ((1.4, 1.6), {"at_least": 1.0, "at_most": 1.2}, FAIL),
        ((None, None), {"at_most": 6.0}, NOT_COMPARABLE),
        ((None, None), {"at_least": 0.0}, NOT_COMPARABLE),
        ((1.4, 1.6), {"at_most": 6.0, "max": 6.0}, FAIL),
    ],
)
def test_a_time_fails_where_its_whole_interval_is_beyond_the_bound(interval, bounds, verdict):
    ratio = {"median": 1.5, "low": interval[0], "high": interval[1]}
    metrics = put(metrics_of(), ("tasks", "mlp", "cost", "zil", "ratio"), ratio)
    assert verdicts("cost", "mlp.zil.ratio", bounds, metrics) == {"cost.mlp.zil.ratio": verdict}


@pytest.mark.parametrize("value", [1.5, None, True, {"median": 1.5}, {"median": 1.5, "low": 1.4}, ...])
@pytest.mark.parametrize("bound", ["at_most", "at_least"])
def test_what_has_no_interval_never_passes_as_one(value, bound):
    metrics = put(metrics_of(), ("tasks", "mlp", "cost", "zil", "ratio"), value)
    assert verdicts("cost", "mlp.zil.ratio", {bound: 1.5}, metrics) == {"cost.mlp.zil.ratio": FAIL}


def test_two_figures_that_are_both_missing_are_not_the_same():
    bounds = {"same_as": "bp.flops"}
    assert verdicts("cost", "mlp.zil.flops", bounds) == {"cost.mlp.zil.flops": FAIL}


def test_a_finding_names_the_figure_that_it_was_held_to_and_its_value():
    metrics = put(metrics_of(), ("tasks", "mlp", "cost", "bp", "operations"), 37)
    (finding,) = check(metrics, {"cost": {OPERATIONS[1]: OPERATIONS[2]}}, PROMISED)
    assert (finding.measured, finding.expected) == (38, "= bp.operations (37)")


def test_the_zoo_is_held_model_by_model():
    key = "zoo", "*.bitwise_equal", {"equals": True}
    assert verdicts(*key) == {"zoo.resnet18.bitwise_equal": PASS}
    assert verdicts(*key, put(metrics_of(), ("zoo", "resnet18", "bitwise_equal"), False)) == {
        "zoo.resnet18.bitwise_equal": FAIL
    }
    assert verdicts(*key, put(metrics_of(), ("zoo", "resnet18", "bitwise_equal"), ...)) == {
        "zoo.resnet18.bitwise_equal": FAIL
    }


def test_scaling_is_held_axis_by_axis():
    figure, key = "scaling.width.zil.exponent", ("scaling", "*.zil.exponent", {"max": 1.3})
    assert verdicts(*key) == {f"scaling.{axis}.zil.exponent": PASS for axis in ("depth", "width")}
    assert verdicts(*key, put(metrics_of(), ("scaling", "width", "zil", "exponent"), 2.0))[figure] == FAIL
    assert verdicts(*key, put(metrics_of(), ("scaling", "width"), ...))[figure] == FAIL


@pytest.mark.parametrize(
    ("section", "where", "figure", "other"),
    [
        ("proof", ("tasks", "cnn", "proof", "zil"), "cnn.zil", "zil.operations"),
        ("zoo", ("zoo", "resnet18", "proof"), "resnet18.proof", "proof.operations"),
    ],
)
def test_a_certificate_is_held_to_equality_and_to_as_many_operations(section, where, figure, other):
    equal, same = (f"{figure}.equal", {"equals": True}), (f"{figure}.own_operations", {"same_as": other})
    for key, bounds in (equal, same):
        assert verdicts(section, key, bounds) == {f"{section}.{key}": PASS}
        refused = put(metrics_of(), where, {"equal": False, "refused": "no program"})
        assert verdicts(section, key, bounds, refused) == {f"{section}.{key}": FAIL}
    more = put(metrics_of(), (*where, "own_operations"), 999)
    assert set(verdicts(section, *same, more).values()) == {FAIL}
    assert set(verdicts(section, *equal, put(metrics_of(), (*where, "equal"), False)).values()) == {FAIL}


def test_a_control_that_is_called_equal_fails():
    held = "proof", "*.il-2.equal", {"equals": False}
    metrics = put(metrics_of(), ("tasks", "cnn", "proof", "il-2", "equal"), True)
    assert verdicts(*held, metrics) == {"proof.mlp.il-2.equal": PASS, "proof.cnn.il-2.equal": FAIL}


def test_a_finding_says_what_was_measured_and_what_expected():
    (finding,) = check(metrics_of(), {"accuracy": {"mlp.bp.mean": {"min": 0.95, "max": 1.0}}}, PROMISED)
    assert (finding.what, finding.measured) == ("accuracy.mlp.bp.mean", 0.9)
    assert "0.95" in finding.expected and "1.0" in finding.expected


@pytest.mark.parametrize("metrics", [{}, [], None, {"profile": "smoke", "tasks": {}}, {"tasks": {"mlp": {}}}])
def test_what_is_no_report_is_refused_rather_than_passed(metrics):
    with pytest.raises(ResultError, match=r"metrics\.json has no .*make it anew"):
        check(metrics, {"accuracy": {"*.bp.mean": {"min": 0.9}}}, PROMISED)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_is_really_held(section):
    found = verdicts(section, "*.no-such-figure", {"equals": 1})
    assert found and set(found.values()) == {FAIL}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy: [", "is not valid YAML"),
        ("", "the file is None"),
        ("accurracy: {mlp.bp.mean: {min: 0.9}}", "unknown key 'accurracy'; its keys are exactness"),
        ("accuracy:", "accuracy is None"),
        ("accuracy: {mpl.bp.mean: {min: 0.9}}", "accuracy.mpl.bp.mean: unknown task 'mpl'; the tasks are mlp"),
        ("accuracy: {mlp.bp.mean: 0.9}", "accuracy.mlp.bp.mean is 0.9: "),
        ("cost: {mlp.zil.operations: {same_as: 3}}", "same_as is 3: input should be a valid string"),
        ("accuracy: {mlp.bp.mean: {}}", "one bound at least, of min, max, equals, same_as, at_most, at_least"),
        (
            "accuracy: {mlp.bp.mean: {least: 0.9}}",
            "unknown key 'least'; its keys are min, max, equals, same_as, at_most",
        ),
        ("accuracy: {mlp.bp.mean: {min: 1e-3}}", "min is '1e-3': input should be a valid number"),
        ("accuracy: {mlp.bp.mean: {max: .nan}}", "max is nan: input should be a finite number"),
        ("cost: {mlp.zil.ratio: {at_most: six}}", "at_most is 'six': input should be a valid number"),
        ("baseline:", "baseline is None"),
        ("baseline: {accuracy: {beyond: 0.1, level: 0.05}}", "baseline has no key 'time'"),
        ("baseline: {accuracy: {beyond: 0.1, level: 1}, time: {beyond: 2}}", "level is 1: input should be less than 1"),
        ("baseline: {accuracy: {beyond: 0.1, level: 0.05}, time: {beyond: 0.9}}", "time.beyond is 0.9"),
        ("not_comparable: {smoke: [acuracy]}", "not_comparable.smoke.0 is 'acuracy'"),
    ],
)
def test_expectations_that_make_no_sense_are_named(tmp_path, text, message):
    (tmp_path / "expectations.yaml").write_text(text)
    with pytest.raises(InvalidParameters, match=message):
        load_expectations(tmp_path / "expectations.yaml", ["mlp"])


def test_missing_expectations_are_named(tmp_path):
    with pytest.raises(InvalidParameters, match=r"cannot read '.*none\.yaml'"):
        load_expectations(tmp_path / "none.yaml", ["mlp"])
