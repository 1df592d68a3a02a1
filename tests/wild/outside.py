"""What Python sees as one call: custom functions, compiled and scripted parts, torch.func, other modes."""

import torch
from problems import vectors
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from wild.entry import Small, Wild, small


class Clip(torch.autograd.Function):
    """Clips the gradient, not the value."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.clamp(-0.01, 0.01)


clip = Clip.apply


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        s = torch.sigmoid(x)
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx, gradient):
        x, s = ctx.saved_tensors
        return gradient * (s + x * s * (1 - s))


class Silent(torch.autograd.Function):
    """Returns no error for an argument that needs one: what comes before it gets zeros, from the engine (I-BERT)."""

    @staticmethod
    def forward(ctx, x, y):
        return x + y

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


class ScaledLinear(torch.autograd.Function):
    """Parameters, a number and None among its arguments, two outputs, one of them without a gradient."""

    @staticmethod
    def forward(ctx, x, weight, bias, scale):
        ctx.save_for_backward(x, weight)
        ctx.scale, ctx.has_bias = scale, bias is not None
        out = scale * (x @ weight.t() + (0 if bias is None else bias))
        index = out.argmax(dim=1)
        ctx.mark_non_differentiable(index)
        return out, index

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient, _):
        x, weight = ctx.saved_tensors
        gradient = gradient * ctx.scale
        by_x = gradient @ weight if ctx.needs_input_grad[0] else None
        by_weight = gradient.t() @ x if ctx.needs_input_grad[1] else None
        return by_x, by_weight, gradient.sum(0) if ctx.has_bias else None, None


class ReLUInPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x.clamp_(min=0)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx, gradient):
        (out,) = ctx.saved_tensors
        return gradient * (out > 0)


class ThroughNumPy(torch.autograd.Function):
    """A simulator outside torch, with its own derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.from_numpy(x.detach().numpy() ** 3)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(gradient.numpy() * 3 * x.numpy() ** 2)


class Invertible(torch.autograd.Function):
    """RevNet: backward runs the block's own autograd graph again, from its output."""

    @staticmethod
    def forward(ctx, x, block, *parameters):
        ctx.block, ctx.parameters = block, parameters
        with torch.no_grad():
            left, right = x.chunk(2, dim=1)
            out = torch.cat([left, right + block(left)], dim=1)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, gradient):
        (out,) = ctx.saved_tensors
        left = out.chunk(2, dim=1)[0].detach().requires_grad_()
        by_left, by_right = gradient.chunk(2, dim=1)
        with torch.enable_grad():
            moved = ctx.block(left)
        inner, *by_parameters = torch.autograd.grad(moved, (left, *ctx.parameters), by_right)
        return torch.cat([by_left + inner, by_right], dim=1), None, *by_parameters


def functions_by_class(net, h):
    y, index = ScaledLinear.apply(Swish.apply(h), net.mid.weight, None, 2.0)
    z, _ = ScaledLinear.apply(h.detach(), net.mid.weight, net.mid.bias, 0.5)
    return y + z + index[:, None]


def function_in_place(net, h):
    y = net.mid(h)
    return ReLUInPlace.apply(y) + y * h


class RevNet(Small):
    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(2, 2), nn.Tanh())

    def middle(self, h):
        return Invertible.apply(self.mid(h), self.block, *self.block.parameters())


def _gelu(x, scale: float):
    return 0.5 * x * (1.0 + torch.tanh(scale * (x + 0.044715 * x * x * x)))


class Scripted(Small):
    """A scripted function, a scripted submodule with parameters, a traced one."""

    def __init__(self):
        super().__init__()
        self.gelu = torch.jit.script(_gelu)
        self.scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)))
        self.traced = torch.jit.trace(nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()), torch.randn(4, 4))

    def middle(self, h):
        return self.traced(self.gelu(self.scripted(h), 0.8)) + self.scripted(self.mid(h))


class Compiled(Small):
    """A submodule compiled ahead of time, its forward and backward one opaque node each."""

    def __init__(self, backend):
        super().__init__()
        block = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
        self.block = torch.compile(block, backend=backend, fullgraph=True)

    def middle(self, h):
        return torch.tanh(self.block(h)) + self.mid(h)


class Ensemble(nn.Module):
    """torch.func: three networks' parameters stacked, one functional call mapped over them."""

    def __init__(self):
        super().__init__()
        self.members = nn.ModuleList(nn.Linear(5, 3) for _ in range(3))

    def forward(self, x):
        stacked = {
            name: torch.stack([dict(member.named_parameters())[name] for member in self.members])
            for name in ("weight", "bias")
        }

        def call(parameters, x):
            return torch.func.functional_call(self.members[0], parameters, (x,))

        return torch.func.vmap(call, in_dims=(0, None))(stacked, x).mean(0)


def vmapped(net, h):
    return torch.func.vmap(lambda row: torch.tanh(net.mid(row)) * row.sum())(h)


def function_gradient(net, h):
    energy = torch.func.grad(lambda z: torch.tanh(net.mid(z)).square().sum())
    return energy(h) + torch.func.vmap(energy)(h)


def function_jacobian(net, h):
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: torch.tanh(net.mid(row))))(h)
    return torch.einsum("bij,bj->bi", jacobian, h)


