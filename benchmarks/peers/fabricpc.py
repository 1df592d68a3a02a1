"""FabricPC: JAX, a graph of nodes; inference in values (``InferenceSGD``) and in errors (``EPCInference``).

Inference runs on the loss summed over the batch; `fabricpc.training.trainer.pc_weight_gradients` divides the update by the
batch. Weights lie as ``(inputs, outputs)`` there. The output node is a softmax under the categorical energy, whose
probabilities the library clips at 1e-7.
"""

from itertools import pairwise
from pathlib import Path

from benchmarks.peers import under_jax
from benchmarks.peers.peer import Gradients, Peer, PeerRule
from benchmarks.peers.problem import Problem
from pcbench.params import Settings

ENVIRONMENT = ".venv-peers"


def peer(path: Path | None) -> Peer:
    """Load the library.

    Args:
        path: None; it is a package.

    Raises:
        InvalidParameters: it is not installed, or a path is given.
    """
    with under_jax.package("fabricpc", ENVIRONMENT, path):
        import fabricpc
        from fabricpc.core.inference import InferenceSGD
        from fabricpc.core.inference_epc import EPCInference

    def rule(solver, like, more=""):
        label = solver.__name__ + more
        return PeerRule(label, like, lambda problem, options: _update(problem, solver, options), summed=True)

    return Peer(
        name="fabricpc",
        title="FabricPC",
        version=fabricpc.__version__,
        packages=("fabricpc", "jax", "jaxlib"),
        backprop=_backprop,
        rules={
            "fabricpc-values": rule(InferenceSGD, "il"),
            "fabricpc-one-step": rule(EPCInference, "one-step", ", one step"),
            "fabricpc-errors": rule(EPCInference, "error-optimisation"),
        },
    )


def _update(problem: Problem, solver, options: Settings) -> Gradients:
    from fabricpc.core.inference import run_inference
    from fabricpc.training.trainer import pc_weight_gradients

    # A rule of one step has no number of them among its options.
    structure, params = _graph(problem, solver(eta_infer=options["gamma"], infer_steps=options.get("steps", 1)))
    clamps, state = _clamped(problem, structure, params)
    state = run_inference(params, state, clamps, structure)
    return _carried_back(problem, pc_weight_gradients(params, state, structure, clamps))


def _backprop(problem: Problem) -> tuple[float, Gradients]:
    import jax
    from fabricpc.core.energy import graph_energy
    from fabricpc.core.inference import InferenceSGD

    structure, params = _graph(problem, InferenceSGD())

    def loss(params):
        _, state = _clamped(problem, structure, params)
        return graph_energy(state, structure, node_names=[problem.layers[-1].name]) / len(problem.inputs)

    value, found = jax.value_and_grad(loss)(params)
    return float(value), _carried_back(problem, found)


def _graph(problem, inference):
    from fabricpc.core.activations import IdentityActivation, SoftmaxActivation, TanhActivation
    from fabricpc.core.energy import CrossEntropyEnergy, GaussianEnergy
    from fabricpc.core.topology import Edge
    from fabricpc.core.types import GraphParams, NodeParams
    from fabricpc.graph_assembly import TaskMap, graph
    from fabricpc.nodes import Linear

    nodes = [Linear(shape=(problem.inputs.shape[1],), name="input")]
    for layer in problem.layers:
        activation = TanhActivation() if layer.tanh else IdentityActivation()
        energy = GaussianEnergy()
        if layer is problem.layers[-1]:
            activation, energy = SoftmaxActivation(), CrossEntropyEnergy()
        nodes.append(Linear(shape=(len(layer.bias),), name=layer.name, activation=activation, energy=energy))
    edges = [Edge(source=a, target=b.slot("in")) for a, b in pairwise(nodes)]
    structure = graph(nodes=nodes, edges=edges, task_map=TaskMap(x=nodes[0], y=nodes[-1]), inference=inference)
    carried = {"input": NodeParams(weights={}, biases={})}
    for above, layer in zip(nodes[:-1], problem.layers, strict=True):
        weight, bias = under_jax.array(layer.weight.T.contiguous()), under_jax.array(layer.bias[None])
        carried[layer.name] = NodeParams(weights={f"{above.name}->{layer.name}:in": weight}, biases={"b": bias})
    return structure, GraphParams(nodes=carried)


def _clamped(problem, structure, params):
    """What is held, and the state of the forward pass."""
    import jax
    from fabricpc.graph_initialization.state_initializer import initialize_graph_state

    batch = {"input": under_jax.array(problem.inputs), problem.layers[-1].name: under_jax.array(problem.one_hot)}
    clamps = {name: jax.numpy.asarray(value) for name, value in batch.items()}
    # Nothing is drawn: the state is the forward pass's.
    return clamps, initialize_graph_state(
        structure, len(problem.inputs), jax.random.key(0), clamps=clamps, params=params
    )


def _carried_back(problem, gradients):
    found = {}
    for layer in problem.layers:
        (weight,), bias = gradients.nodes[layer.name].weights.values(), gradients.nodes[layer.name].biases["b"]
        found[f"{layer.name}.weight"] = under_jax.tensor(weight.T, layer.weight)
        found[f"{layer.name}.bias"] = under_jax.tensor(bias, layer.bias)
    return found
