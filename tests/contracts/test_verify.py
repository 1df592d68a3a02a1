"""`pcbench verify` on a user's own network; oracle: the documented contract, and distances worked out by hand.

Aimed at: an exit code that says yes to a rule that differs, an ablation that is none, a factory's error that becomes ours.
"""

import math

import pytest
import torch
from problems import PROBLEMS
from torch import nn
from torch.nn import functional as F

from pcbench.errors import InvalidParameters
from pcbench.factories import call_factory, load_factory
from pcbench.measure.divergence import compare
from pcbench.measure.verify import BROKEN, verify

FACTORY = """
import torch
from torch import nn

def factory():
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3))
    return model, torch.randn(6, 4), torch.randint(0, 3, (6,)), nn.functional.cross_entropy

constant = 3
"""


def batch(problem):
    return (*problem.build(torch.float32), problem.loss)


def test_zil_passes_and_each_broken_condition_does_not(chain):
    counted = []
    found = verify(*batch(chain), advance=lambda: counted.append(1))
    assert found.total.bitwise_equal and found.total.max_ulp == 0
    assert found.buffers.bitwise_equal
    assert set(found.ablations) == set(BROKEN) and len(counted) == 1 + len(BROKEN)
    for name, divergence in found.ablations.items():
        assert not divergence.bitwise_equal and divergence.relative_l2 > 1e-3, name


def test_every_parameter_has_its_row(problem):
    model, inputs, targets = problem.build(torch.float32)
    found = verify(model, inputs, targets, problem.loss, ablations=False)
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert found.shapes == expected and list(found.parameters) == list(expected)
    assert not found.ablations
    loss = problem.loss(model(*(inputs if isinstance(inputs, tuple) else (inputs,))), targets)
    loss.backward()
    assert {n for n, d in found.parameters.items() if d is None} == {
        n for n, p in model.named_parameters() if p.grad is None
    }


@pytest.mark.parametrize("rule", ["il", "zil-state"])
def test_another_rule_is_told_apart(rule):
    found = verify(*batch(PROBLEMS[0]), rule=rule, ablations=False)
    assert not found.total.bitwise_equal
    assert max(d.l2 for d in found.parameters.values()) <= found.total.l2


def test_options_reach_the_rule():
    one, many = (verify(*batch(PROBLEMS[0]), rule="il", ablations=False, steps=steps, gamma=0.1) for steps in (1, 200))
    assert many.total.relative_l2 < one.total.relative_l2


def test_a_factory_is_found_in_a_file_and_in_a_module(tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    made = [call_factory(load_factory(f"{place}:factory")) for place in (tmp_path / "own_network.py", "own_network")]
    for a, b in zip(made[0][0].parameters(), made[1][0].parameters(), strict=True):
        assert torch.equal(a, b), "a factory runs under a fixed seed"


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("no-colon", "'no-colon' is neither package.module:factory nor path/to/file.py:factory"),
        (":factory", "is neither"),
        ("module:", "is neither"),
        ("no_such_package.module:factory", "cannot import 'no_such_package.module'"),
        ("nowhere/file.py:factory", "cannot import 'nowhere/file.py' .*no such file"),
        ("own.py:missing", "'own.py' has no function 'missing'"),
        ("own.py:constant", "'own.py' has no function 'constant'"),
    ],
)
def test_a_factory_that_does_not_exist_is_named(tmp_path, monkeypatch, specification, message):
    (tmp_path / "own.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameters, match=message):
        load_factory(specification)


@pytest.mark.parametrize(
    ("text", "message"),
    [("factory = (", "SyntaxError: .* line 1"), ("\nx = 1 / 0", r"ZeroDivisionError: .*broken\.py:2")],
)
def test_a_module_that_fails_when_imported_is_named_with_the_line(tmp_path, text, message):
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(InvalidParameters, match=rf"cannot import '.*broken\.py' \({message}"):
        load_factory(f"{tmp_path / 'broken.py'}:factory")


@pytest.mark.parametrize("made", [None, (1, 2, 3, 4), (nn.Linear(2, 2), 1, 2)], ids=["none", "no module", "three"])
def test_a_factory_that_returns_something_else_is_told_what_it_must_return(made):
    def factory():
        return made

    with pytest.raises(
        InvalidParameters, match=r"factory\(\) returned .*must return \(model, inputs, targets, loss_fn\)"
    ):
        call_factory(factory)


def test_the_models_own_state_stays_as_it_was():
    model, inputs, targets = PROBLEMS[0].build(torch.float32)
    before = [p.clone() for p in model.parameters()]
    verify(model, inputs, targets, F.cross_entropy)
    assert all(torch.equal(a, b) and a.grad is None for a, b in zip(model.parameters(), before, strict=True))


# The meter: what tests/properties/test_compare.py leaves open (found by tests/mutants.py).


def test_differences_are_taken_in_float64_whatever_the_tensors_type():
    """In float32, 1 − 1e-9 is 1."""
    small = torch.tensor([1e-9])
    found = compare({"w": torch.tensor([1.0])}, {"w": small})
    assert found.max_abs == 1.0 - small.double().item() < 1.0


def test_norms_are_taken_in_float64():
    """In float32, 1e-100 is 0, and so is the square of 1e-30."""
    for dtype, size in ((torch.float64, 1e-100), (torch.float32, 1e-30)):
        small = torch.full((2,), size, dtype=dtype)
        found = compare({"w": 2 * small}, {"w": small})
        assert found.relative_l2 == pytest.approx(1.0)
        assert found.l2 == pytest.approx(math.sqrt(2) * size, rel=1e-6)
