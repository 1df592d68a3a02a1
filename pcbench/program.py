"""A weight update as a program: the ATen operations of forward, loss, local products and sums, captured and compared.

Two rules whose programs are the same compute the same bits from every input of those shapes, not only from the batches
that somebody has tried. `Program.canonical` gives each operation a digest of what it computes: of the operation, its plain
arguments and the digests of what it reads, whatever names and order the capture has given them. In it

* ``detach`` and ``alias`` vanish, and what no result depends on; equal constants are one;
* memory has a history: what is read is what has been written there last, through whichever view;
* random draws are numbered in their order, whatever they are drawn for;
* the operands of one addition or product may be exchanged, which changes no bit; sums keep their order, which does.
"""

import hashlib
import operator
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import fx, nn
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from pcbench.errors import UnsupportedModule, told
from pcbench.randomness import random_digest

aten = torch.ops.aten
_GETITEM = operator.getitem
_OWN = os.path.dirname(__file__)
_LIBRARIES = tuple(os.path.join(folder, "") for folder in (os.path.dirname(torch.__file__), _OWN))
_MODELS = os.path.join(_OWN, "tasks", "")  # of a library, but a model's own lines
PASSED_ON = {aten.detach.default, aten.alias.default, aten.lift_fresh.default}
_COMMUTATIVE = {aten.add.Tensor, aten.mul.Tensor}
# They write into arguments without saying so in their schemas: the positions of these.
_STATISTICS = {
    aten.native_batch_norm.default: (3, 4),
    aten.cudnn_batch_norm.default: (3, 4),
    aten.miopen_batch_norm.default: (3, 4),
}


@dataclass(frozen=True)
class Step:
    """One operation of a canonical program.

    Attributes:
        digest: of what it computes.
        name: the operation's, ``aten.mm.default``.
        line: the line of the model, ``file:number``, that made it or what it reads; None if unknown.
    """

    digest: str
    name: str
    line: str | None


@dataclass(frozen=True)
class Canonical:
    """What a program computes, apart from how it was written down.

    Attributes:
        results: the digest of the loss, of each gradient and of each tensor that is left changed, by name.
        steps: the operations on which these depend, each once, in the program's order.
        draws: how many random draws it makes.
    """

    results: dict[str, str]
    steps: tuple[Step, ...]
    draws: int

    @property
    def digest(self) -> str:
        """One digest of all results."""
        return _digest(sorted(self.results.items()), self.draws)


@dataclass
class Program:
    """One weight update of a rule, captured.

    Attributes:
        module: the program; its arguments are the tensors of inputs and targets, its results the loss and the gradients.
        learners: the tensors to which the gradients belong, in order.
        names: what the tensors that it reads beside its arguments are called, by id.
    """

    module: fx.GraphModule
    learners: list[torch.Tensor]
    names: dict[int, str] = field(repr=False)

    @property
    def operations(self) -> int:
        """How many operations a weight update takes."""
        return sum(node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload) for node in self.nodes)

    @property
    def nodes(self) -> Iterable[fx.Node]:
        """The nodes of the program's graph."""
        return self.module.graph.nodes

    def canonical(self) -> Canonical:
        """See `Canonical`."""
        return _Canoniser(self).canonical()


def batch_tensors(inputs: Any, targets: Any) -> tuple[list[torch.Tensor], Callable[[Iterable[torch.Tensor]], Any]]:
    """The tensors among inputs and targets, and a function that puts others in their places: ``(inputs, targets)``."""
    leaves, structure = pytree.tree_flatten((inputs, targets))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

    def filled(tensors):
        values = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            values[place] = tensor
        return pytree.tree_unflatten(values, structure)

    return [leaves[place] for place in places], filled


class _Rule(Protocol):
    """What is captured: `pcbench.rules.Rule`, of which this room knows nothing."""

    model: nn.Module

    def gradients(
        self, inputs: Any, targets: Any, loss_fn: Callable[[Any, Any], torch.Tensor]
    ) -> tuple[torch.Tensor, dict[torch.Tensor, torch.Tensor]]: ...


