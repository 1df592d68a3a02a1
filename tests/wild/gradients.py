"""What a model does to its own gradients: detach, hooks, autograd inside forward, checkpoints."""

import contextlib

import torch
from problems import vectors
from torch import nn
from torch.autograd import Variable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from wild.entry import Small, Wild, small, squares


def stop_gradient(net, h):
    y = net.mid(h)
    return y.detach() * h + F.mse_loss(y, h.detach()) + net.mid(h.data)


def late_constants(net, h):
    """A value near the output enters a long branch as a constant, detached and as a number."""
    near = net.mid(h)
    long = torch.tanh(net.mid(torch.tanh(net.mid(h * near.detach() * near.mean().item()))))
    return near + net.mid(torch.tanh(long))


def straight_through(net, h):
    q = torch.round(h * 4) / 4
    return net.mid(h + (q - h).detach())


def no_grad_inside(net, h):
    with torch.no_grad():
        scale = net.mid(h).std()
    with torch.inference_mode():
        offset = float((h * h).mean())
    return net.mid(h) / (1 + scale) + offset


def toggled(net, h):
    for grad in (True, False, True):
        with torch.set_grad_enabled(grad):
            h = torch.tanh(net.mid(h) + h)
    previous = torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    shift = net.mid(h)
    torch.set_grad_enabled(previous)
    with torch.no_grad(), torch.enable_grad():
        return net.mid(h) + shift


@torch.no_grad()
def statistics(h):
    return h.mean(0), h.var(0)


def decorated(net, h):
    mean, variance = statistics(h)
    return net.mid((h - mean) / (variance + 1e-2).sqrt())


def tensor_hooks(net, h):
    y = torch.tanh(net.mid(h))
    if y.requires_grad:
        y.register_hook(lambda gradient: gradient * 0.5)
        h.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
    return y * y + h


class CountsGradients(Small):
    """A hook on a value that several operations read runs once, on the whole gradient; retained gradients likewise."""

    def __init__(self):
        super().__init__()
        self.gradients, self.kept, self.parameter_calls = [], None, 0
        self.mid.weight.register_hook(self._count)

    def _count(self, gradient):
        self.parameter_calls += 1
        return gradient * 2

    def middle(self, h):
        h.register_hook(self.gradients.append)
        h.retain_grad()
        y = self.mid(h)
        y.retain_grad()
        self.kept = h, y
        return y * h + h.sum(1, keepdim=True)

    def received(self):
        return [gradient.clone() for gradient in self.gradients], [v.grad for v in self.kept], self.parameter_calls


class ModuleHooks(Small):
    """Forward, forward-pre and full backward hooks, some that replace what they are given."""

    def __init__(self):
        super().__init__()
        self.outputs, self.backward_calls = [], []
        self.stem.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 0.5,))
        self.stem.register_forward_hook(lambda module, inputs, output: output + 0.1)
        self.mid.register_forward_hook(lambda module, inputs, output: self.outputs.append(output.detach().clone()))
        self.mid.register_full_backward_hook(self._backward)
        self.readout.register_full_backward_pre_hook(lambda module, gradients: (gradients[0] * 2,))

    def _backward(self, module, inputs, outputs):
        self.backward_calls += [inputs[0].clone(), outputs[0].clone()]
        return (inputs[0] * 0.5,)

    def middle(self, h):
        return torch.relu(self.mid(h))


class _TellsAtTheEnd(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, at_the_end):
        ctx.at_the_end = at_the_end
        return h * 2

    @staticmethod
    def backward(ctx, error):
        Variable._execution_engine.queue_callback(lambda: ctx.at_the_end("value"))
        return error * 2, None


class LooksAtTheEnd(Small):
    """What is queued for the end of the backward pass, by a custom function and by a parameter's hook, sees all gradients."""

    def __init__(self):
        super().__init__()
        self.seen = {"value": [], "parameter": []}
        hook = self.mid.weight.register_post_accumulate_grad_hook
        hook(lambda _: Variable._execution_engine.queue_callback(lambda: self._look("parameter")))

    def _look(self, who):
        self.seen[who].append([None if p.grad is None else p.grad.clone() for p in self.parameters()])

    def middle(self, h):
        return torch.relu(self.mid(_TellsAtTheEnd.apply(h, self._look)))


