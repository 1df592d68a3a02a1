"""params.yaml; oracle: the documented form, and the file of this repository, broken in one place at a time.

Aimed at: a typing mistake that is ignored, so that an experiment runs with other numbers than its author reads.
"""

import copy
import re
from pathlib import Path

import edits
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pcbench import params
from pcbench.errors import InvalidParameters

ROOT = Path(__file__).resolve().parents[2]
OWN = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def load(tmp_path, value):
    path = tmp_path / "params.yaml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value), encoding="utf-8")
    return params.load(path)


def changed(where, value):
    """The repository's own parameters with ``value`` at the path ``where``; ``...`` removes the key."""
    return edits.put(OWN, where, value)


def test_the_repositorys_own_file_is_read_as_it_is(tmp_path):
    assert load(tmp_path, OWN) == OWN == params.load(ROOT / "params.yaml")


def test_a_missing_file_is_named_with_the_remedy(tmp_path):
    with pytest.raises(InvalidParameters, match=r"cannot read '.*none\.yaml'.*run pcbench in the repository's root"):
        params.load(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["profiles: [", "a: b: c", "\tx: 1", "{"], ids=range(4))
def test_what_is_no_yaml_is_named(tmp_path, text):
    with pytest.raises(InvalidParameters, match=r"params\.yaml' is not valid YAML"):
        load(tmp_path, text)


@pytest.mark.parametrize("text", ["", "42", "just text", "[1, 2]", "null"])
def test_yaml_without_sections_is_refused(tmp_path, text):
    with pytest.raises(InvalidParameters, match=r"params\.yaml'.*profiles"):
        load(tmp_path, text)


SECTIONS = (
    "profiles",
    "tasks",
    "rules",
    "exactness",
    "cost",
    "train",
    "proof",
    "conformance",
    "conditions",
    "zoo",
    "scaling",
)


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("value", [..., None, 3, "text", []], ids=["missing", "null", "number", "text", "list"])
def test_a_section_that_is_missing_or_no_section_is_named(tmp_path, section, value):
    with pytest.raises(InvalidParameters, match=section):
        load(tmp_path, changed(section, value))