class Functional(Small):
    """functional_call with changed parameters: fast weights without a copy of the module."""

    def middle(self, h):
        parameters = {name: p * 0.5 + p.detach() for name, p in self.mid.named_parameters()}
        return torch.func.functional_call(self.mid, parameters, (h,)) + self.mid(h)


class Doubled(TorchFunctionMode):
    """Somebody else's mode: sees every function, too, and changes one."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        return out * 2 if func is torch.tanh else out


class CountsOperations(TorchDispatchMode):
    """A counter of operations, as profilers have it."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def other_function_mode(net, h):
    with Doubled(), torch.device("cpu"):
        return torch.tanh(net.mid(h)) + torch.ones(4)


class Profiled(Small):
    def middle(self, h):
        with CountsOperations(), torch.profiler.record_function("middle"):
            return torch.tanh(self.mid(h)) + h


class Tagged(torch.Tensor):
    """A user's subclass of Tensor, kept by every operation."""


class TaggedNet(Small):
    def middle(self, h):
        tagged = h.as_subclass(Tagged)
        tagged = self.mid(tagged) * tagged
        assert type(tagged) is Tagged
        return tagged.as_subclass(torch.Tensor)


class Fused(nn.Module):
    """Operations of C++ extensions, registered by name."""

    def __init__(self):
        super().__init__()
        self.hidden, self.readout = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = torch.ops.aten.tanh.default(self.hidden(x))
        h, scale = torch.ops.aten.native_layer_norm(h, [4], None, None, 1e-5)[:2]
        return torch._C._nn.linear(h, self.readout.weight) + torch._C._VariableFunctions.sigmoid(scale)


if hasattr(torch.library, "custom_op"):

    @torch.library.custom_op("wild::cube", mutates_args=())
    def cube(x: torch.Tensor) -> torch.Tensor:
        return x**3

    cube.register_autograd(
        lambda ctx, gradient: gradient * 3 * ctx.saved_tensors[0] ** 2,
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
    )


def threaded(net, h):
    """Branches in Python threads, and torch's own futures."""
    future = torch.futures.Future()
    future.set_result(net.mid(h))
    return future.wait() + torch.jit.wait(torch.jit.fork(net.mid, h * h))


SCRIPT = ("ignore:.*torch.jit.*deprecated", "ignore::torch.jit.TracerWarning")
DYNAMO = ("ignore:The .grad attribute of a Tensor that is not a leaf",)

UNSEEN = "values that arise where no operation is seen are no function that could be evaluated again"

OUTSIDE = (
    Wild(
        "function-by-alias",
        small(lambda net, h: clip(net.mid(clip(h)))),
        "clip = Clip.apply at module level",
        fixed=UNSEEN,
    ),
    Wild("function-by-class", small(functions_by_class), "Function.apply with parameters, None, numbers, two outputs"),
    Wild(
        "function-without-error",
        small(lambda net, h: Silent.apply(h, Swish.apply(net.mid(h)))),
        "an error that is not defined is zeros to the custom function behind it",
        fixed="no error at all in state form, and so no gradient, where autograd has zeros",
    ),
    Wild("function-in-place", small(function_in_place), "mark_dirty: a value written by a custom function"),
    Wild("through-numpy", small(lambda net, h: net.mid(ThroughNumPy.apply(h))), "values leave torch and come back"),
    Wild("reversible", RevNet, "a custom function that runs autograd in its backward"),
    Wild("scripted", Scripted, "a scripted function, scripted and traced submodules", warns=SCRIPT, fixed=UNSEEN),
    Wild(
        "compiled",
        lambda: Compiled("aot_eager"),
        "a compiled submodule, its backward one opaque node",
        warns=DYNAMO,
        fixed=UNSEEN,
    ),
    Wild(
        "compiled-eager",
        lambda: Compiled("eager"),
        "a submodule compiled by Dynamo alone, as a graph of operations",
        warns=DYNAMO,
        fixed=UNSEEN,
    ),
    Wild("ensemble", Ensemble, "stacked parameters, functional_call under vmap", fixed=UNSEEN),
    Wild("vmap", small(vmapped), "vmap over a function that reads parameters", fixed=UNSEEN),
    Wild(
        "func-grad",
        small(function_gradient),
        "torch.func.grad in forward, alone and mapped",
        fixed="a gradient inside forward",
    ),
    Wild("func-jacrev", small(function_jacobian), "torch.func.jacrev in forward", fixed="a gradient inside forward"),
    Wild("functional-call", Functional, "functional_call with computed parameters"),
    Wild("other-function-mode", small(other_function_mode), "a user's TorchFunctionMode and torch.device as a mode"),
    Wild("dispatch-mode", Profiled, "a user's TorchDispatchMode inside forward, a profiler's record"),
    Wild("tensor-subclass", TaggedNet, "a subclass of Tensor that operations keep", fixed=UNSEEN),
    Wild("operators-by-name", Fused, "torch.ops and torch._C: what torch.overrides may not see"),
    Wild(
        "custom-operator",
        small(lambda net, h: torch.ops.wild.cube(net.mid(h))),
        "a library operator with a registered derivative",
        needs=hasattr(torch.library, "custom_op"),
    ),
    Wild("futures", small(threaded), "torch.jit.fork and futures", vectors(5), F.cross_entropy, warns=SCRIPT),
)
