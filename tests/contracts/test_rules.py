"""The documented contract of the rules: options refused, a NaN loss, and the same bits wherever they are computed.

Aimed at: an option that is accepted and ignored, an update half-done, a result that depends on the process.
"""

import hashlib
import inspect
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from problems import PROBLEMS, assert_same_bits, bits, gradients_of, outcome
from torch import nn
from torch.nn import functional as F

import pcbench
from pcbench import ZIL, Backprop, Dynamics, InferenceLearning, Schedule, code
from pcbench.errors import InvalidParameters, NonFiniteLoss
from pcbench.rules import by_name, options_of

EVERY_RULE = pytest.mark.parametrize("name", code.names("rule"))


def test_an_unknown_rule_is_refused_with_those_that_exist():
    with pytest.raises(InvalidParameters, match=r"unknown rule 'prospective'; the rules are bp, .*zil, zil-state"):
        by_name("prospective", nn.Linear(2, 2))


@EVERY_RULE
def test_an_option_that_a_rule_does_not_have_is_refused(name):
    has = f"its options are {', '.join(options_of(name))}" if options_of(name) else "it has none"
    with pytest.raises(
        InvalidParameters, match=f"rule '{name}' has the option 'temperature', .* does not have; {has}$"
    ):
        by_name(name, nn.Linear(2, 2), temperature=3)


OPTIONS = {
    "bp": (),
    "zil": (),
    "zil-state": ("steps", "gamma", "sigma", "layer_dependent", "levelled"),
    "il": ("steps", "gamma", "granularity"),
    "fixed-prediction": ("steps", "gamma"),
    "error-optimisation": ("steps", "gamma"),
    "incremental": ("steps", "gamma", "alpha"),
    "output-variance": ("variance", "steps", "gamma"),
}


def test_the_options_of_a_rule_are_those_that_its_docstring_explains():
    assert {name: options_of(name) for name in code.names("rule")} == OPTIONS


@EVERY_RULE
def test_every_option_of_a_rule_is_one_that_it_takes(name):
    values = {"steps": 2, "layer_dependent": False, "levelled": False, "granularity": "operation"}
    generator = torch.Generator()
    for option in options_of(name):
        assert by_name(name, nn.Linear(2, 2), generator=generator, **{option: values.get(option, 0.5)})


def test_every_published_rule_is_offered_by_name():
    for kind in ("ErrorOptimisation", "FixedPrediction", "Incremental", "OutputVariance", "ZIL", "InferenceLearning"):
        assert kind in pcbench.__all__
    rule = pcbench.FixedPrediction(nn.Linear(2, 2), gamma=0.5)
    assert type(rule) is type(by_name("fixed-prediction", nn.Linear(2, 2))) and rule.gamma == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0: the number of inference steps is an integer >= 1"),
        ({"steps": -3}, "steps=-3"),
        ({"steps": 2.5}, "steps=2.5"),
        ({"steps": "many"}, "steps='many'"),
        ({"gamma": 0}, "gamma=0: the integration step is a number > 0"),
        ({"gamma": -0.1}, "gamma=-0.1"),
        ({"gamma": math.nan}, "gamma=nan"),
        ({"gamma": math.inf}, "gamma=inf"),
        ({"gamma": "1"}, "gamma"),
    ],
)
@pytest.mark.parametrize("name", ["il", "zil-state"])
def test_a_schedule_that_makes_no_sense_is_refused(name, options, message):
    with pytest.raises(InvalidParameters, match=message):
        by_name(name, nn.Linear(2, 2), **options)


@pytest.mark.parametrize("sigma", [-0.1, math.nan, math.inf])
def test_an_initial_error_that_makes_no_sense_is_refused(sigma):
    with pytest.raises(InvalidParameters, match=f"sigma={sigma}: the initial error's standard deviation"):
        by_name("zil-state", nn.Linear(2, 2), generator=torch.Generator(), sigma=sigma)


def test_noise_needs_a_generator():
    with pytest.raises(InvalidParameters, match=r"sigma=0\.6 draws noise: pass the torch\.Generator"):
        by_name("zil-state", nn.Linear(2, 2), sigma=0.6)