def capture(
    rule: _Rule, inputs: Any, targets: Any, loss_fn: Callable[[Any, Any], torch.Tensor], lines: bool = True
) -> tuple[Program, torch.Tensor, dict[torch.Tensor, torch.Tensor]]:
    """Run one weight update of ``rule`` on real data, and return its `Program` and what it has computed.

    Nothing is left in ``param.grad``; buffers and random state advance as they do in every update.

    Args:
        rule, inputs, targets, loss_fn: see `pcbench.rules.Rule.backward`.
        lines: whether each operation is to know the model's line that made it, which takes time.

    Returns:
        ``(program, loss, {tensor: gradient})``.

    Raises:
        UnsupportedModule: what happens depends on the values of tensors, or on chance that is not torch's; names the line.
    """
    tensors, filled = batch_tensors(inputs, targets)
    found: list[Any] = []
    before = random_digest(torchs=False)

    def update(*traced):
        loss, gradients = rule.gradients(*filled(traced), loss_fn)
        found[:] = [loss, gradients]
        return loss, list(gradients.values())

    keywords: Any = make_fx.__kwdefaults__
    options: dict[str, Any] = {"record_stack_traces": lines} if "record_stack_traces" in keywords else {}
    try:
        # It notes each result without its data. Where no mode for that is given it makes one every time: half of its time.
        with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
            module = make_fx(update, tracing_mode="real", **options)(*tensors)
    except RuntimeError as error:
        if "data-dependent" not in str(error) and "tracing tensor" not in str(error):
            raise
        raise UnsupportedModule(
            f"{type(rule.model).__name__} cannot be captured as a program: what it does depends on the values of tensors "
            f"({told(error)}); use the rule as it is"
        ) from error
    for node in module.graph.nodes:
        if _has_a_shape_of_its_own(node):
            raise UnsupportedModule(
                f"{type(rule.model).__name__} cannot be captured as a program: the shape of what {node.target} gives depends "
                f"on the values of tensors ({_line(node) or 'its line is not known'}); use the rule as it is"
            )
    if random_digest(torchs=False) != before:
        raise UnsupportedModule(
            f"{type(rule.model).__name__} cannot be captured as a program: its forward draws from NumPy's or Python's random "
            "numbers, which a program would not draw again; use the rule as it is"
        )
    names = {id(p): f"parameter {name}" for name, p in rule.model.named_parameters()}
    names |= {id(b): f"buffer {name}" for name, b in rule.model.named_buffers()}
    loss, gradients = found
    return Program(module, list(gradients), names), loss, gradients


