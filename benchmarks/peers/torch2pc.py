"""Torch2PC (Rosenbaum, PLoS ONE 2022): one file, ``TorchSeq2PC.py``, of no package index; by its path.

``PCInfer(model, loss, inputs, targets, kind, eta, n)`` fills ``param.grad``. A module of its `nn.Sequential` is a layer; ours
are a linear map with its tanh. The loss keeps its mean, as with us. An iteration reads the errors before it moves the values,
so that n of them leave the errors of n − 1 steps: ``FixedPred`` with n is our fixed prediction with T = n − 1.
"""

import contextlib
import hashlib
import importlib.util
import io
from pathlib import Path
from types import ModuleType

from torch import nn

from benchmarks.peers.peer import Gradients, Peer, PeerRule
from benchmarks.peers.problem import Problem
from pcbench.errors import InvalidParameters, foreign_code
from pcbench.params import Settings

FILE = "TorchSeq2PC.py"
REMEDY = f"clone RobertRosenbaum/Torch2PC, and name that folder or its {FILE}"


def peer(path: Path | None) -> Peer:
    """Load the library.

    Args:
        path: of the file, or of the folder that holds it.

    Raises:
        InvalidParameters: there is no such file, or it is another library's.
    """
    if path is None:
        raise InvalidParameters(f"torch2pc is in no package index; {REMEDY} with --path")
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise InvalidParameters(f"{str(path)!r} is not Torch2PC, it has no {FILE}; {REMEDY}")
    module = loaded(file)

    def rule(kind, like, as_ours):
        return PeerRule(kind, like, lambda problem, options: _update(module, problem, kind, options)[1], False, as_ours)

    return Peer(
        name="torch2pc",
        title="Torch2PC",
        version=hashlib.sha256(file.read_bytes()).hexdigest()[:12],
        packages=(),
        backprop=lambda problem: _update(module, problem, "Exact", {}),
        rules={
            "torch2pc-exact": rule("Exact", "bp", dict),
            "torch2pc-fixed-prediction": rule("FixedPred", "fixed-prediction", _one_less),
            "torch2pc-strict": rule("Strict", "il", _one_less),
        },
    )


def loaded(file: Path) -> ModuleType:
    """Import the library's file.

    Raises:
        InvalidParameters: see `peer`.
    """
    spec = importlib.util.spec_from_file_location("TorchSeq2PC", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # It prints its name when it is imported.
    with foreign_code(f"{str(file)!r} cannot be imported", REMEDY), contextlib.redirect_stdout(io.StringIO()):
        spec.loader.exec_module(module)
    if not callable(getattr(module, "PCInfer", None)):
        raise InvalidParameters(f"{str(file)!r} is not Torch2PC, it has no function PCInfer; {REMEDY}")
    return module


def _one_less(options: Settings) -> Settings | None:
    return {**options, "steps": options["steps"] - 1} if options["steps"] > 1 else None


def _update(module: ModuleType, problem: Problem, kind: str, options: Settings) -> tuple[float, Gradients]:
    model = network(problem)
    numbers = {"eta": options["gamma"], "n": options["steps"]} if options else {}
    loss = module.PCInfer(model, nn.functional.cross_entropy, problem.inputs, problem.targets, kind, **numbers)[1]
    found = {}
    for layer, part in zip(problem.layers, model, strict=True):
        found |= dict(zip(problem.names(layer), (part[0].weight.grad, part[0].bias.grad), strict=True))
    return loss.item(), found


def network(problem: Problem) -> nn.Sequential:
    """The chain as the library takes it: a module for each layer."""
    return nn.Sequential(*map(_module, problem.layers))


def _module(layer):
    linear = nn.Linear(layer.weight.shape[1], layer.weight.shape[0], dtype=layer.weight.dtype)
    linear.weight.data.copy_(layer.weight)
    linear.bias.data.copy_(layer.bias)
    return nn.Sequential(linear, *([nn.Tanh()] if layer.tanh else []))
