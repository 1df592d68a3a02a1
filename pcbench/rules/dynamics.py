"""Equations (1) and (2), literally: every vertex at every step, without any shortcut.

    ε_i = x_i − μ_i,   μ_i = g_i(x_parents; θ_i),   ε_out = −∂L/∂μ_out
    Δx_i = γ ( −ε_i + Σ_{children j} (∂g_j/∂x_i)ᵀ ε_j )        (1)   at every step t < T
    Δθ_i ∝ (∂g_i/∂θ_i)ᵀ ε_i                                    (2)   at t = T, or at t = level(i)

IL, Z-IL and Z-IL with one of its conditions broken are this one function with different `Schedule`s. It is the oracle
of `pcbench.rules.zil`, and the engine of IL.
"""

from dataclasses import dataclass

import torch
from torch.fx.experimental.proxy_tensor import get_innermost_proxy_mode

from pcbench.errors import InvalidParameters, PCBenchError, UnsupportedModule, told
from pcbench.graph import Run, tensors_of
from pcbench.recording import Recording
from pcbench.rules._base import Rule, check_loss, engine, leaves_behind


@dataclass(frozen=True)
class Schedule:
    """How the dynamics run; the defaults are Z-IL.

    Attributes:
        steps: T, the number of inference steps; ``"levels"`` is the graph's number of levels; None is one fewer, the
            time at which the error wave has reached every vertex.
        gamma: γ, the integration step of equation (1).
        sigma: σ, the standard deviation of the hidden vertices' initial error; 0 starts from the forward pass.
        layer_dependent: update θ_i at t = level(i), rather than every θ at t = T.
        levelled: pad edges that skip levels with identity vertices.
    """

    steps: int | str | None = None
    gamma: float = 1.0
    sigma: float = 0.0
    layer_dependent: bool = True
    levelled: bool = True

    def __post_init__(self):
        if self.steps not in (None, "levels") and (not isinstance(self.steps, int) or self.steps < 1):
            raise InvalidParameters(
                f"steps={self.steps!r}: the number of inference steps is an integer >= 1, or 'levels'"
            )
        if not 0 < self.gamma < float("inf"):
            raise InvalidParameters(f"gamma={self.gamma!r}: the integration step is a number > 0")
        if not 0 <= self.sigma < float("inf"):
            raise InvalidParameters(f"sigma={self.sigma!r}: the initial error's standard deviation is a number >= 0")


@engine("zil-state")
class Dynamics(Rule):
    """Predictive coding in state form: the values x are stored, and errors are differences of values and predictions.

    Args:
        model: see `pcbench.rules.Rule`.
        schedule: see `Schedule`.
        generator: where the initial error is drawn from; required if ``schedule.sigma > 0``.
        granularity: see `pcbench.graph.Graph.from_module`.
    """

    def __init__(self, model, schedule=Schedule(), generator=None, *, granularity="layer"):
        super().__init__(model)
        if schedule.sigma > 0 and generator is None:
            raise InvalidParameters(f"sigma={schedule.sigma} draws noise: pass the torch.Generator to draw it from")
        self.schedule = schedule
        self.generator = generator
        self._granularity = granularity

    @classmethod
    def from_options(cls, model, generator, **options):
        """See `Rule.from_options`; the options are the fields of `Schedule`."""
        return cls(model, Schedule(**options), generator)

    def gradients(self, inputs, targets, loss_fn):
        """See `pcbench.rules.Rule.gradients`. The loss returned is that of the forward pass, before any inference.

        Raises:
            UnsupportedModule: see `pcbench.recording.Recording`; also if an operation fails at the values of a later step.
        """
        run, loss = self._run(self._arguments(inputs), targets, loss_fn)
        try:
            return loss, self._inferred(run, loss)
        except Exception as error:
            if isinstance(error, PCBenchError) or get_innermost_proxy_mode() is not None:
                raise
            raise UnsupportedModule(
                f"inference in state form fails on {type(self.model).__name__} ({told(error)}); "
                "Z-IL in error form can learn it"
            ) from error

    def _inferred(self, run, loss):
        """The dynamics; return ``{leaf: gradient}``, −Δθ."""
        graph = run.graph.levelled() if self.schedule.levelled else run.graph
        steps = {None: graph.depth, "levels": graph.depth + 1}.get(self.schedule.steps, self.schedule.steps)
        x, mu = self._initial_values(graph)
        updates = {}
        for t in range(steps + 1):

            def due(level, t=t):
                return t == (level if self.schedule.layer_dependent else steps)

            for i in graph.outputs:
                x[i] = _cut(mu[i])
            outputs = [x[i] for i in graph.outputs]
            replayed = run.loss(outputs)
            # While it is captured there are no numbers to look at.
            if t == 0 and self.schedule.sigma == 0 and get_innermost_proxy_mode() is None:
                _check_replay(replayed.detach(), loss)
            at_output = _output_errors(replayed, outputs)
            drive = {}
            # Children first: on what has got nothing from them the loss does not depend. It has no error, not even
            # zero, and its parameters have no gradient, as under autograd.
            for i, vertex in reversed(list(enumerate(graph.vertices))):
                if vertex.level is None:
                    continue
                error = _error(vertex, x[i], mu[i], at_output, drive)
                _subtract(drive, x[i], error)
                parents = [leaf for p in vertex.parents for leaf in x[p]]
                theta = list(vertex.parameters.values()) if due(vertex.level) else []
                products = _products(mu[i], [*parents, *theta], error)
                _add(drive, parents, products[: len(parents)])
                _add(updates, theta, products[len(parents) :])
            if due(0):
                read = [leaf for leaf in at_output if not any(leaf is v for i in graph.outputs for v in x[i])]
                _add(updates, read, [-at_output[leaf] for leaf in read])
            if t < steps:
                x = [self._step(vertex, value, drive) for vertex, value in zip(graph.vertices, x, strict=True)]
                mu = [_predict(vertex, x) for vertex in graph.vertices]
        return {leaf: -update for leaf, update in updates.items()}

    def _run(self, arguments, targets, loss_fn):
        """The forward pass and its loss, recorded."""
        recording = Recording(self.model, tensors_of(arguments))
        with recording:
            outputs = self.model(*arguments)
            of_model = len(recording.operations)
            loss = loss_fn(outputs, targets)
        check_loss(loss)
        return Run(self.model, recording, arguments, outputs, self._granularity, of_model, loss), loss.detach()

    def _initial_values(self, graph):
        """The forward pass, perturbed if σ > 0: x and μ of every vertex at t = 0."""
        x, mu = [], []
        for vertex in graph.vertices:
            mu.append(_predict(vertex, x))
            noisy = self.schedule.sigma > 0 and vertex.level is not None and vertex.level > 0
            x.append(_cut(map(self._perturbed, mu[-1]) if noisy else mu[-1]))
        return x, mu

    def _perturbed(self, mu):
        # Drawn on the CPU in float64, so that every device and dtype sees the same noise.
        noise = torch.randn(mu.shape, generator=self.generator, dtype=torch.float64)
        return mu + self.schedule.sigma * noise.to(mu)

    @torch.no_grad()
    def _step(self, vertex, value, drive):
        """x + Δx, equation (1); a clamped value stays."""
        if vertex.level is None:
            return value
        return _cut(leaf + self.schedule.gamma * drive[leaf] if leaf in drive else leaf for leaf in value)


