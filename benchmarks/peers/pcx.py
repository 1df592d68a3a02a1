"""PCX: JAX, modules with a `Vode` for every value; the rules are loops that its users write, as its own examples do.

Inference runs on the loss summed over the batch, and the examples divide the update by the batch. Z-IL is the one of its
example: at step t the value of layer L − t − 1 moves by −∂F/∂x, and the weights of layer L − t learn.
"""

from importlib import metadata
from pathlib import Path

from benchmarks.peers import under_jax
from benchmarks.peers.peer import Gradients, Peer, PeerRule
from benchmarks.peers.problem import Problem
from pcbench.params import Settings

ENVIRONMENT = ".venv-peers-pcx"


def peer(path: Path | None) -> Peer:
    """Load the library.

    Args:
        path: None; it is a package.

    Raises:
        InvalidParameters: it is not installed, or a path is given.
    """
    with under_jax.package("pcx", ENVIRONMENT, path):
        import pcx.predictive_coding  # noqa: F401
    return Peer(
        name="pcx",
        title="PCX",
        version=metadata.version("pcx"),
        packages=("pcx", "jax", "jaxlib", "equinox"),
        backprop=_backprop,
        rules={
            "pcx-il": PeerRule("IL", "il", _il, summed=True),
            "pcx-zil": PeerRule("Z-IL", "zil-state", _zil, summed=True),
        },
    )


def _il(problem: Problem, options: Settings) -> Gradients:
    import pcx.nn as nn
    import pcx.predictive_coding as pc
    import pcx.utils as utils

    model = _model(problem)
    _forward(problem, model)
    for _ in range(options["steps"]):
        found = _gradients(problem, model, utils.M_hasnot(pc.VodeParam, frozen=True).to([False, True]))
        for vode, gradient in zip(model.vodes[:-1], found.vodes[:-1], strict=True):
            _moved(vode, gradient, options["gamma"])
    return _carried_back(problem, _gradients(problem, model, utils.M(nn.LayerParam).to([False, True])).layers)


def _zil(problem: Problem, options: Settings) -> Gradients:
    import pcx.nn as nn
    import pcx.predictive_coding as pc
    import pcx.utils as utils

    model = _model(problem)
    _forward(problem, model)
    last = len(problem.layers) - 1
    learned = [None] * (last + 1)
    for t in range(last + 1):
        found = _gradients(problem, model, utils.M(nn.LayerParam | pc.VodeParam).to([False, True]))
        learned[last - t] = found.layers[last - t]
        if t < last:
            _moved(model.vodes[last - t - 1], found.vodes[last - t - 1], 1.0)
    return _carried_back(problem, learned)


def _backprop(problem: Problem) -> tuple[float, Gradients]:
    """No value stands between two layers here: the energy of the output alone, through the whole of the network."""
    import jax
    import pcx.functional as functional
    import pcx.nn as nn
    import pcx.utils as utils

    model = _model(problem)
    targets = jax.numpy.asarray(under_jax.array(problem.one_hot))

    @functional.vmap({"model": None}, in_axes=(0,), out_axes=0)
    def logits(x, *, model):
        for i, layer in enumerate(model.layers):
            x = jax.numpy.tanh(layer(x)) if problem.layers[i].tanh else layer(x)
        return x

    @functional.value_and_grad({"model": utils.M(nn.LayerParam).to([False, True])}, has_aux=False)
    def loss(x, *, model):
        return -(targets * jax.nn.log_softmax(logits(x, model=model))).sum()

    value, found = loss(jax.numpy.asarray(under_jax.array(problem.inputs)), model=model)
    return float(value) / len(problem.inputs), _carried_back(problem, found["model"].layers)


def _model(problem):
    import jax
    import pcx.nn as nn
    import pcx.predictive_coding as pc

    class Model(pc.EnergyModule):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(layer.weight.shape[1], layer.weight.shape[0]) for layer in problem.layers]
            self.vodes = [pc.Vode() for _ in problem.layers[:-1]] + [pc.Vode(pc.ce_energy)]
            self.vodes[-1].h.frozen = True

        def __call__(self, x):
            for layer, part, vode in zip(self.layers, problem.layers, self.vodes, strict=True):
                x = vode(jax.numpy.tanh(layer(x)) if part.tanh else layer(x))
            return x

    model = Model()
    for layer, part in zip(model.layers, problem.layers, strict=True):
        layer.nn.weight.set(jax.numpy.asarray(under_jax.array(part.weight)))
        layer.nn.bias.set(jax.numpy.asarray(under_jax.array(part.bias)))
    return model


def _forward(problem, model):
    """Every value is its own prediction, but the output's, which is the target."""
    import jax
    import pcx.functional as functional
    import pcx.predictive_coding as pc
    import pcx.utils as utils

    @functional.vmap({"model": _batched()}, in_axes=(0, 0), out_axes=0)
    def forward(x, y, *, model):
        out = model(x)
        model.vodes[-1].set("h", y)
        return out

    with utils.step(model, pc.STATUS.INIT, clear_params=pc.VodeParam.Cache):
        batch = (jax.numpy.asarray(under_jax.array(each)) for each in (problem.inputs, problem.one_hot))
        forward(*batch, model=model)


def _gradients(problem, model, mask):
    """∂F/∂ of what the mask lets through, F summed over the batch."""
    import jax
    import pcx.functional as functional
    import pcx.predictive_coding as pc
    import pcx.utils as utils

    @functional.vmap({"model": _batched()}, in_axes=(0,), out_axes=None, axis_name="batch")
    def energy(x, *, model):
        model(x)
        return jax.lax.psum(model.energy(), "batch")

    with utils.step(model, clear_params=pc.VodeParam.Cache):
        differentiated = functional.value_and_grad({"model": mask}, has_aux=False)(energy)
        _, found = differentiated(jax.numpy.asarray(under_jax.array(problem.inputs)), model=model)
    return found["model"]


def _moved(vode, gradient, gamma):
    """x − γ ∂F/∂x, by the library's own optimizer."""
    import optax
    import pcx.predictive_coding as pc
    import pcx.utils as utils

    utils.Optim(lambda: optax.sgd(gamma), utils.M(pc.VodeParam)(vode)).step(vode, gradient)


def _batched():
    import pcx.predictive_coding as pc
    import pcx.utils as utils

    return utils.M(pc.VodeParam | pc.VodeParam.Cache).to((None, 0))


def _carried_back(problem, layers):
    found = {}
    for layer, part in zip(layers, problem.layers, strict=True):
        for name, gradient, like in zip(
            problem.names(part), (layer.nn.weight, layer.nn.bias), (part.weight, part.bias), strict=True
        ):
            found[name] = under_jax.tensor(gradient.get(), like) / len(problem.inputs)
    return found
