"""A model as a directed acyclic graph of vertices, made of one run of its forward (docs/architecture.md).

A **vertex** is one parametrised operation together with the parameter-free operations that follow it; merges (add,
multiply, concatenate) that join branches are vertices of their own. What depends on parameters alone (a normalised
weight) belongs to the vertices that read it. The inputs are *clamped*: they carry no error.

A vertex's **level** is its distance from the output, 1 + the largest level among its children: the time step at which
the error wave of Z-IL has reached it completely. In a *levelled* graph every edge spans exactly one level.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

from torch import Tensor, nn

from pcbench.errors import InvalidParameters
from pcbench.nn.convert import copied
from pcbench.passing import edge_of
from pcbench.randomness import kept_randomness
from pcbench.recording import Operation, Recording, Value

GRANULARITIES = ("layer", "operation")


@dataclass(frozen=True)
class Vertex:
    """One elementary function g(x_parents; θ) of the graph.

    Attributes:
        name: the path of the module whose parameters it reads, otherwise the operation's name.
        parents: positions in `Graph.vertices` of the values that it reads.
        predict: maps the parents' values to the prediction μ; a value is a tuple of tensors, nearly always of one. Its
            parents must be detached: then the autograd graph that it builds ends at them, and spans this vertex only.
            What it reads of the inputs is the batch that the graph was made on. None for the inputs.
        parameters: θ by qualified name; empty for merges and identities.
        clamped: whether it is an input, and hence has no error.
        level: the distance from the output; None if clamped, or if nothing that is returned depends on it.
    """

    name: str
    parents: tuple[int, ...] = ()
    predict: Callable[..., tuple[Tensor, ...]] | None = field(default=None, repr=False)
    parameters: dict[str, Tensor] = field(default_factory=dict, repr=False)
    clamped: bool = False
    level: int | None = None


@dataclass(frozen=True)
class Graph:
    """Vertices in execution order (inputs first), and where the model's outputs are read.

    Attributes:
        vertices: in the order in which the model's forward has run them; parents come before children.
        inputs: how many of the first vertices are the input tensors.
        outputs: positions of the vertices whose values the model returns, each at level 0.
    """

    vertices: tuple[Vertex, ...]
    inputs: int
    outputs: tuple[int, ...]

    @classmethod
    def from_module(cls, model: nn.Module, inputs: Any, *, granularity: str = "layer") -> "Graph":
        """Run a copy of ``model`` on ``inputs`` (a tensor, or a tuple as forward takes them) and return its graph.

        Args:
            granularity: ``"layer"`` (the vertices described above) or ``"operation"`` (every operation alone).

        Raises:
            UnsupportedModule: a value arose in a way that cannot be evaluated again; names the module and the line.
            InvalidParameters: unknown granularity.
        """
        inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        model = copied(model)
        with kept_randomness():
            recording = Recording(model, tensors_of(inputs))
            with recording:
                outputs = model(*inputs)
        return Run(model, recording, inputs, outputs, granularity).graph

    @property
    def depth(self) -> int:
        """The largest level: the time that the error wave takes from the output to the first layer."""
        return max((v.level for v in self.vertices if v.level is not None), default=0)

    def levelled(self) -> "Graph":
        """Return the graph with identity vertices on every edge that skips levels, one chain per value, shared."""
        children: list[list[Any]] = [[] for _ in self.vertices]
        for vertex in self.vertices:
            for parent in set(vertex.parents) if vertex.level is not None else ():
                children[parent].append(vertex.level)
        vertices: list[Vertex] = []
        moved: dict[tuple[int, int | None], int] = {}  # moved[old position, level at which it is read] = new position
        for position, vertex in enumerate(self.vertices):
            parents = tuple(moved.get((p, vertex.level), moved[p, None]) for p in vertex.parents)
            moved[position, None] = len(vertices)
            vertices.append(replace(vertex, parents=parents))
            if vertex.clamped or vertex.level is None:
                continue
            for level in range(vertex.level - 1, min(children[position], default=vertex.level), -1):
                vertices.append(Vertex(f"{vertex.name}@{level}", (len(vertices) - 1,), identity, level=level))
                moved[position, level - 1] = len(vertices) - 1
        return replace(
            self, vertices=tuple(vertices), outputs=tuple(moved[position, None] for position in self.outputs)
        )

    def __str__(self) -> str:
        rows = [f"{'level':>5}  {'vertex':32}  {'parents':32}  parameters"]
        for vertex in self.vertices:
            level = "" if vertex.level is None else vertex.level
            parents = ", ".join(self.vertices[p].name for p in vertex.parents)
            rows.append(f"{level:>5}  {vertex.name:32}  {parents:32}  {', '.join(vertex.parameters)}".rstrip())
        return "\n".join(rows)


def identity(value: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return ``value``: the function of the vertices that only carry an error onwards."""
    return value