def _check_replay(replayed, loss):
    """Whatever a forward does that the recorded operations do not, the loss shows it."""
    tolerance = torch.finfo(loss.dtype).eps ** 0.5
    if not torch.allclose(replayed, loss, rtol=tolerance, atol=tolerance, equal_nan=True):
        raise UnsupportedModule(
            f"the operations of the forward pass give a loss of {replayed.item():g} when they are repeated, and gave "
            f"{loss.item():g}: forward writes into values past their gradients (under no_grad or through .data), which "
            "inference in state form cannot repeat at other values; Z-IL in error form can learn it"
        )


def _predict(vertex, x):
    """μ of a vertex given the values ``x`` of those before it; inputs are in the recorded operations already."""
    return () if vertex.predict is None else vertex.predict(*(x[p] for p in vertex.parents))


def _cut(value):
    """The value without the history of whatever computed it: what a vertex is given."""
    return tuple(tensor.detach().requires_grad_() for tensor in value)


def _output_errors(loss, outputs):
    """−ε_out = ∂L/∂μ_out of every output value, and of every parameter that the loss reads directly."""
    leaves = dict.fromkeys((*(leaf for value in outputs for leaf in value), *leaves_behind(loss)))
    gradients = torch.autograd.grad(loss, list(leaves), allow_unused=True)
    return {leaf: g for leaf, g in zip(leaves, gradients, strict=True) if g is not None}


@torch.no_grad()
def _error(vertex, x, mu, at_output, drive):
    """ε for each tensor of the value: x − μ, or −∂L/∂μ at an output; None where the loss does not depend on it."""
    if vertex.level == 0:
        return [-at_output[leaf] if leaf in at_output else None for leaf in x]
    return [a - b if a in drive else None for a, b in zip(x, mu, strict=True)]


def _products(mu, receivers, error):
    """The vector-Jacobian products (∂μ/∂receiver)ᵀ ε; None where μ does not depend on the receiver."""
    pairs = [(m, e) for m, e in zip(mu, error, strict=True) if e is not None and m.requires_grad]
    if not receivers or not pairs:
        return [None] * len(receivers)
    roots, seeds = zip(*pairs, strict=True)
    return torch.autograd.grad(roots, receivers, seeds, allow_unused=True)


def _subtract(sums, keys, terms):
    for key, term in zip(keys, terms, strict=True):
        if term is not None:
            sums[key] = sums[key] - term if key in sums else -term


def _add(sums, keys, terms):
    for key, term in zip(keys, terms, strict=True):
        if term is not None:
            sums[key] = sums[key] + term if key in sums else term


@engine("il")
class InferenceLearning(Dynamics):
    """IL: ``steps`` steps of equation (1) from the forward pass's values, then equation (2) once, everywhere.

    Args:
        model: see `pcbench.rules.Rule`.
        steps: T, the number of inference steps, or ``"levels"``.
        gamma: γ, the integration step.
    """

    def __init__(self, model, steps=20, gamma=0.1, **graph_options):
        schedule = Schedule(steps=steps, gamma=gamma, layer_dependent=False, levelled=False)
        super().__init__(model, schedule, **graph_options)

    @classmethod
    def from_options(cls, model, generator, **options):
        """See `Rule.from_options`; nothing is drawn."""
        return cls(model, **options)
