"""Equations (1) and (2) of the design page, literally: every vertex at every step, without any shortcut.

    ε_i = x_i − μ_i,   μ_i = g_i(x_parents; θ_i),   ε_out = −∂L/∂μ_out
    Δx_i = γ ( −ε_i + Σ_{children j} (∂g_j/∂x_i)ᵀ ε_j )        (1)   at every step t < T
    Δθ_i ∝ (∂g_i/∂θ_i)ᵀ ε_i                                    (2)   at t = T, or at t = level(i)

IL, Z-IL and Z-IL with one of its conditions broken are this one function with different `Schedule`s. It is the oracle
of `pcbench.rules.zil`, and the engine of IL.
"""

from dataclasses import dataclass

import torch

from pcbench.errors import InvalidParameters
from pcbench.rules._base import GraphRule, accumulate, detached, map_leaves, tensors
from pcbench.rules.zil import output_errors


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


class Dynamics(GraphRule):
    """Predictive coding in state form: the values x are stored, and errors are differences of values and predictions.

    Args:
        model: see `pcbench.rules.Rule`.
        schedule: see `Schedule`.
        generator: where the initial error is drawn from; required if ``schedule.sigma > 0``.
    """

    def __init__(self, model, schedule=Schedule(), generator=None, **graph_options):
        super().__init__(model, **graph_options)
        if schedule.sigma > 0 and generator is None:
            raise InvalidParameters(f"sigma={schedule.sigma} draws noise: pass the torch.Generator to draw it from")
        self.schedule = schedule
        self.generator = generator

    def _prepare(self, graph):
        return graph.levelled() if self.schedule.levelled else graph

    def backward(self, inputs, targets, loss_fn):
        """See `pcbench.rules.Rule.backward`. The loss returned is that of the initial values, before any inference."""
        arguments = self._arguments(inputs)
        graph = self.graph(arguments)
        steps = {None: graph.depth, "levels": graph.depth + 1}.get(self.schedule.steps, self.schedule.steps)
        predict = _Predictions(graph)
        buffers = _Buffers(self.model)
        x, mu = self._initial_values(graph, predict, arguments)
        buffers.note_advance()
        updates = {}
        for t in range(steps + 1):

            def due(level, t=t):
                return t == (level if self.schedule.layer_dependent else steps)

            for i in graph.outputs:
                x[i] = detached(mu[i], requires_grad=True)
            outputs = graph.assemble([x[i] for i in graph.outputs])
            # Later values may well diverge: that is a result, not an error.
            loss, at_output = output_errors(self.model, outputs, targets, loss_fn, check=t == 0)
            if t == 0:
                first_loss = loss
            values, predictions, drive = [tensors(v) for v in x], [tensors(m) for m in mu], {}
            # Children first: on what has got nothing from them the loss does not depend. It has no error, not even
            # zero, and its parameters have no gradient, as under autograd.
            for i, vertex in reversed(list(enumerate(graph.vertices))):
                if vertex.level is None:
                    continue
                error = _error(vertex, values[i], predictions[i], at_output, drive)
                _subtract(drive, values[i], error)
                parents = [leaf for p in vertex.parents for leaf in values[p] if leaf.requires_grad]
                theta = [p for p in vertex.parameters.values() if p.requires_grad] if due(vertex.level) else []
                products = _products(predictions[i], [*parents, *theta], error)
                _add(drive, parents, products[: len(parents)])
                _add(updates, theta, products[len(parents) :])
            if due(0):
                read = [p for p in at_output if isinstance(p, torch.nn.Parameter)]
                _add(updates, read, [-at_output[p] for p in read])
            if t < steps:
                x = [self._step(vertex, value, drive) for vertex, value in zip(graph.vertices, x, strict=True)]
                buffers.put_back()
                mu = [predict(i, x) for i in range(len(graph.vertices))]
        buffers.advance()
        accumulate({p: -update for p, update in updates.items()})
        return first_loss

    def _initial_values(self, graph, predict, arguments):
        """The forward pass, perturbed if σ > 0: x and μ of every vertex at t = 0."""
        x, mu = tensors(arguments), tensors(arguments)
        for i, vertex in enumerate(graph.vertices[graph.inputs :], graph.inputs):
            mu.append(predict(i, x))
            noisy = self.schedule.sigma > 0 and vertex.level is not None and vertex.level > 0
            value = map_leaves(self._perturbed, mu[i]) if noisy else mu[i]
            x.append(detached(value, requires_grad=not vertex.clamped))
        return x, mu

    def _perturbed(self, mu):
        if not isinstance(mu, torch.Tensor) or not mu.is_floating_point():
            return mu
        # Drawn on the CPU in float64, so that every device and dtype sees the same noise.
        noise = torch.randn(mu.shape, generator=self.generator, dtype=torch.float64)
        return mu + self.schedule.sigma * noise.to(mu)

    @torch.no_grad()
    def _step(self, vertex, value, drive):
        """x + Δx, equation (1); a clamped value stays."""
        if vertex.level is None:
            return value

        def moved(leaf):
            x = leaf + self.schedule.gamma * drive[leaf] if leaf in drive else leaf
            return detached(x, requires_grad=True)

        return map_leaves(moved, value)


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


class _Predictions:
    """Evaluates vertices as often as asked, with the random draws (dropout masks) of the first evaluation."""

    def __init__(self, graph):
        self._graph = graph
        self._state = {}

    def __call__(self, i, x):
        """μ_i given the values ``x`` of all vertices; inputs are their own prediction."""
        vertex = self._graph.vertices[i]
        if vertex.predict is None:
            return x[i]
        parents = [x[p] for p in vertex.parents]
        if i not in self._state:
            before = _random_state()
            prediction = vertex.predict(*parents)
            drew = any(not torch.equal(a, b) for a, b in zip(before, _random_state(), strict=True))
            self._state[i] = before if drew else None
            return prediction
        if self._state[i] is None:
            return vertex.predict(*parents)
        now = _random_state()
        _set_random_state(self._state[i])
        try:
            return vertex.predict(*parents)
        finally:
            _set_random_state(now)


class _Buffers:
    """The model's buffers: a weight update advances them once, and every evaluation within it starts from the same.

    So BatchNorm's statistics are as under backpropagation, and spectral norm's g_i is one function at all times t.
    """

    def __init__(self, model):
        self._buffers = list(model.buffers())
        self._before = [buffer.clone() for buffer in self._buffers]

    def note_advance(self):
        """What the first evaluation has made of them is what the update leaves."""
        self._after = [buffer.clone() for buffer in self._buffers]

    def put_back(self):
        """Before an evaluation after the first."""
        self._set(self._before)

    def advance(self):
        """At the end of the update."""
        self._set(self._after)

    @torch.no_grad()
    def _set(self, values):
        for buffer, value in zip(self._buffers, values, strict=True):
            buffer.copy_(value)


def _random_state():
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *on_gpu]


def _set_random_state(state):
    torch.set_rng_state(state[0])
    if state[1:]:
        torch.cuda.set_rng_state_all(state[1:])


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
