"""Other people's libraries; oracle: a library written by hand in NumPy, planted faults, and the libraries where they are.

Aimed at: a gradient of weights that lie elsewhere, a distance that is another reduction's, a row of other parameters, a
verdict that somebody typed.
"""

import json
import os
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from pcbench import params
from pcbench.errors import InvalidParameters, ResultError
from pcbench.files import read_json, write_json
from pcbench.measure import conformance
from pcbench.measure.divergence import compare
from pcbench.measure.first import FirstUpdate
from pcbench.measure.matched import Matched, make_rule
from pcbench.provenance import sidecar
from pcbench.report import peers
from pcbench.report.conformance import conformance as table_6
from pcbench.report.results import TaskResults, read_source
from pcbench.rules import Backprop

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import another  # noqa: E402

from benchmarks.peers import __main__ as command  # noqa: E402
from benchmarks.peers import measure, table, torch2pc  # noqa: E402
from benchmarks.peers.problem import Problem  # noqa: E402

sys.path.remove(str(ROOT))

COMMITTED = ROOT / peers.FOLDER
WHOLE = params.load(ROOT / "params.yaml")
TORCH2PC = os.environ.get("TORCH2PC")  # the folder of that library


def parameters():
    """One setting for each rule, so that this is seconds."""
    found = params.load(ROOT / "params.yaml")
    found["conformance"] |= {"rules": ["zil", "il"], "grids": {"il": {"steps": [3], "gamma": [0.2]}}}
    return found


@pytest.fixture(scope="module")
def mlp(digits):
    return Matched.load(WHOLE, "digits-mlp", digits)


@pytest.fixture(scope="module")
def first(mlp):
    return FirstUpdate.of(mlp, "float64", seed=0)


@pytest.fixture(scope="module")
def measured(mlp):
    """What was measured of a library, and our own result."""
    settings = params.section(parameters(), "conformance")
    own = conformance.conformance(mlp.task, [conformance.of_rule(mlp, settings, rule) for rule in ("zil", "il")])
    return measure.result(mlp, another.peer(), parameters()), own


@pytest.fixture
def folder(mlp, measured, tmp_path):
    """Both as files."""
    value, own = measured
    measure.write(tmp_path / "peers/numpy/digits-mlp.json", value, mlp, another.peer(), parameters())
    write_json(tmp_path / "conformance/digits-mlp.json", own)
    return tmp_path


def read(folder, numbers=None):
    return peers.read(folder / "peers", numbers or parameters(), "default")


def of_table(folder, libraries):
    """Table 6 of our own result and the libraries'."""
    own = read_source("conformance", "digits-mlp", folder / "conformance/digits-mlp.json")
    task = TaskResults("digits-mlp", "mlp", *[None] * 4, conformance=own, conditions=None)
    cells = {rule: peers.verdict(records) for rule, records in own.by_rule.items()}
    metrics = {"tasks": {"digits-mlp": {"conformance": cells}}, "peers": peers.summary(libraries)}
    return table_6([task], metrics, libraries)


def test_a_library_is_given_the_networks_own_numbers(first):
    problem = Problem.of(first)
    assert torch.equal(problem.loss(), first.loss(first.model(first.inputs), first.targets))
    assert [layer.tanh for layer in problem.layers] == [True, True, False]
    assert {name for layer in problem.layers for name in problem.names(layer)} == set(first.model.state_dict())
    assert torch.equal(problem.one_hot.argmax(1), problem.targets) and problem.one_hot.sum() == len(problem.targets)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 10)),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10), nn.Tanh()),
    ],
    ids=["relu", "another-parameter", "tanh-at-the-end"],
)
def test_another_network_is_refused(first, network):
    other = FirstUpdate(network.double(), first.inputs, first.targets, first.loss, 0)
    with pytest.raises(InvalidParameters, match=r"Sequential is not what the peers are given.*network is `mlp`"):
        Problem.of(other)


def test_what_is_measured_of_a_library_written_by_hand_is_rounding_from_backpropagation_and_from_ours(measured):
    found = {}
    for record in measured[0]["results"]:
        found.setdefault(record["rule"], []).append(record)
    (bp,), (il,) = found["numpy-bp"], found["numpy-il"]
    assert 0 < bp["metrics"]["relative_l2"] < 1e-13 and bp["ours"] == {
        "options": {},
        "relative_l2": bp["metrics"]["relative_l2"],
    }
    assert il["metrics"]["relative_l2"] > 0.1 and il["ours"]["relative_l2"] < 1e-13
    assert il["ours"]["options"] == il["options"] == {"steps": 3, "gamma": 0.2}


def test_a_loss_that_is_called_the_mean_and_is_the_sum_is_far_from_ours(mlp):
    records = measure.result(mlp, another.peer(summed=False), parameters())["results"]
    assert next(record for record in records if record["rule"] == "numpy-il")["ours"]["relative_l2"] > 0.01