LEAST_1, LEAST_0 = "input should be greater than or equal to 1", "input should be greater than or equal to 0"
REFUSED = [
    ("profiles", {}, "profiles is {}: dictionary should have at least 1 item"),
    ("profiles/smoke/tasks", {}, "profiles.smoke.tasks is {}: dictionary should have at least 1 item"),
    ("exactness/rules", [], "exactness.rules is []: list should have at least 1 item"),
    ("exactness/rules", ["zil", "zil"], "exactness.rules is ['zil', 'zil']: its items must be different"),
    ("exactness/rules", ["zil", "prospective"], "exactness.rules names 'prospective', which `rules` does not have"),
    ("exactness/dtypes", [], "exactness.dtypes is []"),
    ("tasks/digits-mlp", ..., "tasks names 'digits-mlp', which `tasks` does not have"),
    ("experiments", {}, "unknown key 'experiments'"),
    (
        "profiles/smoke/epochs",
        3,
        "profiles.smoke has an unknown key 'epochs'; its keys are seeds, rounds, zoo, scaling, tasks",
    ),
    ("profiles/smoke/scaling", ["hight"], "profiles.smoke.scaling.0 is 'hight': input should be 'depth', 'length'"),
    ("profiles/smoke/seeds", [], "profiles.smoke.seeds is []: list should have at least 1 item"),
    ("profiles/smoke/seeds", 3, "profiles.smoke.seeds is 3"),
    ("profiles/smoke/seeds", [0, -1], f"profiles.smoke.seeds.1 is -1: {LEAST_0}"),
    ("profiles/smoke/seeds", [0, 1, 0], "profiles.smoke.seeds is [0, 1, 0]: its items must be different"),
    ("profiles/smoke/seeds", [0.5], "profiles.smoke.seeds.0 is 0.5: input should be a valid integer"),
    ("profiles/smoke/seeds", [True], "profiles.smoke.seeds.0 is True: input should be a valid integer"),
    ("profiles/smoke/rounds", 0, f"profiles.smoke.rounds is 0: {LEAST_1}"),
    ("profiles/smoke/rounds", ..., "profiles.smoke has no key 'rounds'"),
    ("profiles/smoke/zoo", "resnet18", "profiles.smoke.zoo is 'resnet18'"),
    (
        "profiles/smoke/tasks/digits-mlp",
        None,
        "profiles.smoke.tasks.digits-mlp is None: input should be a valid integer",
    ),
    ("profiles/smoke/tasks/digits-mlp", -3, f"tasks.digits-mlp is -3: {LEAST_1}"),
    ("profiles/smoke/tasks/digits-mlp", 0, "tasks.digits-mlp is 0"),
    ("profiles/smoke/tasks/digits-mlp", 2.0, "tasks.digits-mlp is 2.0: input should be a valid integer"),
    ("profiles/smoke/tasks/digits-mlp", "2", "tasks.digits-mlp is '2'"),
    ("profiles/smoke/tasks/digits-mlp", True, "tasks.digits-mlp is True"),
    ("tasks/digits-mlp/batch_size", 0, "tasks.digits-mlp.batch_size is 0"),
    ("tasks/digits-mlp/batch_size", ..., "tasks.digits-mlp has no key 'batch_size'"),
    ("tasks/digits-mlp/network", ..., "tasks.digits-mlp has no key 'network'"),
    ("tasks/digits-mlp/data", "", "tasks.digits-mlp.data is ''"),
    (
        "tasks/digits-mlp/batchsize",
        5,
        "tasks.digits-mlp has an unknown key 'batchsize'; its keys are network, data, model, batch_size, optimizer",
    ),
    ("tasks/digits-mlp/model/hidden", None, "tasks.digits-mlp.model.hidden is None: a value belongs there"),
    (
        "tasks/digits-mlp/optimizer",
        "adam",
        "tasks.digits-mlp.optimizer is 'adam': input should be a table with the keys name",
    ),
    ("tasks/digits-mlp/optimizer/name", ..., "tasks.digits-mlp.optimizer has no key 'name'"),
    ("tasks/digits-mlp/optimizer/name", [], "tasks.digits-mlp.optimizer.name is []: input should be a valid string"),
    ("tasks/digits-mlp/optimizer/lr", None, "tasks.digits-mlp.optimizer.lr is None: a value belongs there"),
    ("exactness/dtypes", ["float16"], "exactness.dtypes.0 is 'float16': input should be 'float32' or 'float64'"),
    ("exactness/seeds", [], "exactness.seeds is []"),
    ("rules/zil/engine", ["zil"], "rules.zil.engine is ['zil']: input should be a valid string"),
    ("rules/zil/label", ..., "rules.zil has no key 'label'"),
    ("rules/zil/captured", "yes", "rules.zil.captured is 'yes': input should be a valid boolean"),
    ("rules/il-20/gamma", None, "rules.il-20.gamma is None: a value belongs there"),
    (
        "rules/gamma-0.5",
        {"label": "γ = 0.5", "engine": "zil-state"},
        "an identifier has letters, digits, - and _, and no dot",
    ),
    ("rules/gamma 0", {"label": "γ = 0", "engine": "zil-state"}, "an identifier has letters, digits, - and _"),
    ("rules/bp", ..., "rules names 'bp', which `rules` does not have"),
    ("rules/bp/engine", "zil", "rules.bp.engine is 'zil'; the reference is backpropagation"),
    ("cost/warmup", -1, f"cost.warmup is -1: {LEAST_0}"),
    ("cost/rules", ["zil"], "cost.rules is ['zil']: 'bp', the reference, must be among them"),
    ("train/rules", ["zil"], "train.rules is ['zil']: 'bp', the reference, must be among them"),
    ("train/only", {"bp": ["digits-mlp"]}, "train.only names 'bp', which train.rules has for every task"),
    ("train/only", {"gamma-half": []}, "train.only.gamma-half is []: list should have at least 1 item"),
    ("train/only", {"gamma-half": ["digits-svm"]}, "train.only.gamma-half names 'digits-svm', which `tasks` does not"),
    ("train/only", {"gamma": ["digits-mlp"]}, "train.rules names 'gamma', which `rules` does not have"),
    ("scaling/rules", ["zil"], "scaling.rules is ['zil']: 'bp', the reference, must be among them"),
    ("proof/rules", ["il-2"], "proof.rules is ['il-2']: 'zil', whose certificate it is, must be among them"),
    ("scaling/axes/depth/sizes", [0, 1], f"scaling.axes.depth.sizes.0 is 0: {LEAST_1}"),
    ("scaling/axes/depth/depth", 3, "scaling.axes.depth has an unknown key 'depth'"),
    ("scaling/axes/length/largest", {"il-20": "x"}, "scaling.axes.length.largest.il-20 is 'x'"),
    ("scaling/axes/height", {}, "scaling.axes has an unknown key 'height'; its keys are depth, length, width, batch"),
    ("zoo/batch_size", 0, "zoo.batch_size is 0"),
    ("device", ..., "has no key 'device'"),
    ("device", "gpu", "device is 'gpu': the devices are cpu, cuda, and cuda:1 where there are several GPUs"),
    ("device", "cuda:", "device is 'cuda:'"),
    ("device", "cuda:1\n", "device is 'cuda:1\\n'"),
    ("device", 0, "device is 0: input should be a valid string"),
    ("zoo/seeds", [0], "zoo has an unknown key 'seeds'; its keys are batch_size, seed"),
]