class Run:
    """One recorded run of a model: its graph, and the function of the outputs that came after it, the loss.

    Args:
        model, inputs, outputs: what ran, on what arguments, and what it returned.
        recording: of its forward and, if there was one, of its loss.
        of_model: how many of the recorded operations are the model's, the others being the loss's; None if all are.
        loss: what the loss has returned.

    Attributes:
        graph: `Graph`.

    Raises:
        InvalidParameters: unknown granularity.
        UnsupportedModule: see `pcbench.recording.Recording.value`.
    """

    def __init__(
        self,
        model: nn.Module,
        recording: Recording,
        inputs: tuple[Any, ...],
        outputs: Any,
        granularity: str = "layer",
        of_model: int | None = None,
        loss: Tensor | None = None,
    ) -> None:
        if granularity not in GRANULARITIES:
            raise InvalidParameters(f"granularity {granularity!r} is none of {', '.join(GRANULARITIES)}")
        of_model = len(recording.operations) if of_model is None else of_model
        operations, self._after = recording.operations[:of_model], recording.operations[of_model:]
        returned = [recording.value(t) for t in tensors_of(outputs) if t.requires_grad and edge_of(t)]
        read = [value for operation in self._after for value in operation.reads if value.operation < of_model]
        self._first_after = of_model
        self._loss = None if loss is None else recording.value(loss)
        if self._loss is not None and self._loss.operation < of_model:
            read.append(self._loss)  # the model has computed it itself
        self._returned: dict[Value, Any] = dict.fromkeys((*returned, *read))
        _isolate_outputs(operations, self._returned)
        names = {id(p): name for name, p in model.named_parameters()}
        self._groups = _grouped(operations, self._returned, merge_chains=granularity == "layer")
        self._last = {group[-1]: position for position, group in enumerate(self._groups)}
        self.graph = self._graph(operations, tensors_of(inputs), names)

    def _graph(self, operations, inputs, names):
        vertices = [Vertex(f"input_{i}", clamped=True) for i in range(len(inputs))]
        used = Counter()
        for group in self._groups:
            members = [operations[number] for number in group]
            parameters = {id(p): p for operation in members for p in operation.parameters}
            parameters = {names.get(i, f"leaf {p.dtype} {tuple(p.shape)}"): p for i, p in parameters.items()}
            # It reads what operations outside of it have made: the last of a vertex each.
            reads = dict.fromkeys(v.operation for o in members for v in o.reads if v.operation not in group)
            clamped = {i for operation in members for i in operation.inputs}
            parents = (*sorted(clamped), *(len(inputs) + self._last[number] for number in reads))
            name = _module_of(parameters)
            if not name:
                name = next((o.name for o in members if o.parameters or o.reads), members[0].name)
                used[name] += 1
                name = name if used[name] == 1 else f"{name}_{used[name] - 1}"
            predict = _Chain(tuple(zip(group, members, strict=True)), len(clamped), tuple(reads))
            vertices.append(Vertex(name, parents, predict, parameters))
        outputs = tuple(dict.fromkeys(len(inputs) + self._last[v.operation] for v in self._returned.values()))
        return Graph(_with_levels(vertices, outputs), len(inputs), outputs)

    def loss(self, outputs: Sequence[tuple[Tensor, ...]]) -> Tensor:
        """The loss of the model's output values, computed by the operations that came after the model.

        Args:
            outputs: the values of the vertices at ``graph.outputs``, in that order.

        Returns:
            A tensor with one element, with its history from these values on.
        """
        first = [self._groups[position - self.graph.inputs][-1] for position in self.graph.outputs]
        made = dict(zip(first, outputs, strict=True))
        at: dict[Value | None, Tensor] = {old: made[new.operation][new.number] for old, new in self._returned.items()}
        for number, operation in enumerate(self._after, self._first_after):
            results = operation.call(at.__getitem__)
            at.update((Value(number, i), result) for i, result in enumerate(results))
        return at[self._loss]