class _Canoniser:
    """Walks a program once and digests what each node computes."""

    def __init__(self, program):
        self._program = program
        self._memory = {}  # root of a piece of memory: digest of what is in it
        self._place = {}  # node: (root, digest of the way from the root to the node's own view of it), or a tuple of nodes
        self._steps, self._made_by, self._lines = {}, {}, {}
        self._draws, self._inputs = 0, 0
        self._outside = {}  # by root the names of tensors from outside
        self._written = {}  # by name the roots of those of them that are written to

    def canonical(self):
        results = {}
        for node in self._program.nodes:
            if node.op == "output":
                loss, gradients = node.args[0]
                results["loss"] = self._of(loss)
                for learner, gradient in zip(self._program.learners, gradients, strict=True):
                    results[f"gradient of {self._name(learner)}"] = self._of(gradient)
            else:
                self._visit(node)
        results |= {f"{name} afterwards": self._memory[root] for name, root in self._written.items()}
        needed, pending = set(), list(results.values())
        while pending:
            digest = pending.pop()
            if digest not in needed and digest in self._made_by:
                needed.add(digest)
                pending += self._made_by[digest]
        steps = tuple(step for digest, step in self._steps.items() if digest in needed)
        return Canonical(results, steps, self._draws)

    def _name(self, tensor):
        return self._program.names.get(id(tensor), f"{tensor.dtype} {tuple(tensor.shape)} outside of the model")

    def _of(self, node):
        """The digest of what is in a node's place now."""
        if not isinstance(node, fx.Node):
            return _digest(str(node))
        root, way = self._place[node]
        return self._memory[root] if way is None else _digest(way, self._memory[root])

    def _visit(self, node):
        if node.op == "placeholder":
            self._at_new_root(node, _digest("input", self._inputs))
            self._inputs += 1
        elif node.op == "get_attr":
            self._constant(node)
        elif node.target is _GETITEM:
            self._item(node)
        else:
            self._operation(node)

    def _at_new_root(self, node, digest):
        self._memory[node], self._place[node] = digest, (node, None)

    def _constant(self, node):
        tensor = getattr(self._program.module, node.target)
        if not isinstance(tensor, torch.Tensor):  # a generator
            self._at_new_root(node, _digest("object", type(tensor).__name__, node.target))
            return
        name = self._program.names.get(id(tensor))
        root = ("constant", id(tensor))
        if root not in self._memory:
            data = tensor.detach().cpu().contiguous()
            self._memory[root] = _digest(name) if name else _digest(str(data.dtype), tuple(data.shape), data.tolist())
            self._outside[root] = name or f"constant {self._memory[root][:8]}"
        self._place[node] = (root, None)

    def _item(self, node):
        source, index = node.args
        place = self._place[source]
        if isinstance(place, dict):  # one of several views, as of chunk
            root, way = place["view"]
            self._place[node] = (root, _digest(way, "item", index))
        else:
            self._at_new_root(node, _digest(self._of(source), "item", index))
            self._made_by[self._memory[node]] = [self._of(source)]

    def _operation(self, node):
        target, reads = node.target, node.all_input_nodes
        line = _line(node) or next((self._lines[n] for n in reversed(reads) if self._lines.get(n)), None)
        self._lines[node] = line
        if target in PASSED_ON:
            self._place[node] = self._place[node.args[0]]
            return
        schema = getattr(target, "_schema", None)
        plain = fx.node.map_arg((node.args, node.kwargs), self._of)
        arguments = [plain[0], sorted(plain[1].items())]
        if target in _COMMUTATIVE and not plain[1] and len(node.args) == 2:
            arguments = sorted(map(str, plain[0]))
        draw = ()
        if torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()):
            self._draws += 1
            draw = ("draw", self._draws)
        aliased = _aliased(schema)
        if aliased and not schema.is_mutable:
            source = node.args[aliased[0]]
            root, way = (
                self._place[source] if not isinstance(self._place[source], dict) else self._place[source]["view"]
            )
            rest = fx.node.map_arg((node.args[1:], node.kwargs), self._of)
            way = _digest(way, str(target), rest)
            returns_many = not isinstance(schema.returns[0].type, torch.TensorType)
            self._place[node] = {"view": (root, way)} if returns_many else (root, way)
            self._step(_digest(way, self._memory[root]), node, [self._memory[root]], line)
            return
        digest = _digest(str(target), arguments, *draw)
        self._step(digest, node, [self._of(n) for n in reads], line)
        for position in written_positions(target, schema):
            argument = node.args[position] if position < len(node.args) else None
            for written in argument if isinstance(argument, (list, tuple)) else [argument]:
                if isinstance(written, fx.Node):
                    self._write(written, digest, position)
        if schema is not None and schema.is_mutable and aliased:
            self._place[node] = self._place[node.args[aliased[0]]]
        else:
            self._at_new_root(node, digest)

    def _write(self, node, digest, position):
        root, way = self._place[node]
        before = self._memory[root]
        self._memory[root] = _digest("written", before, way, digest, position)
        self._made_by[self._memory[root]] = [before, digest]
        if root in self._outside:
            self._written[self._outside[root]] = root

    def _step(self, digest, node, reads, line):
        if digest not in self._steps:
            self._steps[digest] = Step(digest, str(node.target), line)
            self._made_by[digest] = reads


def _has_a_shape_of_its_own(node):
    """Whether the values of an operation's operands decide on the shape of its result, which a program takes as given."""
    if torch.Tag.dynamic_output_shape not in getattr(node.target, "tags", ()):
        return False
    if node.target is not aten.index.Tensor:
        return True
    indices = [index.meta.get("val") for index in node.args[1] if isinstance(index, fx.Node)]
    return any(value is None or value.dtype in (torch.bool, torch.uint8) for value in indices)


def _digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _aliased(schema):
    """The positions of the arguments of whose memory an operation returns a part, or into which it writes."""
    if schema is None or not any(r.alias_info for r in schema.returns):
        return ()
    return [i for i, argument in enumerate(schema.arguments) if argument.alias_info]


def written_positions(target: Any, schema: Any) -> Sequence[int]:
    """The positions of the arguments into which an operation writes.

    Args:
        target: what an `fx.Node` calls.
        schema: the operation's, ``target._schema``; None if it has none.
    """
    if target in _STATISTICS:
        return _STATISTICS[target]
    if schema is None or not schema.is_mutable:
        return ()
    return [i for i, argument in enumerate(schema.arguments) if argument.alias_info and argument.alias_info.is_write]


def _line(node):
    """The innermost line of the user's in a node's stack trace."""
    lines = [line for line in (node.stack_trace or "").splitlines() if line.lstrip().startswith("File ")]
    for line in reversed(lines):
        file, number = line.split('"')[1], line.split("line ")[1].split(",")[0]
        if file.startswith(_MODELS) or not file.startswith((*_LIBRARIES, "<")):
            return f"{file}:{number}"
    return None