@pytest.mark.parametrize(
    ("where", "value", "message"), REFUSED, ids=[f"{where}={value}" for where, value, _ in REFUSED]
)
def test_what_makes_no_sense_is_named_with_what_would(tmp_path, where, value, message):
    with pytest.raises(InvalidParameters, match=r"params\.yaml': .*" + re.escape(message)):
        load(tmp_path, changed(where, value))


def paths(value, so_far=()):
    """Every place of nested dicts."""
    found = [so_far] if so_far else []
    return found + [p for k, v in value.items() for p in paths(v, (*so_far, k))] if isinstance(value, dict) else found


@settings(max_examples=20)  # PyYAML is slow
@given(path=st.sampled_from(paths(OWN)), value=st.one_of(st.none(), st.text(max_size=3), st.integers(), st.floats()))
def test_whatever_stands_in_the_file_is_read_or_refused_but_never_a_crash(path, value, tmp_path_factory):
    whole = changed("/".join(path), value)
    try:
        assert load(tmp_path_factory.mktemp("params"), whole)
    except InvalidParameters as error:
        # The name of the place, or of the one around it whose value is then no sense.
        assert any(str(part) in str(error) for part in path)


def test_unknown_names_are_listed_with_those_that_exist():
    with pytest.raises(InvalidParameters, match=r"unknown profile 'huge'; the profiles are .*smoke"):
        params.profile(OWN, "huge")
    with pytest.raises(InvalidParameters, match=r"unknown task 'digits-svm'; the tasks are .*digits-mlp"):
        params.task(OWN, "digits-svm")
    with pytest.raises(InvalidParameters, match="this profile trains no task 'fashion-cnn'; it trains digits-mlp"):
        params.epochs(OWN["profiles"]["smoke"], "fashion-cnn")


def test_a_section_has_its_rules_entries_in_the_order_of_the_table():
    whole = changed("cost/rules", ["il-20", "bp"])
    assert list(params.section(whole, "cost")["rules"].items()) == [(n, OWN["rules"][n]) for n in ("bp", "il-20")]
    assert params.section(OWN, "zoo") == OWN["zoo"]


