"""params.yaml; oracle: the documented form, and the file of this repository, broken in one place at a time.

Aimed at: a typing mistake that is ignored, so that an experiment runs with other numbers than its author reads.
"""

import copy
import re
from pathlib import Path

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
    """The repository's own parameters with ``value`` at the dotted path ``where``; ``...`` removes the key."""
    whole = copy.deepcopy(OWN)
    *parents, last = where.split("/")
    inner = whole
    for key in parents:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return whole


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


SECTIONS = ("profiles", "tasks", "exactness", "cost", "train", "proof", "zoo", "scaling")


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("value", [..., None, 3, "text", []], ids=["missing", "null", "number", "text", "list"])
def test_a_section_that_is_missing_or_no_section_is_named(tmp_path, section, value):
    with pytest.raises(InvalidParameters, match=section):
        load(tmp_path, changed(section, value))


REFUSED = [
    ("profiles", {}, "profiles is empty; it must hold one at least"),
    ("profiles/smoke/tasks", {}, "profiles.smoke.tasks is empty; it must hold one at least"),
    ("exactness/rules", {}, "exactness.rules is empty; it must hold one at least"),
    ("cost/rules", {}, "cost.rules has no key 'bp'"),
    ("train/rules", {}, "train.rules has no key 'bp'"),
    ("exactness/dtypes", [], "exactness.dtypes is []"),
    ("tasks/digits-mlp", ..., "tasks names 'digits-mlp', which `tasks` does not have"),
    ("experiments", {}, "unknown key 'experiments'"),
    (
        "profiles/smoke/epochs",
        3,
        "profiles.smoke has an unknown key 'epochs'; its keys are seeds, rounds, zoo, scaling, tasks",
    ),
    (
        "profiles/smoke/scaling",
        ["hight"],
        "profiles.smoke.scaling is ['hight']; it must be a list of different axes, of depth",
    ),
    (
        "profiles/smoke/seeds",
        [],
        "profiles.smoke.seeds is []; it must be a list of different integers >= 0, at least one",
    ),
    ("profiles/smoke/seeds", 3, "profiles.smoke.seeds is 3"),
    ("profiles/smoke/seeds", [0, -1], "profiles.smoke.seeds is [0, -1]"),
    ("profiles/smoke/seeds", [0, 1, 0], "profiles.smoke.seeds is [0, 1, 0]; it must be a list of different"),
    ("profiles/smoke/seeds", [0.5], "profiles.smoke.seeds is [0.5]"),
    ("profiles/smoke/seeds", [True], "profiles.smoke.seeds is [True]"),
    ("profiles/smoke/rounds", 0, "profiles.smoke.rounds is 0; it must be an integer >= 1"),
    ("profiles/smoke/rounds", ..., "profiles.smoke has no key 'rounds'"),
    ("profiles/smoke/zoo", "resnet18", "profiles.smoke.zoo is 'resnet18'"),
    ("profiles/smoke/tasks/digits-mlp", None, "profiles.smoke.tasks.digits-mlp is None; it must have keys"),
    ("profiles/smoke/tasks/digits-mlp/epochs", -3, "tasks.digits-mlp.epochs is -3; it must be an integer >= 1"),
    ("profiles/smoke/tasks/digits-mlp/epochs", 0, "tasks.digits-mlp.epochs is 0"),
    ("profiles/smoke/tasks/digits-mlp/epochs", 2.0, "tasks.digits-mlp.epochs is 2.0"),
    ("profiles/smoke/tasks/digits-mlp/epochs", "2", "tasks.digits-mlp.epochs is '2'"),
    ("profiles/smoke/tasks/digits-mlp/epochs", True, "tasks.digits-mlp.epochs is True"),
    (
        "profiles/smoke/tasks/digits-mlp/epoch",
        2,
        "has an unknown key 'epoch'; its keys are network, data, loader, epochs",
    ),
    ("tasks/digits-mlp/batch_size", 0, "tasks.digits-mlp.batch_size is 0"),
    ("tasks/digits-mlp/batch_size", ..., "tasks.digits-mlp has no key 'batch_size'"),
    ("tasks/digits-mlp/batchsize", 5, "tasks.digits-mlp has an unknown key 'batchsize'"),
    ("tasks/digits-mlp/optimizer", "adam", "tasks.digits-mlp.optimizer is 'adam'; it must have keys"),
    ("tasks/digits-mlp/optimizer/name", ..., "tasks.digits-mlp.optimizer has no key 'name'"),
    ("tasks/digits-mlp/optimizer/name", [], "tasks.digits-mlp.optimizer.name is []; it must be text"),
    ("tasks/digits-mlp/optimizer/lr", None, "tasks.digits-mlp.optimizer.lr is None"),
    ("exactness/dtypes", ["float16"], "exactness.dtypes is ['float16']"),
    ("exactness/seeds", [], "exactness.seeds is []"),
    ("exactness/rules/zil/rule", "prospective", "exactness.rules.zil.rule is 'prospective'; it must be one of bp, il,"),
    ("exactness/rules/zil/rule", ["zil"], "exactness.rules.zil.rule is ['zil']"),
    ("exactness/rules/zil/label", ..., "exactness.rules.zil has no key 'label'"),
    ("cost/warmup", -1, "cost.warmup is -1; it must be an integer >= 0"),
    ("cost/rules/bp", ..., "cost.rules has no key 'bp'"),
    ("cost/rules/zil-captured/captured", "yes", "cost.rules.zil-captured.captured is 'yes'; it must be true or false"),
    (
        "scaling/axes/depth/sizes",
        [0, 1],
        "scaling.axes.depth.sizes is [0, 1]; it must be a list of different integers >= 1",
    ),
    ("scaling/axes/depth/depth", 3, "scaling.axes.depth has an unknown key 'depth'"),
    ("scaling/axes/length/largest", {"il-20": "x"}, "scaling.axes.length.largest is {'il-20': 'x'}"),
    ("scaling/axes/height", {}, "scaling.axes has an unknown key 'height'; its keys are depth, length, width, batch"),
    ("train/rules/bp", ..., "train.rules has no key 'bp'"),
    ("train/rules/bp/rule", "zil", "train.rules.bp.rule is 'zil'; it must be one of bp"),
    ("proof/rules/zil", ..., "proof.rules has no key 'zil'"),
    ("proof/rules/il-2/rule", "none", "proof.rules.il-2.rule is 'none'"),
    ("zoo/batch_size", 0, "zoo.batch_size is 0"),
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
        assert path[-1] in str(error)


def test_unknown_names_are_listed_with_those_that_exist():
    with pytest.raises(InvalidParameters, match=r"unknown profile 'huge'; the profiles are .*smoke"):
        params.profile(OWN, "huge")
    with pytest.raises(InvalidParameters, match=r"unknown task 'digits-svm'; the tasks are .*digits-mlp"):
        params.task(OWN, "digits-svm")
    with pytest.raises(InvalidParameters, match="this profile trains no task 'fashion-cnn'; it trains digits-mlp"):
        params.epochs(OWN["profiles"]["smoke"], "fashion-cnn")
    with pytest.raises(InvalidParameters, match="task 'digits-mlp' has no entry under `tasks`"):
        params.task(changed("tasks/digits-mlp", ...), "digits-mlp")


def test_a_rules_entry_is_split_into_its_name_and_its_options():
    entry = {"label": "IL", "rule": "il", "steps": 20, "gamma": 0.1}
    assert params.rule_options(entry) == ("il", {"steps": 20, "gamma": 0.1})
    assert entry["label"] == "IL"
    assert params.rule_options({**entry, "captured": True}) == params.rule_options(entry)


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
        ("tasks/digits-mlp/batch_size", {"exactness", "cost", "train", "proof"}),
        ("profiles/smoke/rounds", {"cost"}),
        ("profiles/smoke/seeds", {"train"}),
        ("profiles/smoke/tasks/digits-mlp/epochs", {"train"}),
        ("exactness/seeds", {"exactness"}),
        ("cost/warmup", {"cost"}),
        ("proof/rules/il-2/steps", {"proof"}),
        ("zoo/seed", {"zoo"}),
        ("scaling/rounds", {"scaling"}),
        ("scaling/axes/depth/width", {"scaling"}),
        ("tasks/digits-cnn/batch_size", set()),
        ("profiles/default/seeds", set()),
    ],
)
def test_a_result_depends_on_what_its_stage_reads_and_on_nothing_else(where, stages):
    other = changed(where, [7] if where.endswith("seeds") else 7)
    found = {
        stage
        for stage in ("exactness", "cost", "train", "proof", "zoo", "scaling")
        for name in ["depth" if stage == "scaling" else "digits-mlp"]
        if params.of_stage(other, "smoke", stage, name) != params.of_stage(OWN, "smoke", stage, name)
    }
    assert found == stages
    report = params.of_profile(other, "smoke") != params.of_profile(OWN, "smoke")
    assert report == (bool(stages) or "digits-cnn" in where)


def test_values_that_differ_are_named_by_their_keys():
    first = {"a": {"b": 1, "c": [1, 2]}, "d": None}
    assert params.differing(first, copy.deepcopy(first)) == []
    assert params.differing(first, {"a": {"b": 2, "c": [1, 2]}, "e": 1}) == ["a.b", "e"]
    assert params.differing(first, {"a": 1, "d": None}) == ["a"]
