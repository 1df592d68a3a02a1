"""The command line; oracle: whatever the user gets wrong is one message that names it and its remedy, and exit code 2.

Aimed at: a traceback, an exit code 0 after a failure, a result that is half there.
"""

import os
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from pcbench import params
from pcbench.cli import app, main
from pcbench.files import read_json, write_json
from pcbench.provenance import digest, sidecar
from pcbench.rules import ENGINES, ZIL

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def parameters():
    """The smoke profile, smaller still."""
    found = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    found["profiles"]["smoke"].update(seeds=[0], rounds=1)
    found["profiles"]["smoke"]["tasks"]["digits-mlp"] = 1
    found["exactness"] = {**found["exactness"], "dtypes": ["float32"], "seeds": [0]}
    return found


@pytest.fixture
def workplace(tmp_path, monkeypatch, parameters, digits):
    """A folder with params.yaml, expectations.yaml and the digits, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(parameters))
    (tmp_path / "datasets").symlink_to(digits)
    return tmp_path


@pytest.fixture
def pcbench(workplace, as_before, monkeypatch, capsys):
    """Run `pcbench` with arguments, by its real entry point; return the exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["pcbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return ended.value.code or 0, out, err

    return run


@pytest.fixture
def refused(pcbench, workplace):
    """Run what must be refused: exit code 2, one message with every word of ``parts``, and not one file more or less."""

    def run(*arguments, parts):
        before = files(workplace)
        code, out, err = pcbench(*arguments)
        assert code == 2, out + err
        assert err.startswith("error: ")
        for part in parts:
            assert part in err
        assert files(workplace) == before
        return err

    return run


def files(folder):
    """Every file under ``folder`` and its bytes, caches of checkpoints excepted."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".pcbench" not in path.parts and "__pycache__" not in path.parts
    }


COMMANDS = [command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands]


def test_every_stage_of_the_pipeline_is_a_command():
    stages = {*params.STAGES, "report"}
    assert stages | {"tasks", "fetch", "check", "verify"} <= set(COMMANDS)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=["pcbench", *COMMANDS])
def test_every_command_says_what_it_does(command):
    found = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert found.exit_code == 0
    text = re.sub(r"[^\w\s]", "", found.output)
    assert len(text.split()) > 15 and "Usage" in found.output
    if not command:
        assert all(name in found.output for name in COMMANDS)


@pytest.mark.parametrize("arguments", [["tran"], ["train"], ["train", "digits-mlp", "--profil", "smoke"]])
def test_what_is_no_command_or_no_option_is_a_usage_error(pcbench, arguments):
    code, out, err = pcbench(*arguments)
    assert code == 2 and ("Usage" in err or "Usage" in out)


def test_tasks_are_listed(pcbench):
    code, out, _ = pcbench("tasks")
    assert code == 0 and all(name in out for name in ("digits-mlp", "surnames-rnn", "fashion-cnn", "fashion-mnist"))


STAGES = pytest.mark.parametrize("stage", params.OF_TASKS)


@STAGES
def test_an_unknown_task_is_named_with_those_that_exist(refused, stage):
    refused(stage, "digits-svm", parts=["unknown task 'digits-svm'", "digits-mlp", "fashion-cnn"])


@STAGES
def test_an_unknown_profile_is_named_with_those_that_exist(refused, stage):
    refused(stage, "digits-mlp", "--profile", "huge", parts=["unknown profile 'huge'", "smoke", "default", "paper"])


def test_a_task_that_the_profile_does_not_train_is_named(refused):
    refused("train", "surnames-rnn", "--profile", "smoke", parts=["no task 'surnames-rnn'", "digits-mlp"])


def test_an_unknown_data_set_is_named_with_those_that_exist(refused):
    refused("fetch", "imagenet", parts=["unknown data set 'imagenet'", "digits", "fashion-mnist"])


def test_an_unknown_model_of_the_zoo_is_named_with_those_that_exist(refused):
    refused("zoo", "resnet19", "--profile", "smoke", parts=["no classifier 'resnet19'", "resnet18"])


@STAGES
def test_data_that_was_not_fetched_is_named_with_the_command_that_fetches_it(refused, stage):
    refused(
        stage,
        "digits-mlp",
        "--profile",
        "smoke",
        "--datasets",
        "elsewhere",
        parts=["is missing", "pcbench fetch digits"],
    )


@STAGES
def test_a_corrupted_data_file_is_named_with_both_checksums(refused, workplace, stage):
    shutil.copytree(workplace / "datasets" / "digits", workplace / "spoilt" / "digits")
    path = workplace / "spoilt" / "digits" / "data" / "digits.csv"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    arguments = (stage, "digits-mlp", "--profile", "smoke", "--datasets", "spoilt")
    message = refused(*arguments, parts=["digits.csv", "is corrupted", "pcbench fetch digits"])
    assert len(re.findall(r"\b[0-9a-f]{64}\b", message)) == 2


@pytest.mark.parametrize("command", [["exactness", "digits-mlp"], ["train", "digits-mlp"], ["zoo", "squeezenet1_1"]])
@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (None, ["cannot read 'params.yaml'", "root folder"]),
        ("profiles: [", ["'params.yaml' is not valid YAML"]),
        ("profiles: {}", ["params.yaml", "profiles is {}"]),
    ],
    ids=["missing", "no yaml", "no section"],
)
def test_broken_parameters_are_named(refused, workplace, command, text, parts):
    (workplace / "params.yaml").unlink()
    if text is not None:
        (workplace / "params.yaml").write_text(text)
    refused(*command, parts=parts)


@pytest.mark.parametrize(
    ("where", "value", "parts"),
    [
        (("profiles", "smoke", "tasks", "digits-mlp"), -1, ["tasks.digits-mlp is -1", "greater than or equal to 1"]),
        (("profiles", "smoke", "epoch"), 1, ["unknown key 'epoch'", "scaling, tasks"]),
        (("tasks", "digits-mlp", "network"), "svm", ["tasks.digits-mlp.network is 'svm'", "none of alexnet, cnn"]),
        (
            ("tasks", "digits-mlp", "data"),
            "numbers",
            ["tasks.digits-mlp.data is 'numbers'", "none of ag-news, cifar10"],
        ),
        (
            ("rules", "zil", "engine"),
            "prospective",
            ["rules.zil.engine is 'prospective'", "none of bp, error-optimisation"],
        ),
        (("scaling", "axes", "depth", "largest"), {"il-200": 64}, ["depth.largest names 'il-200'"]),
        (("tasks", "digits-mlp", "optimizer", "name"), "lion", ["unknown optimizer 'lion'", "adam, sgd"]),
        (("tasks", "digits-mlp", "optimizer", "speed"), 3, ["optimizer 'adam'", "speed"]),
        (("tasks", "digits-mlp", "optimizer", "lr"), "1e-3", ["optimizer 'adam'", "1e-3"]),
        (("rules", "il-20", "temperature"), 3, ["rules.il-20", "'temperature'", "its options are steps, gamma"]),
        (("rules", "il-20", "gamma"), -1, ["gamma=-1", "a number > 0"]),
        (("rules", "il-20", "steps"), 0, ["steps=0", "integer >= 1"]),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else None,
)
def test_a_number_that_makes_no_sense_is_named_before_anything_is_written(
    refused, workplace, parameters, where, value, parts
):
    inner = parameters
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    # The same rules for Table 2, which runs in this process: a worker of `train` takes seconds to start.
    parameters["cost"]["rules"] = parameters["train"]["rules"]
    (workplace / "params.yaml").write_text(yaml.safe_dump(parameters))
    refused("cost", "digits-mlp", "--profile", "smoke", parts=parts)


EVERY_STAGE = [*((stage, "digits-mlp") for stage in params.OF_TASKS), ("zoo", "squeezenet1_1"), ("scaling", "depth")]


@pytest.mark.parametrize("command", EVERY_STAGE, ids=[stage for stage, _ in EVERY_STAGE])
@pytest.mark.parametrize(
    ("device", "parts"),
    [
        ("gpu", ["unknown device 'gpu'", "the devices are cpu, cuda"]),
        (f"cuda:{torch.cuda.device_count()}", ["device 'cuda:", "is not here", "--device", "`device` in params.yaml"]),
    ],
    ids=["unknown", "absent"],
)
def test_a_device_that_is_not_here_is_named_before_any_work(refused, command, device, parts):
    """Without a GPU, and with as many as there may be: the one after the last is asked for."""
    refused(*command, "--profile", "smoke", "--device", device, "--params", "params.yaml", parts=parts)


def test_the_device_of_params_yaml_holds_where_none_is_named(refused, pcbench, workplace, parameters):
    absent = f"cuda:{torch.cuda.device_count()}"
    (workplace / "params.yaml").write_text(yaml.safe_dump({**parameters, "device": absent}))
    refused("proof", "digits-mlp", "--profile", "smoke", parts=[f"device {absent!r} is not here"])
    code, out, err = pcbench("proof", "digits-mlp", "--profile", "smoke", "--device", "cpu")
    assert code == 0, out + err
    assert read_json(sidecar(Path("results/smoke/proof/digits-mlp.json")))["parameters"]["device"] == "cpu"


def test_a_grids_option_that_a_rule_does_not_have_is_named_before_data_are_read(refused, workplace, parameters):
    parameters["conformance"]["grids"]["one-step"] = {"variance": [1, 2]}
    (workplace / "params.yaml").write_text(yaml.safe_dump(parameters))
    parts = ["conformance.grids.one-step", "'variance'", "'error-optimisation' does not have", "steps, gamma"]
    refused("conformance", "digits-mlp", "--profile", "smoke", "--datasets", "none", parts=parts)


@pytest.mark.parametrize(("key", "value"), [("width", 3), ("hidden", "many"), ("hidden", -3)])
def test_a_models_number_that_makes_no_sense_is_named(refused, workplace, parameters, key, value):
    parameters["tasks"]["digits-mlp"]["model"][key] = value
    (workplace / "params.yaml").write_text(yaml.safe_dump(parameters))
    refused("cost", "digits-mlp", "--profile", "smoke", parts=["digits-mlp", key])


@pytest.mark.parametrize("stage", ["exactness", "cost"])
def test_a_results_folder_that_cannot_be_written_is_named(refused, workplace, stage):
    (workplace / "results").write_text("a file in the way")
    refused(stage, "digits-mlp", "--profile", "smoke", parts=["cannot write to 'results/smoke", "writable folder"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_results_folder_is_named(refused, workplace):
    (workplace / "results").mkdir(mode=0o500)
    refused("exactness", "digits-mlp", "--profile", "smoke", parts=["cannot write to", "results", "writable folder"])


def test_a_datasets_folder_that_cannot_be_written_is_named(refused, workplace):
    (workplace / "blocked").write_text("a file in the way")
    refused("fetch", "digits", "--datasets", "blocked", parts=["digits", "blocked", "choose another folder"])


def test_a_loss_of_nan_in_training_names_rule_seed_epoch_and_update(refused, workplace, parameters):
    parameters["tasks"]["digits-mlp"]["optimizer"] = {"name": "sgd", "lr": 1.0e30}
    (workplace / "params.yaml").write_text(yaml.safe_dump(parameters))
    message = refused("train", "digits-mlp", "--profile", "smoke", parts=["digits-mlp", "Lower the learning rate"])
    assert re.search(r"rule '[\w-]+', seed 0, epoch 1, update \d+: the loss is (nan|inf)", message)


def test_a_stage_writes_its_result_and_where_it_comes_from(pcbench, workplace):
    code, out, err = pcbench("exactness", "digits-mlp", "--profile", "smoke")
    assert code == 0, err
    path = workplace / "results" / "smoke" / "exactness" / "digits-mlp.json"
    said = out.splitlines()[-1]
    assert said.startswith("digits-mlp: bit-identical to backpropagation: ")
    assert "; Z-IL (1 of 1); Z-IL, state form (0 of 1); see results/smoke/exactness/digits-mlp.json" in said
    assert {"zil", "zil-state"} <= {entry["rule"] for entry in read_json(path)["results"]}
    record = read_json(path.with_name("digits-mlp.provenance.json"))
    assert record["threads"] == 1 and record["parameters"]["task"]["batch_size"] == 64
    assert not list(path.parent.glob(".*")), "no temporary file stays behind"


def test_a_report_without_results_is_refused(refused):
    refused("report", "--profile", "smoke", parts=["results/smoke", "make repro"])


@pytest.fixture
def reported(workplace, parameters):
    """Write a metrics.json of the smoke profile, made of today's parameters."""
    folder = workplace / "reports" / "smoke"
    folder.mkdir(parents=True)
    now = digest(params.of_profile(params.load(workplace / "params.yaml"), "smoke"))

    def write(**changes):
        task = {"accuracy": {"bp": {"mean": 0.94}}}
        metrics = {"profile": "smoke", "tasks": {"digits-mlp": task}, "parameters_sha256": now, **changes}
        write_json(folder / "metrics.json", metrics)
        return folder / "metrics.json"

    return write


def test_a_check_without_a_report_or_expectations_is_refused(refused, workplace, reported):
    shutil.copy(ROOT / "expectations.yaml", workplace)
    refused("check", "--profile", "smoke", parts=["metrics.json' does not exist", "make repro PROFILE=smoke"])
    reported().write_text('{"profile": "smo')
    refused("check", "--profile", "smoke", parts=["metrics.json' cannot be read", "delete it"])
    reported()
    (workplace / "expectations.yaml").unlink()
    refused("check", "--profile", "smoke", parts=["cannot read 'expectations.yaml'"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": {}}, "is no report's metrics.json"),
        ({"profile": None}, "is no report's metrics.json"),
        ({"profile": "default"}, "is of profile 'default', not of 'smoke'"),
        ({"profile": ["smoke"]}, "is of profile"),
        ({"tasks": [1]}, "is damaged"),
        ({"tasks": {"digits-mlp": 3}}, "is damaged"),
        ({"zoo": [1]}, "is damaged"),
        ({"parameters_sha256": "0" * 64}, "was made with other parameters than params.yaml has now"),
        ({"parameters_sha256": None}, "was made with other parameters"),
    ],
)
def test_metrics_that_are_damaged_or_stale_are_refused_in_one_line(refused, workplace, reported, changes, said):
    shutil.copy(ROOT / "expectations.yaml", workplace)
    reported(**changes)
    assert refused("check", "--profile", "smoke", parts=[said, "anew"]).count("\n") == 1


def test_metrics_nested_beyond_all_bounds_are_refused(refused, workplace, reported):
    shutil.copy(ROOT / "expectations.yaml", workplace)
    reported().write_text("[" * 100_000)
    refused("check", "--profile", "smoke", parts=["cannot be read"])


@pytest.mark.parametrize(("least", "code"), [(0.9, 0), (0.95, 1)])
def test_check_exits_with_one_and_names_what_fell_short(pcbench, workplace, reported, least, code):
    reported()
    (workplace / "own.yaml").write_text(f"accuracy: {{digits-mlp.bp.mean: {{min: {least}}}}}")
    found, out, _ = pcbench("check", "--profile", "smoke", "--expectations", "own.yaml")
    assert found == code
    assert ("accuracy.digits-mlp.bp.mean" in out and "0.94" in out) == bool(code)


def test_a_check_that_holds_nothing_is_no_pass(pcbench, workplace, reported):
    reported()
    (workplace / "own.yaml").write_text("accuracy: {surnames-rnn.bp.mean: {min: 0.1}}")
    code, out, err = pcbench("check", "--profile", "smoke", "--expectations", "own.yaml")
    assert code == 2 and "0 pass" in out and "that is no pass" in err


@pytest.mark.parametrize("name", ["params.yaml", "expectations.yaml"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> theirs\n", "is half merged (line 2"),
        (b"a: 1\na: 2\n", "the key 'a' stands twice"),
        ("a: \u00e4".encode("latin-1"), "is not UTF-8"),
        (b"\xff\xfea\x00", "is not UTF-8"),
        (b"a: &a [*a]\n? {b: 1}\n: 2\n", "'params.yaml'"),
        (b"[" * 5000, "'"),
    ],
    ids=["half merged", "key twice", "latin-1", "utf-16", "recursive", "deep"],
)
def test_a_damaged_yaml_file_is_refused_in_one_line(refused, workplace, reported, name, content, said):
    shutil.copy(ROOT / "expectations.yaml", workplace)
    reported()
    (workplace / name).write_bytes(content)
    said = said.replace("params.yaml", name)
    assert refused("check", "--profile", "smoke", parts=[said]).count("\n") == 1


FACTORY = """
import torch
from torch import nn

class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(x) if x.sum() > 0 else -self.linear(x)

def batch(model):
    return model, torch.randn(6, 4), torch.randint(0, 3, (6,)), nn.functional.cross_entropy

def good():
    return batch(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3)))

def branching():
    return batch(Branch())

def nothing_to_learn():
    return batch(nn.Tanh())

def not_a_number():
    model, inputs, targets, loss = good()
    return model, inputs * float("nan"), targets, loss

def nothing():
    pass

def raising():
    raise KeyError("weights")

def strict(outputs, targets):
    raise ValueError("no such class")

def raising_loss():
    return *good()[:3], strict

class Reshaping(nn.Linear):
    def forward(self, x):
        return super().forward(x.view(7, 4))

def raising_forward():
    return batch(Reshaping(4, 3))

def leaving():
    raise SystemExit(0)

class Leaving(nn.Linear):
    def forward(self, x):
        raise SystemExit(0)

def leaving_forward():
    return batch(Leaving(4, 3))

class Warned(nn.Linear):
    def forward(self, x):
        import warnings
        warnings.warn("mind the gap")
        return super().forward(x)

def warning():
    return batch(Warned(4, 3))

class Twice(nn.Linear):
    calls = 0  # it runs once, under plain backpropagation, and never again

    def forward(self, x):
        Twice.calls += 1
        if Twice.calls > 1:
            raise ZeroDivisionError("no second time\\nand no second line")
        return super().forward(x)

def twice():
    return batch(Twice(4, 3))

class Drawing(nn.Linear):
    def forward(self, x):
        import random
        return super().forward(x) * random.random()

def drawing():
    return batch(Drawing(4, 3))

class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.first(x).tanh())  # the line

def layers():
    return batch(Layers())

class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.last = nn.LSTM(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.encoder(x)[0])

def fused():
    return batch(Fused())

def misfit():
    return batch(nn.Sequential(nn.Linear(4, 5), nn.Linear(6, 3)))

def misfit_loss():
    return *good()[:2], torch.rand(6), nn.CrossEntropyLoss()

class Dead(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(torch.relu(self.first(x) - 100.0) * -1.0)

def dead():
    return batch(Dead())
"""


@pytest.fixture
def verify(pcbench, workplace):
    (workplace / "own.py").write_text(FACTORY)
    return lambda name, *options: pcbench("verify", f"own.py:{name}", *options)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--no-ablations"], 0),
        ([], 0),
        (["--rule", "zil-state", "--no-ablations"], 1),
        (["--rule", "il", "--no-ablations"], 1),
        (["--rule", "il", "--steps", "5", "--gamma", "0.2", "--no-ablations"], 1),
        (["--rule", "bp", "--no-ablations"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_verifys_exit_code_is_its_verdict(verify, options, code):
    found, out, err = verify("good", *options)
    assert found == code, err
    assert ("is NOT bit-identical" in out) == bool(code)
    assert all(name in out for name in ("0.weight", "2.bias", "all parameters"))


def test_zeros_of_another_sign_are_named_where_no_number_differs(verify):
    """The state form takes x − μ, which is +0 where a gradient is −0."""
    code, out, err = verify("dead", "--rule", "zil-state", "--no-ablations")
    assert code == 1 and "no number differs: the bits that do are signs of zeros" in out, err
    for name, rule in (("dead", "zil"), ("good", "il")):
        assert "signs of zeros" not in verify(name, "--rule", rule, "--no-ablations")[1]


def test_numbers_are_written_as_in_the_report(verify):
    """In groups of three digits, on every terminal: a narrow space would be a question mark on most."""
    _, out, _ = verify("good", "--rule", "zil-state", "--no-ablations")
    assert "\u202f" not in out and not re.search(r"\d{4} *│ (yes|no)", out)
    _, out, _ = verify("good", "--rule", "il", "--no-ablations")
    assert re.search(r"│ (\d{1,3}( \d{3})+|\d\.\de\d+) *│ no", out), out


def test_a_fused_network_is_converted_or_kept_whole_and_told_of(verify):
    code, out, err = verify("fused", "--no-ablations")
    assert code == 0 and "kept whole" not in out, err
    code, out, err = verify("fused", "--no-ablations", "--keep-fused", "--prove")
    assert code == 0 and "'encoder' (nn.LSTM) was kept whole" in out and "not local in time" in out, err


LINE = 1 + FACTORY.splitlines().index("        return self.last(self.first(x).tanh())  # the line")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 0, ["equal: the same program of", "every input of these shapes", "kernels"]),
        (["--rule", "il", "--steps", "2"], 1, ["not equal: ", "first result that differs", "aten.", f"own.py:{LINE}"]),
    ],
    ids=["zil", "il"],
)
def test_a_certificate_is_printed_and_counts_in_the_exit_code(verify, options, code, said):
    found, out, err = verify("layers", "--prove", "--no-ablations", *options)
    assert found == code, err
    assert all(part in out for part in said), out
    assert "program" not in verify("layers", "--no-ablations", *options)[1]


def test_the_same_bits_by_another_program_are_no_proof(verify, monkeypatch):
    """Twice halved and doubled: the bits of this batch, by other operations."""

    class Detour(ZIL):
        def gradients(self, *batch):
            loss, found = super().gradients(*batch)
            return loss, {p: g * 0.5 * 2 for p, g in found.items()}

    monkeypatch.setitem(ENGINES, "zil", Detour)
    code, out, _ = verify("good", "--prove", "--no-ablations")
    assert code == 1 and "zil is bit-identical" in out and "not equal: " in out


@pytest.mark.parametrize(
    ("name", "reason"), [("drawing", "NumPy's or Python's random numbers"), ("branching", "depends on the values")]
)
def test_where_no_program_can_be_captured_prove_exits_with_two_and_the_reason(verify, name, reason):
    assert verify(name, "--no-ablations")[0] == 0
    code, out, err = verify(name, "--no-ablations", "--prove")
    assert code == 2 and "zil is bit-identical" in out
    assert err.startswith("error: ") and reason in err


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("branching", ["--prove"], ["Branch cannot be captured as a program", "values of tensors", "own.py:11"]),
        ("missing", [], ["'own.py' has no function 'missing'"]),
        ("nothing", [], ["nothing() returned NoneType", "(model, inputs, targets, loss_fn)"]),
        ("nothing_to_learn", [], ["has no parameters to learn"]),
        ("not_a_number", [], ["the loss is nan", "look for NaN"]),
        ("good", ["--rule", "prospective"], ["unknown rule 'prospective'", "bp, error-optimisation"]),
        ("good", ["--rule", "zil", "--steps", "3"], ["rule 'zil'", "steps"]),
        ("good", ["--rule", "il", "--steps", "0"], ["steps=0"]),
        ("good", ["--rule", "il", "--gamma", "nan"], ["gamma=nan"]),
        ("raising", [], ["the factory raising() failed", "KeyError: 'weights'", "own.py:33"]),
        ("raising_loss", [], ["Sequential or its loss fails", "ValueError: no such class", "own.py:36"]),
        ("misfit", [], ["Sequential or its loss fails", "cannot be multiplied (6x5 and 6x3), in '1' (Linear))"]),
        ("misfit_loss", [], ["Sequential or its loss fails", ", in CrossEntropyLoss)"]),
        ("leaving", [], ["the factory leaving() failed", "SystemExit: 0"]),
        ("leaving_forward", [], ["Leaving or its loss fails", "SystemExit: 0"]),
        ("twice", [], ["Twice", "no second time"]),
        ("raising_forward", [], ["Reshaping or its loss fails", "RuntimeError: shape '[7, 4]'", "own.py:43"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_what_verify_cannot_do_is_named(refused, workplace, name, options, parts):
    (workplace / "own.py").write_text(FACTORY)
    refused("verify", f"own.py:{name}", "--no-ablations", *options, parts=parts)


def test_a_module_in_the_working_folder_is_found_and_verified_alike_each_time(pcbench, workplace):
    (workplace / "mine_in_this_folder.py").write_text(FACTORY)
    runs = [pcbench("verify", "mine_in_this_folder:good", "--rule", "il", "--no-ablations") for _ in range(2)]
    assert runs[0][0] == 1 and runs[0][1].splitlines()[1:] == runs[1][1].splitlines()[1:]


def test_a_device_for_ones_own_network_is_looked_for_before_the_network(refused, workplace):
    absent = f"cuda:{torch.cuda.device_count()}"
    refused("verify", "nowhere.py:factory", "--device", absent, parts=[f"device {absent!r} is not here"])


def test_ones_own_network_is_verified_where_it_is_told_to_be(verify):
    runs = [verify("good", "--no-ablations", *options) for options in ([], ["--device", "cpu"])]
    assert runs[0][0] == 0 and runs[0] == runs[1]


@pytest.mark.parametrize("factory", ["no-colon", "no_such_package:factory", "nowhere.py:factory"])
def test_a_factory_that_is_nowhere_is_named(refused, factory):
    refused("verify", factory, parts=[factory.split(":")[0]])
