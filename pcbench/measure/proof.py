"""The certificate: whether a rule's weight update is the same program as backpropagation's."""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pcbench import nn as counterparts
from pcbench.errors import UnsupportedModule
from pcbench.measure.divergence import clone_tensors
from pcbench.nn.convert import copied
from pcbench.params import Result
from pcbench.program import Canonical, Step, capture
from pcbench.randomness import kept_randomness
from pcbench.rules import Backprop, Loss, Rule, by_name

_PACKAGE = os.path.dirname(os.path.dirname(__file__))
_HOMES = tuple(os.path.join(os.path.dirname(each), "") for each in (os.path.dirname(torch.__file__), _PACKAGE))

RESTS_ON = (
    "It holds for every input of these shapes and dtypes, with the weights and buffers that the programs read, in this mode. "
    "It rests on PyTorch's kernels giving the same bits for the same operation on the same operands, memory layout and "
    "number of threads, on capturing the operations that really run, and on a digest (SHA-256) that no two operations share."
)


@dataclass(frozen=True)
class Difference:
    """Where two programs part.

    Attributes:
        result: the first result that differs, such as ``gradient of parameter 0.weight``.
        step: the rule's first operation that backpropagation's program does not have; None if it has all of them.
        expected: backpropagation's first operation that the rule's program does not have; None if it has all of them.
        explanation: what that means.
    """

    result: str
    step: Step | None
    expected: Step | None
    explanation: str

    def __str__(self) -> str:
        lines = [f"first result that differs: {self.result}"]
        for whose, step in (("the rule's", self.step), ("backpropagation's", self.expected)):
            if step is not None:
                lines.append(f"{whose} first own operation: {step.name}" + (f", {step.line}" if step.line else ""))
        return "\n".join([*lines, self.explanation])


@dataclass(frozen=True)
class Certificate:
    """What `prove` has found; printable.

    Attributes:
        equal: whether both programs compute the same.
        operations: how many operations backpropagation's program has in canonical form.
        own_operations: how many the rule's has.
        digest: the canonical digest of the rule's program.
        first_difference: `Difference`; None if they are equal.
        rests_on: what the certificate supposes.
    """

    equal: bool
    operations: int
    own_operations: int
    digest: str
    first_difference: Difference | None
    rests_on: str = RESTS_ON

    def __str__(self) -> str:
        if self.equal:
            return f"equal: the same program of {self.operations} operations, {self.digest}\n{self.rests_on}"
        return (
            f"not equal: {self.own_operations} operations against backpropagation's {self.operations}\n"
            f"{self.first_difference}"
        )


def prove(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    loss_fn: Loss,
    rule: str | Callable[[nn.Module], Rule] = "zil",
    lines: bool = True,
    convert: bool = True,
    **options: Any,
) -> Certificate:
    """Compare the program of one weight update of a rule with backpropagation's, operation for operation.

    Args:
        model, inputs, targets, loss_fn: see `pcbench.divergence`; ``model`` is left as it is.
        rule: a rule's name, see `pcbench.rules.by_name`, with its ``options``; or a function from a model to a rule.
        lines: whether a difference names the model's line, which takes time, also where there is none.
        convert: see `pcbench.divergence`.

    Returns:
        `Certificate`.

    Raises:
        UnsupportedModule: an update is no program; see `pcbench.program.capture`.
        InvalidParameters: no such rule, or it has no such option.
    """
    model = counterparts.convert(model) if convert else model
    make = rule if callable(rule) else lambda m: by_name(rule, m, **options)
    expected, actual = (canonical_update(model, r, inputs, targets, loss_fn, lines) for r in (Backprop, make))
    return certify(actual, expected)


def certify(actual: Canonical, expected: Canonical) -> Certificate:
    """The `Certificate` of a rule's program against backpropagation's, both in `pcbench.program.Canonical` form."""
    difference = None if actual.digest == expected.digest else _difference(actual, expected)
    return Certificate(difference is None, len(expected.steps), len(actual.steps), actual.digest, difference)


def as_metrics(make_certificate: Callable[[], Certificate]) -> Result:
    """What ``make_certificate()`` finds as a JSON value: a certificate's figures, or only ``refused``, the reason for none.

    Lines are relative to the repository or to site-packages: the same on every machine.
    """
    try:
        found = make_certificate()
    except UnsupportedModule as refusal:
        return {"refused": _portable(str(refusal))}
    metrics = {key: getattr(found, key) for key in ("equal", "operations", "own_operations", "digest")}
    if (parting := found.first_difference) is not None:
        step, expected = ({} if each is None else vars(each) for each in (parting.step, parting.expected))
        metrics |= {"result": parting.result, "step": step.get("name"), "expected": expected.get("name")}
        metrics |= {"line": step.get("line") or expected.get("line"), "explanation": parting.explanation}
        metrics["line"] = metrics["line"] and _portable(metrics["line"])
    return metrics


def _portable(text):
    for home in _HOMES:
        text = text.replace(home, "")
    return text


def canonical_update(
    model: nn.Module,
    make_rule: Callable[[nn.Module], Rule],
    inputs: Any,
    targets: Any,
    loss_fn: Loss,
    lines: bool = True,
) -> Canonical:
    """The `pcbench.program.Canonical` form of one weight update of ``make_rule(model)``, captured on copies.

    Raises:
        UnsupportedModule: the update is no program, or the model cannot be copied.
    """
    model, loss_fn = copied(model), copy.deepcopy(loss_fn) if isinstance(loss_fn, nn.Module) else loss_fn
    inputs, targets = clone_tensors((inputs, targets))
    with kept_randomness():
        program, *_ = capture(make_rule(model), inputs, targets, loss_fn, lines)
    return program.canonical()


def _difference(actual, expected):
    # What is left changed first: whoever reads it later computes something else for that reason alone.
    names = sorted(
        dict.fromkeys((*expected.results, *actual.results)), key=lambda name: not name.endswith("afterwards")
    )
    result = next((n for n in names if actual.results.get(n) != expected.results.get(n)), "the number of random draws")
    known = [{step.digest for step in program.steps} for program in (actual, expected)]
    own = [s for s in actual.steps if s.digest not in known[1]]
    lacking = [s for s in expected.steps if s.digest not in known[0]]
    explanation = f"{_explained(result, own, lacking, actual, expected)} {_counted(own, lacking, actual, expected)}"
    return Difference(result, next(iter(own), None), next(iter(lacking), None), explanation)


def _counted(own, lacking, actual, expected):
    return (
        f"{len(own)} of the rule's {len(actual.steps)} operations are not backpropagation's, and it lacks {len(lacking)} of "
        f"backpropagation's {len(expected.steps)}."
    )


def _explained(result, own, lacking, actual, expected):
    if result not in actual.results:
        return f"the rule has no {result} at all."
    if result not in expected.results:
        return f"backpropagation has no {result}: the rule computes what no loss asks for."
    if actual.draws != expected.draws:
        return f"the rule draws random numbers {actual.draws} times, backpropagation {expected.draws} times."
    if result.endswith("afterwards"):
        return "it is written to with other values, or another number of times."
    if not own:
        return (
            "the rule computes nothing that backpropagation does not, but leaves something out, or puts it elsewhere."
        )
    if lacking and own[0].name == lacking[0].name:
        return "the same operation is applied to other operands: what it reads, or the order of a sum, is not the same."
    return "up to there both are the same program."