def faulty(change):
    def backprop(problem):
        loss, found = another.derivative(problem)
        return change(loss, dict(found))

    return backprop


FAULTS = {
    "summed": lambda loss, found: (loss, {name: 64 * each for name, each in found.items()}),
    "negated": lambda loss, found: (loss, {name: -each for name, each in found.items()}),
    "transposed": lambda loss, found: (loss, found | {"hidden2.weight": found["hidden2.weight"].T}),
    "loss": lambda loss, found: (loss * (1 + 1e-9), found),
    "not-a-number": lambda loss, found: (float("nan"), found),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_was_carried_over_wrongly_is_not_measured(mlp, fault):
    with pytest.raises(measure.NotCarriedOver, match=r"NumPy's (loss|backpropagation) is .*mend the adapter 'numpy'"):
        measure.result(mlp, another.peer(faulty(FAULTS[fault])), parameters())


def test_a_librarys_rule_stands_below_ours_with_its_version_and_the_verdicts_words(folder):
    libraries = read(folder).sources
    assert [(source.stage, source.task) for source in libraries] == [("peers-numpy", "digits-mlp")]
    made, alone = of_table(folder, libraries), of_table(folder, ())
    headings = [group.heading for group in made.groups]
    assert headings == ["Z-IL", "IL", "NumPy 1.0: loops, summed loss", "NumPy 1.0: by hand"]
    assert [group.heading for group in alone.groups] == headings[:2] and alone.records == made.records[:2]
    words = {group.heading: group.rows[0][:3] for group in made.groups}
    assert words["NumPy 1.0: by hand"] == ("digits-mlp", "equal up to rounding", "–")
    assert words["NumPy 1.0: loops, summed loss"] == ("digits-mlp", "does not", "γ = 0.2, T = 3")
    assert len({tuple(record) for record in made.records}) == 1
    assert made.records[-1]["source"] == libraries[0].path.as_posix()
    (distance,) = {record["ours"]["relative_l2"] for record in libraries[0].records if record["like"] == "il"}
    assert f"NumPy 1.0: loops, summed loss {distance:.1e}".replace("e-0", "e-") in made.caption.replace("−", "-")
    assert "librar" not in alone.caption


def test_the_distance_from_ours_is_the_largest_of_all_settings_in_double_precision(folder):
    path = folder / "peers/numpy/digits-mlp.json"
    value = read_json(path)
    il = next(record for record in value["results"] if record["rule"] == "numpy-il")
    far, single, none = (json.loads(json.dumps(il)) for _ in range(3))
    far |= {"options": {"steps": 4, "gamma": 0.2}, "ours": {"options": {}, "relative_l2": 0.25}}
    single |= {"dtype": "float32", "ours": {"options": {}, "relative_l2": 7.0}}
    none |= {"options": {"steps": 1, "gamma": 0.2}, "ours": None}
    value["results"] += [far, single, none]
    write_json(path, value)
    source = read_source("peers", "digits-mlp", path)
    assert peers.summary([source])["digits-mlp"]["numpy-il"]["ours"] == {"settings": 2, "largest": 0.25}
    far["ours"]["relative_l2"] = None
    write_json(path, value)
    source = read_source("peers", "digits-mlp", path)
    assert peers.summary([source])["digits-mlp"]["numpy-il"]["ours"]["largest"] is None


@pytest.mark.parametrize("where", [("tasks", "digits-mlp", "batch_size"), ("conformance", "grids", "il", "steps", 0)])
def test_a_result_of_other_parameters_leaves_the_table(folder, where):
    changed = parameters()
    *above, last = where
    entry = changed
    for key in above:
        entry = entry[key]
    entry[last] += 1
    found = read(folder, changed)
    assert found == peers.Peers((), (folder / "peers/numpy/digits-mlp.json",))


def test_a_result_that_does_not_say_what_it_was_made_with_leaves_the_table(folder):
    sidecar(folder / "peers/numpy/digits-mlp.json").unlink()
    assert read(folder).sources == () and len(read(folder).outdated) == 1


def test_libraries_that_are_not_there_are_no_error(tmp_path):
    assert read(tmp_path) == peers.Peers()


def test_a_damaged_result_is_named_with_the_remedy(folder):
    path = folder / "peers/numpy/digits-mlp.json"
    write_json(path, {**read_json(path), "library": {"name": "numpy"}})
    with pytest.raises(ResultError, match=r"numpy/digits-mlp\.json' is not as a result must be.*`make peers`"):
        read(folder)


def run(monkeypatch, *arguments):
    """The exit code of the command line."""
    monkeypatch.setattr(sys, "argv", ["benchmarks.peers", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    return ended.value.code


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "is not Torch2PC, it has no TorchSeq2PC.py"),
        ("print('hello')\n", "is not Torch2PC, it has no function PCInfer"),
        ("import no_such_module\n", "cannot be imported (ModuleNotFoundError: No module named 'no_such_module'"),
    ],
    ids=["no-file", "another-file", "broken"],
)
def test_a_path_that_is_not_the_library_is_one_line(tmp_path, monkeypatch, capsys, text, says):
    if text is not None:
        (tmp_path / "TorchSeq2PC.py").write_text(text)
    monkeypatch.chdir(ROOT)
    assert run(monkeypatch, "torch2pc", "--path", tmp_path) == 2
    printed = capsys.readouterr()
    assert not printed.out and printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert says in printed.err and "clone RobertRosenbaum/Torch2PC" in printed.err