@dataclass(frozen=True)
class _Chain:
    """The local function of a vertex: recorded operations, run one after another on the parents' values."""

    members: tuple[tuple[int, Operation], ...]
    clamped: int
    reads: tuple[int, ...]

    def __call__(self, *values):
        at = {
            Value(operation, i): tensor
            for operation, value in zip(self.reads, values[self.clamped :], strict=True)
            for i, tensor in enumerate(value)
        }
        for number, operation in self.members:
            results = operation.call(at.__getitem__)
            at.update((Value(number, i), result) for i, result in enumerate(results))
        return results


def _isolate_outputs(operations, returned):
    """Put an identity behind every returned value that is read elsewhere too, so that every output has level 0.

    Args:
        operations: is appended to.
        returned: by returned value, is filled in with the value that stands for it.
    """
    readers = Counter(number for o in operations for number in {v.operation for v in o.reads})
    for value in returned:
        returned[value] = value
        if readers[value.operation]:
            operations.append(Operation("output", lambda at, value=value: (at(value),), (value,)))
            returned[value] = Value(len(operations) - 1, 0)


def _grouped(operations, returned, merge_chains):
    """The numbers of the operations of each vertex; what depends on parameters alone is in all vertices that read it."""
    readers = [set() for _ in operations]
    for number, operation in enumerate(operations):
        for value in operation.reads:
            readers[value.operation].add(number)
    outputs = {value.operation for value in returned.values()}
    alone, groups, holder = {}, [], {}
    for number, operation in enumerate(operations):
        made = dict.fromkeys(v.operation for v in operation.reads)
        reads = [o for o in made if o not in alone]
        members = list(dict.fromkeys((*(m for o in made if o in alone for m in alone[o]), number)))
        if not reads and not operation.inputs and number not in outputs:
            alone[number] = members
            continue
        follows = (
            merge_chains
            and len(made) == len(reads) == 1
            and not operation.parameters
            and operation.name != "output"
            and len(readers[reads[0]]) == 1
            # Only neighbours, as vertices are in the order of their operations.
            and holder.get(reads[0]) == len(groups) - 1
        )
        if follows:
            groups[-1].append(number)
        else:
            groups.append(members)
        holder[number] = len(groups) - 1
    return groups


def _module_of(parameters):
    """The path of the module that holds all these parameters; empty if there is none but the model itself."""
    owners = [name.split(".parametrizations.")[0].split(".") for name in parameters]
    owners = [o if ".parametrizations." in n else o[:-1] for o, n in zip(owners, parameters, strict=True)]
    return ".".join(same[0] for same in takewhile(lambda parts: len(set(parts)) == 1, zip(*owners, strict=False)))


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors in what a model is given or returns: a tensor, a container, a dataclass or another plain object."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    elif not isinstance(value, (tuple, list)):
        value = [] if isinstance(value, (nn.Module, type)) else list(getattr(value, "__dict__", {}).values())
    return [tensor for item in value for tensor in tensors_of(item)]


def _with_levels(vertices, outputs):
    """Give each vertex 1 + the largest level of its children; outputs have level 0, clamped vertices none."""
    levels = [None] * len(vertices)
    for output in outputs:
        levels[output] = 0
    for position in reversed(range(len(vertices))):
        if vertices[position].clamped:
            levels[position] = None
        elif levels[position] is not None:
            for parent in vertices[position].parents:
                levels[parent] = max(levels[position] + 1, -1 if levels[parent] is None else levels[parent])
    return tuple(
        replace(vertex, level=None if vertex.clamped else level) for vertex, level in zip(vertices, levels, strict=True)
    )
