"""Whatever a model does, Z-IL does it once, as BP does, and learns the same bits.

Aimed at: state that is stale from the second update on, draws made twice or not at all, hooks and counters that run
once more, a value read where another one should be; and at refusing what need not be refused.
"""

import contextlib
import random

import numpy as np
import pytest
import torch
from problems import assert_same_bits, relative_l2
from torch import nn
from torch.utils import _pytree as pytree

from pcbench import ZIL, Backprop, Dynamics, InferenceLearning, UnsupportedModule
from wild.networks import WILD

UPDATES = 3


def _parameters(wilds):
    return [
        pytest.param(
            wild,
            id=wild.name,
            marks=[
                *(pytest.mark.filterwarnings(warning) for warning in wild.warns),
                pytest.mark.skipif(not wild.needs, reason="this torch does not have it"),
            ],
        )
        for wild in wilds
    ]


every = pytest.mark.parametrize("wild", _parameters(WILD))
at_other_values = pytest.mark.parametrize("wild", _parameters([wild for wild in WILD if wild.dynamics]))


@pytest.fixture(autouse=True)
def _private_randomness():
    python, numpy = random.getstate(), np.random.get_state()
    yield
    random.setstate(python)
    np.random.set_state(numpy)


@contextlib.contextmanager
def default_dtype(dtype):
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(previous)


def updates(wild, make_rule, dtype, count=UPDATES):
    """Run ``count`` weight updates with SGD, and return what each leaves behind: dicts of tensors or plain values by name."""
    with default_dtype(dtype):
        model, loss_fn = wild.build()
        calls = []
        model.register_forward_pre_hook(lambda *_: calls.append(1))
        rule = make_rule(model)
        learning = nn.ModuleList([model, *([loss_fn] if isinstance(loss_fn, nn.Module) else [])])
        results = []
        for update in range(count):
            inputs, targets = wild.data(update)
            _seed(100 + update)
            learning.zero_grad(set_to_none=True)
            loss = rule.backward(inputs, targets, loss_fn)
            chance = {"torch": torch.get_rng_state(), "numpy": _numpy_state(), "random": random.getstate()[1]}
            found = {
                "loss": loss,
                "calls": len(calls),
                "gradients": {name: p.grad for name, p in learning.named_parameters()},
                "inputs": [(x, x.grad if x.is_leaf else None) for x in _tensors(inputs)],
                "buffers": dict(learning.named_buffers()),
                "counters": wild.counters(model),
                "received": wild.received(model),
                "chance": chance,
            }
            found = _copied(found)
            torch.optim.SGD([p for p in learning.parameters() if p.requires_grad], lr=0.1).step()
            found["parameters"] = _copied(dict(learning.named_parameters()))
            results.append(found)
        return results


def _seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _numpy_state():
    return torch.from_numpy(np.random.get_state()[1].astype(np.int64)), np.random.get_state()[2:]


def _tensors(value):
    """The tensors of the inputs, those inside objects included."""
    leaves = pytree.tree_leaves(value)
    leaves = [inner for leaf in leaves for inner in (vars(leaf).values() if hasattr(leaf, "edge_index") else [leaf])]
    leaves = [inner for leaf in leaves for inner in (leaf if isinstance(leaf, tuple) else [leaf])]
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _copied(value):
    """Numbers as they are now, of any layout, as ordinary tensors."""
    return pytree.tree_map(lambda x: _plain(x) if isinstance(x, torch.Tensor) else x, value)


def _plain(tensor):
    tensor = tensor.detach()
    tensor = tensor.to_dense() if tensor.layout in (torch.sparse_coo, torch.sparse_csr) else tensor
    return (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).clone()


def _flat(value):
    """``value`` as a dict from path to leaf, so that what differs has a name; None is a leaf."""
    leaves, _ = pytree.tree_flatten_with_path(value, is_leaf=lambda x: x is None)
    return {pytree.keystr(path): leaf for path, leaf in leaves}


def assert_same(actual, expected):
    """Every tensor in every bit, everything else by ==."""
    actual, expected = _flat(actual), _flat(expected)
    tensors = {name for name, leaf in expected.items() if isinstance(leaf, torch.Tensor)}
    tensors |= {name for name, leaf in actual.items() if isinstance(leaf, torch.Tensor)}
    plain = [{name: leaf for name, leaf in side.items() if name not in tensors} for side in (actual, expected)]
    assert plain[0] == plain[1]
    assert_same_bits(*({name: leaf for name, leaf in side.items() if name in tensors} for side in (actual, expected)))


def assert_close(actual, expected):
    """Every number to rounding, everything else by ==."""
    actual, expected = _flat(actual), _flat(expected)
    numbers = {name for name, leaf in expected.items() if isinstance(leaf, (torch.Tensor, float))}
    assert {n: x for n, x in actual.items() if n not in numbers} == {
        n: x for n, x in expected.items() if n not in numbers
    }
    torch.testing.assert_close(*({n: side[n] for n in numbers} for side in (actual, expected)), rtol=1e-9, atol=1e-12)


def once(results):
    """The part of the results that a rule has no influence on until the weights have been changed."""
    return [{name: found[name] for name in ("loss", "buffers", "counters", "chance")} for found in results]


@every
def test_zil_leaves_behind_what_backpropagation_does_bit_by_bit(wild):
    expected = updates(wild, Backprop, torch.float32)
    gradients = [found["gradients"] for found in expected]
    assert any(g is not None and g.count_nonzero() for found in gradients for g in found.values()), "nothing is learned"
    assert_same(updates(wild, ZIL, torch.float32), expected)
    # A network that does not repeat itself would say nothing of a rule.
    assert_same(updates(wild, Backprop, torch.float32, count=2), expected[:2])


@at_other_values
def test_dynamics_equal_backpropagation(wild):
    expected = updates(wild, Backprop, torch.float64, count=2)
    for a, b in zip(updates(wild, Dynamics, torch.float64, count=2), expected, strict=True):
        assert {n for n, g in a["gradients"].items() if g is None} == {
            n for n, g in b["gradients"].items() if g is None
        }
        assert relative_l2(a["gradients"], b["gradients"]) < wild.rounding
        assert_same(a["chance"], b["chance"])
        for part in ("buffers", "counters"):
            assert_close(a[part], b[part])
    # As far as anyone can tell, inference learning runs the forward once, too.
    actual = updates(wild, lambda model: InferenceLearning(model, steps=3), torch.float64, count=1)
    assert_same(once(actual), once(expected[:1]))


@pytest.mark.parametrize("wild", _parameters([wild for wild in WILD if wild.fixed and wild.name != "deep"]))
def test_what_cannot_be_evaluated_at_other_values_is_refused_or_right(wild):
    """Never a wrong gradient without a word."""
    (expected,) = updates(wild, Backprop, torch.float64, count=1)
    try:
        (actual,) = updates(wild, Dynamics, torch.float64, count=1)
    except Exception as error:
        # torch's own setters of .real and .imag make a SystemError of what is raised in them, its compiler one of its own.
        causes = (error, error.__cause__, getattr(error, "inner_exception", None))
        assert any(isinstance(cause, UnsupportedModule) for cause in causes), error
    else:
        assert relative_l2(actual["gradients"], expected["gradients"]) < wild.rounding