def test_a_rule_that_some_tasks_alone_are_trained_by_is_a_parameter_of_theirs_alone():
    whole = changed("train/only", {"gamma-half": ["digits-mlp"]})
    of_task = {name: params.of_stage(whole, "smoke", "train", name)["train"] for name in ("digits-mlp", "digits-cnn")}
    assert list(of_task["digits-mlp"].pop("rules")) == ["bp", "zil", "gamma-half", "il-20"]
    assert list(of_task["digits-cnn"].pop("rules")) == ["bp", "zil", "il-20"]
    assert of_task["digits-mlp"] == of_task["digits-cnn"] == {}
    assert "gamma-half" in params.section(whole, "train")["rules"]  # whose code and numbers the stage depends on
    none = changed("train/only", ...)
    assert list(params.section(none, "train")["rules"]) == ["bp", "zil", "il-20"]


def test_an_axis_that_is_not_measured_is_named_with_those_that_are():
    with pytest.raises(
        InvalidParameters, match="not measured along 'height'; the axes are depth, length, width, batch"
    ):
        params.of_stage(OWN, "smoke", "scaling", "height")


def test_a_profile_without_a_zoo_and_a_model_without_numbers_are_read(tmp_path):
    whole = changed("profiles/smoke/zoo", [])
    whole["tasks"]["digits-mlp"]["model"] = {}
    assert load(tmp_path, whole) == whole


@pytest.mark.parametrize(
    ("where", "stages"),
    [
        ("tasks/digits-mlp/batch_size", {"exactness", "cost", "train", "proof", "conformance", "conditions"}),
        ("profiles/smoke/rounds", {"cost"}),
        ("profiles/smoke/seeds", {"train"}),
        ("profiles/smoke/tasks/digits-mlp", {"train"}),
        ("exactness/seeds", {"exactness"}),
        ("cost/warmup", {"cost"}),
        ("rules/il-2/steps", {"proof"}),
        ("rules/strict/gamma", {"conformance"}),
        ("conformance/grids/strict/steps", {"conformance"}),
        ("conditions/rounding", {"conditions"}),
        ("zoo/seed", {"zoo"}),
        ("scaling/rounds", {"scaling"}),
        ("scaling/axes/depth/width", {"scaling"}),
        ("rules/il-20/gamma", {"exactness", "cost", "train", "scaling"}),
        ("device", set(params.STAGES)),
        ("tasks/digits-cnn/batch_size", set()),
        ("profiles/default/seeds", set()),
    ],
)
def test_a_result_depends_on_what_its_stage_reads_and_on_nothing_else(where, stages):
    other = changed(where, [7] if where.endswith("seeds") else 7)
    found = {
        stage
        for stage in params.STAGES
        for name in ["depth" if stage == "scaling" else "digits-mlp"]
        if params.of_stage(other, "smoke", stage, name) != params.of_stage(OWN, "smoke", stage, name)
    }
    assert found == stages
    report = params.of_profile(other, "smoke") != params.of_profile(OWN, "smoke")
    assert report == (bool(stages) or "digits-cnn" in where)


def test_another_device_is_another_experiment_and_none_named_is_the_files():
    assert params.on(OWN, None) == OWN and params.on(OWN, "cuda:1") == OWN | {"device": "cuda:1"}
    found = [params.of_stage(each, "smoke", "train", "digits-mlp") for each in (OWN, params.on(OWN, "cuda"))]
    assert params.differing(*found) == ["device"]


def test_values_that_differ_are_named_by_their_keys():
    first = {"a": {"b": 1, "c": [1, 2]}, "d": None}
    assert params.differing(first, copy.deepcopy(first)) == []
    assert params.differing(first, {"a": {"b": 2, "c": [1, 2]}, "e": 1}) == ["a.b", "e"]
    assert params.differing(first, {"a": 1, "d": None}) == ["a"]