@EVERY_RULE
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["inputs", "loss"])
def test_a_loss_that_is_not_finite_leaves_gradients_as_they_were(name, bad, where):
    model, inputs, targets = PROBLEMS[0].build(torch.float32)
    rule = by_name(name, model)

    def bad_update():
        with pytest.raises(NonFiniteLoss, match=r"the loss is (nan|inf).*look for NaN or infinity"):
            if where == "inputs":
                rule.backward(inputs * bad, targets, F.cross_entropy)
            else:
                rule.backward(inputs, targets, lambda outputs, _: outputs.sum() + bad)

    bad_update()
    assert all(p.grad is None for p in model.parameters())
    rule.backward(inputs, targets, F.cross_entropy)
    before = {key: g.clone() for key, g in gradients_of(model).items()}
    bad_update()
    assert_same_bits(gradients_of(model), before)


@EVERY_RULE
def test_the_returned_loss_is_a_detached_number(name):
    problem = PROBLEMS[0]
    model, inputs, targets = problem.build(torch.float64)
    loss = by_name(name, model).backward(inputs, targets, problem.loss)
    assert (loss.dim(), loss.dtype, loss.requires_grad) == (0, torch.float64, False)
    assert torch.equal(loss, problem.loss(model(inputs), targets))


class Weighted(nn.Module):
    """A loss with a parameter of its own, and one that reads the model's parameters (a penalty on the weights)."""

    def __init__(self, model):
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        self.penalised = [model[0].weight]

    def forward(self, outputs, targets):
        return F.cross_entropy(outputs / self.temperature, targets) + 0.1 * self.penalised[0].square().sum()


@pytest.mark.parametrize("make_rule", [ZIL, Dynamics], ids=["zil", "zil-state"])
def test_what_the_loss_reads_directly_counts_too(make_rule):
    found = []
    for rule in (Backprop, make_rule):
        model, inputs, targets = PROBLEMS[0].build(torch.float64)
        loss = Weighted(model)
        rule(model).backward(inputs, targets, loss)
        found.append((gradients_of(model), loss.temperature.grad))
    (expected, expected_own), (actual, actual_own) = found
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=1e-12, atol=1e-12)
    assert actual_own is not None, "the loss's own parameter got no gradient"
    torch.testing.assert_close(actual_own, expected_own, rtol=1e-12, atol=1e-12)


def test_the_defaults_of_il_are_those_of_the_documentation():
    defaults = {
        k: v.default for k, v in inspect.signature(InferenceLearning).parameters.items() if k in ("steps", "gamma")
    }
    assert defaults == {"steps": 20, "gamma": 0.1}
    assert Schedule() == Schedule(steps=None, gamma=1.0, sigma=0.0, layer_dependent=True, levelled=True)


def digest():
    """The SHA-256 over the gradients of every problem under every rule."""
    sha = hashlib.sha256()
    for problem in PROBLEMS:
        for name in ("bp", "zil", "il"):
            found = outcome(problem, torch.float32, lambda model, name=name: by_name(name, model)).gradients
            for gradient in filter(lambda gradient: gradient is not None, found.values()):
                sha.update(bits(gradient).numpy().tobytes())
    return sha.hexdigest()


def test_another_process_computes_the_same_bits():
    """Whatever the order of its sets: Python salts its hashes anew in every process."""
    script = "import torch; torch.set_num_threads(1); from test_rules import digest; print(digest())"
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest()


def test_zil_equals_backprop_with_any_number_of_threads(problem):
    """Both on the same number: PyTorch may split a sum among threads, so between numbers bits may differ."""
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            expected = outcome(problem, torch.float32, Backprop).gradients
            assert_same_bits(outcome(problem, torch.float32, ZIL).gradients, expected)
    finally:
        torch.set_num_threads(before)


def test_small_networks_have_the_same_bits_on_one_and_two_threads():
    """PyTorch promises it of no operation; it holds of elementwise ones and of products too small to be split."""
    problem = PROBLEMS[0]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(outcome(problem, torch.float32, ZIL).gradients)
    finally:
        torch.set_num_threads(before)
    assert_same_bits(*found)
