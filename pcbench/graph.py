"""A model as a directed acyclic graph of vertices, each a local function of its parents (design page, section 2).

A **vertex** is one parametrised operation together with the parameter-free operations that follow it; merges (add,
multiply, concatenate) that join branches are vertices of their own. Values that depend on no parameter (the inputs, and
functions of them alone) are *clamped*: they carry no error.

A vertex's **level** is its distance from the output, 1 + the largest level among its children: the time step at which
the error wave of Z-IL has reached it completely. In a *levelled* graph every edge spans exactly one level.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from pcbench._trace import trace
from pcbench.errors import InvalidParameters

GRANULARITIES = ("layer", "operation")


@dataclass(frozen=True)
class Vertex:
    """One elementary function g(x_parents; θ) of the graph.

    Attributes:
        name: the module's path, or the operation's name, as in the model.
        parents: positions in `Graph.vertices` of the values that it reads.
        predict: maps the parents' values to the prediction μ, a tensor or a pytree of tensors. Its parents must be
            detached: then the autograd graph that it builds ends at them, and spans this vertex only.
        parameters: θ by qualified name; empty for merges, identities and clamped vertices.
        clamped: whether it depends on no parameter (an input, or a function of inputs), and hence has no error.
        level: the distance from the output; None if clamped, or if nothing that is returned depends on it.
    """

    name: str
    parents: tuple[int, ...] = ()
    predict: Callable[..., Any] | None = field(default=None, repr=False)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict, repr=False)
    clamped: bool = False
    level: int | None = None


@dataclass(frozen=True)
class Graph:
    """Vertices in execution order (inputs first), and where the model's outputs are read.

    Attributes:
        vertices: in the order in which the model's forward runs them; parents come before children.
        inputs: how many of the first vertices are the input tensors.
        outputs: positions of the vertices whose values the model returns, each at level 0.
        assemble: puts the values at ``outputs`` into what the model returns (a tensor, tuple, dict, ...).
    """

    vertices: tuple[Vertex, ...]
    inputs: int
    outputs: tuple[int, ...]
    assemble: Callable[[list], Any] = field(repr=False)

    @classmethod
    def from_module(cls, model, inputs, *, granularity="layer", leaves=()):
        """Trace ``model`` on example ``inputs`` (a tensor, or a tuple as forward takes them; only their shapes matter).

        Args:
            granularity: ``"layer"`` (the design page's vertices) or ``"operation"`` (every traced operation alone).
            leaves: module classes that are kept whole, as one vertex each; torch.nn's layers are.

        Raises:
            UnsupportedModule: the forward is no fixed graph of local functions; names the module and the line.
            InvalidParameters: unknown granularity.
        """
        if granularity not in GRANULARITIES:
            raise InvalidParameters(f"granularity {granularity!r} is none of {', '.join(GRANULARITIES)}")
        inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        traced = trace(model, inputs, leaves)
        return _build(model, traced, merge_chains=granularity == "layer")

    @property
    def depth(self):
        """The largest level: the time that the error wave takes from the output to the first layer."""
        return max((v.level for v in self.vertices if v.level is not None), default=0)

    def levelled(self):
        """Return the graph with identity vertices on every edge that skips levels, one chain per value, shared."""
        children = [[] for _ in self.vertices]
        for vertex in self.vertices:
            for parent in set(vertex.parents) if vertex.level is not None else ():
                children[parent].append(vertex.level)
        vertices, moved = [], {}  # moved[old position, level at which it is read] = new position
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

    def __str__(self):
        rows = [f"{'level':>5}  {'vertex':32}  {'parents':32}  parameters"]
        for vertex in self.vertices:
            level = "" if vertex.level is None else vertex.level
            parents = ", ".join(self.vertices[p].name for p in vertex.parents)
            rows.append(f"{level:>5}  {vertex.name:32}  {parents:32}  {', '.join(vertex.parameters)}".rstrip())
        return "\n".join(rows)


def identity(value):
    """Return ``value``: the function of the vertices that only carry an error onwards."""
    return value


@dataclass(frozen=True)
class _Chain:
    """The local function of a vertex: traced nodes, run one after another on the parents' values."""

    model: nn.Module
    nodes: tuple[fx.Node, ...]
    reads: tuple[fx.Node, ...]

    def __call__(self, *values):
        environment = dict(zip(self.reads, values, strict=True))
        for node in self.nodes:
            environment[node] = _run(self.model, node, environment)
        return environment[self.nodes[-1]]


def _run(model, node, environment):
    def value(argument):
        if argument.op != "get_attr":
            return environment[argument]
        if "constant" in argument.meta:
            return argument.meta["constant"]
        return operator.attrgetter(argument.target)(model)

    args, kwargs = fx.node.map_arg((node.args, node.kwargs), value)
    if node.meta.get("grad", True):
        return _call(model, node, args, kwargs)
    with torch.no_grad():
        return _call(model, node, args, kwargs)


def _call(model, node, args, kwargs):
    if node.op == "call_function":
        return node.target(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    module = model.get_submodule(node.target)
    if not getattr(module, "inplace", False):
        return module(*args, **kwargs)
    module.inplace = False  # values are shared between vertices, so nothing may write into them
    try:
        return module(*args, **kwargs)
    finally:
        module.inplace = True


def _build(model, traced, merge_chains):
    """Group the traced nodes into vertices, then give each its level."""
    returned = _isolate_outputs(traced)
    placeholders = [node for node in traced.nodes if node.op == "placeholder"]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    vertices = [Vertex(node.name, clamped=True) for node in placeholders]
    members = [[] for _ in placeholders]
    position = {node: i for i, node in enumerate(placeholders)}
    for node in traced.nodes:
        if node.op in ("placeholder", "get_attr", "output"):
            continue
        parameters = _parameters(model, node, names)
        reads = tuple(n for n in node.all_input_nodes if n.op != "get_attr")
        clamped = not parameters and all(vertices[position[n]].clamped for n in reads)
        clamped = clamped or not _is_differentiable(node)
        follows = (
            merge_chains
            and not parameters
            and node.target is not identity
            and len(reads) == 1
            and len(reads[0].users) == 1
            # Only neighbours: vertices run in the model's own order, as its random draws (dropout) do.
            and position[reads[0]] == len(vertices) - 1 >= len(placeholders)
            and vertices[-1].clamped == clamped
        )
        if follows:
            members[-1].append(node)
        else:
            name = node.target if node.op == "call_module" else node.name
            parents = tuple(position[n] for n in reads)
            vertices.append(Vertex(name, parents, _Chain(model, (), reads), parameters, clamped))
            members.append([node])
        position[node] = len(vertices) - 1
    for vertex, nodes in zip(vertices[len(placeholders) :], members[len(placeholders) :], strict=True):
        object.__setattr__(vertex.predict, "nodes", tuple(nodes))

    def assemble(values):
        by_node = dict(zip(returned, values, strict=True))
        (structure,) = next(node for node in traced.nodes if node.op == "output").args
        return fx.node.map_arg(structure, by_node.__getitem__)

    outputs = tuple(position[node] for node in returned)
    return Graph(_with_levels(vertices, outputs), len(placeholders), outputs, assemble)


def _isolate_outputs(traced):
    """Put an identity behind every returned value that is read elsewhere too, so that every output has level 0."""
    output = next(node for node in traced.nodes if node.op == "output")
    for node in output.all_input_nodes:
        if len(node.users) > 1 or node.op in ("placeholder", "get_attr"):
            with traced.inserting_before(output):
                copy = traced.call_function(identity, (node,))
            copy.meta["fake"] = node.meta["fake"]
            output.replace_input_with(node, copy)
    return output.all_input_nodes


def _parameters(model, node, names):
    """The parameters that a node reads, by qualified name: those of its module, or its direct arguments."""
    attributes = [n for n in node.all_input_nodes if n.op == "get_attr" and "constant" not in n.meta]
    found = [operator.attrgetter(n.target)(model) for n in attributes]
    if node.op == "call_module":
        found += model.get_submodule(node.target).parameters()
    return {names[id(p)]: p for p in found if id(p) in names}


def _is_differentiable(node):
    leaves = pytree.tree_leaves(node.meta["fake"])
    return any(isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex()) for x in leaves)


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