class GradientPenalty(Small):
    """The norm of the output's gradient by the input, as a part of the loss."""

    def forward(self, x):
        x = x.detach().requires_grad_()
        out = super().forward(x)
        (gradient,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        return out, (gradient.norm(dim=1) - 1).square().mean()

    def middle(self, h):
        return torch.tanh(self.mid(h))


class Hamiltonian(nn.Module):
    """dx/dt = J ∂H/∂x: the outputs are gradients themselves; two steps of an integrator."""

    def __init__(self):
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))

    def forward(self, x):
        for _ in range(2):
            with torch.enable_grad():
                x = x if x.requires_grad else x.requires_grad_()
                (gradient,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
            q, p = gradient.chunk(2, dim=1)
            x = x + 0.1 * torch.cat([p, -q], dim=1)
        return x


class InnerLoop(Small):
    """MAML: one step of gradient descent on the weights inside forward, differentiated through."""

    def middle(self, h):
        weight, bias = self.mid.weight, self.mid.bias
        inner = F.mse_loss(F.linear(h, weight, bias), h.detach())
        by_weight, by_bias = torch.autograd.grad(inner, (weight, bias), create_graph=True)
        return torch.tanh(F.linear(h, weight - 0.5 * by_weight, bias - 0.5 * by_bias))


class LangevinSampler(Small):
    """Gradients inside, but none through them: a leaf is made, moved along its gradient, and cut off."""

    def middle(self, h):
        z = h.detach().clone().requires_grad_()
        for _ in range(2):
            (gradient,) = torch.autograd.grad(self.mid(z).square().sum(), z)
            z = (z - 0.1 * gradient).detach().requires_grad_()
        return self.mid(z) - self.mid(h)


def reattached(net, h):
    """A detached value that asks for gradients again: they end there."""
    z = h.detach().requires_grad_()
    return net.mid(z) + h


class Checkpointed(Small):
    """Parts that run again when their gradients are wanted, dropout masks restored."""

    def __init__(self, reentrant):
        super().__init__()
        self.reentrant, self.calls = reentrant, 0
        self.block = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Dropout(0.4), nn.Linear(4, 4))
        self.chain = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Sigmoid())

    def middle(self, h):
        h = h + checkpoint(self.block, h, use_reentrant=self.reentrant)
        return checkpoint_sequential(self.chain, 2, h, use_reentrant=self.reentrant)


def saved_tensors(net, h):
    """Activations stored in half the bits: what backward reads is not what forward computed."""
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda t: t if isinstance(t, nn.Parameter) else t.detach().bfloat16(),
        lambda t: t if isinstance(t, nn.Parameter) else t.to(h.dtype),
    )
    with hooks:
        return torch.tanh(net.mid(h)) * h


def autocast(net, h):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = net.mid(torch.tanh(net.mid(h)))
        with torch.autocast("cpu", enabled=False):
            y = net.mid(y.to(h.dtype))
        y = y @ h.t()
    return y.to(h.dtype)


def needs_gradient():
    inputs, targets = vectors(5)()
    return inputs.requires_grad_(), targets


def two_that_need_gradients():
    shared = torch.randn(4, 5).requires_grad_()
    return (shared, torch.randn(4, 5), shared), torch.randint(3, (4,))


class SharedInputs(Small):
    def forward(self, a, b, c):
        return super().forward(a) + super().forward(b * c) + c[:, :3]

    def middle(self, h):
        return torch.relu(self.mid(h))


class Reversal(nn.Module):
    """Gradient reversal by a hook instead of a Function, and a loss of two parts of opposite sign."""

    def __init__(self):
        super().__init__()
        self.features, self.label, self.domain = nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        h = torch.tanh(self.features(x))
        reversed_h = h.clone()
        with contextlib.suppress(RuntimeError):  # without a gradient there is nothing to hook
            reversed_h.register_hook(lambda gradient: -gradient)
        return self.label(h), self.domain(reversed_h)