def test_a_library_of_no_package_index_asks_for_its_path(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert run(monkeypatch, "torch2pc") == 2
    assert "--path" in capsys.readouterr().err


@pytest.mark.parametrize(("library", "environment"), [("fabricpc", ".venv-peers"), ("pcx", ".venv-peers-pcx")])
def test_a_package_that_is_not_installed_is_one_line(monkeypatch, capsys, library, environment):
    if find_spec("jax"):
        pytest.skip("JAX is installed here")
    monkeypatch.chdir(ROOT)
    assert run(monkeypatch, library) == 2
    assert capsys.readouterr().err == (
        f"error: {library} is not installed here; `make peers` sets up {environment}, which has it\n"
    )


def test_what_is_committed_was_made_with_the_parameters_that_params_yaml_has():
    found = peers.read(COMMITTED, WHOLE, "default")
    assert found.sources and not found.outdated, "run `make peers`"
    assert {source.files[0]["library"]["name"] for source in found.sources} <= set(command.ADAPTERS)


def test_the_readmes_table_is_that_of_the_results():
    text = table.README.read_text(encoding="utf-8")
    assert table.written(text) == text, "run `python -m benchmarks.peers table`"


@pytest.mark.parametrize("library", command.ADAPTERS)
def test_the_library_itself_gives_what_is_committed(tmp_path, library):
    """To rounding: another processor adds in another order."""
    path = ["--path", TORCH2PC] if library == "torch2pc" else []
    if (library == "torch2pc" and not TORCH2PC) or (library != "torch2pc" and not find_spec(library)):
        pytest.skip(f"{library} is not here; see benchmarks/peers/README.md")
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", library, *path],
        **{"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True},
    )
    assert done.returncode == 0, done.stderr
    made, committed = (read_json(where / library / "digits-mlp.json") for where in (tmp_path / peers.FOLDER, COMMITTED))
    if made["library"] != committed["library"]:
        pytest.skip(f"another version than the committed {committed['library']['version']}")
    assert len(made["results"]) == len(committed["results"])
    for a, b in zip(made["results"], committed["results"], strict=True):
        assert (a["rule"], a["options"], a["dtype"]) == (b["rule"], b["options"], b["dtype"])
        assert a["metrics"]["relative_l2"] == pytest.approx(b["metrics"]["relative_l2"], rel=1e-9, abs=1e-12)


@pytest.mark.skipif(not TORCH2PC, reason="Torch2PC is not here: TORCH2PC=path")
def test_torch2pcs_strict_is_il_on_the_negated_loss_with_the_update_at_the_forward_passs_values(first):
    library = torch2pc.peer(Path(TORCH2PC))
    if library.version != read_json(COMMITTED / "torch2pc/digits-mlp.json")["library"]["version"]:
        pytest.skip("another version than README.md speaks of")
    module, problem = torch2pc.loaded(Path(TORCH2PC) / torch2pc.FILE), Problem.of(first)
    rule = partial(make_rule, {**WHOLE["rules"]["il"], "steps": 59, "gamma": 0.4}, seed=0)
    climbing = first.gradients(rule, lambda outputs, targets: -first.loss(outputs, targets))
    climbing = {name: -gradient for name, gradient in climbing.items()}
    model, call = torch2pc.network(problem), (nn.functional.cross_entropy, problem.inputs, problem.targets)
    forward, *_, errors = module.PCInfer(model, *call, "Strict", 0.4, 60)
    values, _ = module.StrictPCPredErrs(model, forward, call[0], problem.targets, 0.4, 59)
    found = {}
    for i, (layer, part) in enumerate(zip(problem.layers, model, strict=True)):
        learned = torch.autograd.grad(part(values[i].detach()), list(part.parameters()), errors[i + 1])
        found |= dict(zip(problem.names(layer), learned, strict=True))
    assert compare(found, climbing).bitwise_equal
    at_forward = library.rules["torch2pc-strict"].gradients(problem, {"steps": 60, "gamma": 0.4})
    assert compare(at_forward, climbing).relative_l2 > 1e-3
    assert compare(at_forward, first.gradients(Backprop)).relative_l2 < 1e-3