def both(outputs, targets):
    return sum(F.cross_entropy(output, targets) for output in outputs)


INSIDE = "a gradient taken inside forward is a function of the values' graph, not of the values alone"
HOOKED = "a hook sees gradients, which the dynamics have at every step"

GRADIENTS = (
    Wild(
        "stop-gradient", small(stop_gradient), "detach and .data in the middle, on one side of a product or a distance"
    ),
    Wild(
        "late-constants",
        small(late_constants),
        "a constant from a value that changes long before its reader is updated",
    ),
    Wild("straight-through", small(straight_through), "x + (q - x).detach()"),
    Wild("no-grad-block", small(no_grad_inside), "statistics under no_grad and inference_mode"),
    Wild("grad-mode-toggles", small(toggled), "set_grad_enabled as block and as call, enable_grad in no_grad"),
    Wild("no-grad-decorator", small(decorated), "a function decorated with no_grad"),
    Wild("tensor-hooks", small(tensor_hooks), "a hook scales or clips the whole gradient of a value", fixed=HOOKED),
    Wild(
        "retained-gradients",
        CountsGradients,
        "hooks and retain_grad on values with several readers, a hook on a parameter",
        received=CountsGradients.received,
        fixed=HOOKED,
    ),
    Wild(
        "module-hooks",
        ModuleHooks,
        "hooks that replace a module's input, output and gradients",
        counters=lambda m: m.outputs,
        received=lambda m: m.backward_calls,
        fixed=HOOKED,
    ),
    Wild(
        "queued-callbacks",
        LooksAtTheEnd,
        "callbacks for the end of the backward pass: lost, or called before its end",
        received=lambda m: m.seen,
    ),
    Wild(
        "gradient-penalty",
        GradientPenalty,
        "autograd.grad with create_graph, by the input",
        loss=lambda o, t: F.cross_entropy(o[0], t) + o[1],
        fixed=INSIDE,
    ),
    Wild(
        "hamiltonian",
        Hamiltonian,
        "the output is a gradient",
        lambda: (torch.randn(4, 4), torch.randn(4, 4)),
        F.mse_loss,
        fixed=INSIDE,
    ),
    Wild("maml", InnerLoop, "a step on the weights inside, differentiated through", fixed=INSIDE),
    Wild("langevin", LangevinSampler, "autograd.grad inside, and nothing through it", fixed=INSIDE),
    Wild("reattached", small(reattached), "requires_grad_() on a detached intermediate"),
    Wild("checkpoint", lambda: Checkpointed(False), "checkpoints with dropout, as saved-tensor hooks"),
    Wild(
        "reentrant-checkpoint",
        lambda: Checkpointed(True),
        "checkpoints that call backward in backward",
        fixed="it only supports backward(), which fills .grad at every step",
    ),
    Wild(
        "saved-tensor-hooks",
        small(saved_tensors),
        "what is saved is packed and unpacked",
        fixed="what backward reads is not what forward computed",
    ),
    Wild("autocast", small(autocast), "autocast switched on, and off again, inside forward"),
    Wild(
        "input-needs-gradient",
        small(lambda net, h: torch.relu(net.mid(h))),
        "the input's .grad is filled as under BP",
        needs_gradient,
    ),
    Wild("shared-inputs", SharedInputs, "one tensor passed twice, and its .grad", two_that_need_gradients),
    Wild("reversal", Reversal, "gradient reversal by a hook on a clone", loss=both, fixed=HOOKED),
    Wild(
        "frozen-front",
        lambda: _frozen_front(),
        "values that need no gradient before values that do",
        squares,
        F.mse_loss,
    ),
)


def _frozen_front():
    model = Small(lambda net, h: torch.relu(net.mid(h)) + h)
    model.stem.requires_grad_(False)
    return model
