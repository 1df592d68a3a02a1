"""What is peculiar to autograd holds of Z-IL too; oracle: autograd on the same network, bit by bit and stride by stride.

Aimed at: a gradient of zeros where there is none, a sum in another order where one value is read by two edges, a hook
that is never run or stays with the tensor's old value, and what two readers of a value share under autocast.
"""

import copy
import threading

import pytest
import torch
import torch.distributed as dist
from problems import assert_same_bits, gradients_of, relative_l2
from torch import nn
from torch.autograd import Variable, forward_ad
from torch.nn import functional as F

from pcbench import ZIL, Backprop, Dynamics, UnsupportedModule
from pcbench.values import Values

CASES = {}


@pytest.fixture(params=[False, True], ids=["alone", "in a process group"])
def _group(request, tmp_path):
    """Where processes may learn together gradients are left behind in another way."""
    if request.param:
        dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    if request.param:
        dist.destroy_process_group()


def case(function):
    CASES[function.__name__] = function
    return function


class Net(nn.Module):
    """5 → 4, a function of the network and the 4 hidden values, 4 → 3.

    Attributes:
        seen: values whose retained errors are looked at.
        given: what hooks have been given.
    """

    def __init__(self, function):
        super().__init__()
        self.stem, self.mid, self.readout = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.function, self.seen, self.given = function, [], []

    def forward(self, x):
        return self.readout(self.function(self, torch.tanh(self.stem(x))))


class Same(torch.autograd.Function):
    """The identity; it makes zeros of errors that are missing, as functions do by default."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Stop(Same):
    @staticmethod
    def backward(ctx, gradient):
        return None


class Three(torch.autograd.Function):
    """Three results, any of which may stay unread; told of missing errors as None, or as zeros."""

    @staticmethod
    def forward(ctx, x, y, zeros):
        ctx.set_materialize_grads(zeros)
        return x * 2, y * 3, x + y

    @staticmethod
    def backward(ctx, a, b, c):
        def total(factor, own):
            parts = [g * f for g, f in ((own, factor), (c, 1)) if g is not None]
            return sum(parts) if parts else None

        return total(2, a), total(3, b), None


@case
def zeros_where_a_function_stops(net, h):
    return net.mid(Stop.apply(Same.apply(net.mid(h))))


@case
def nothing_where_a_function_stops_plain_operations(net, h):
    return net.mid(Stop.apply(torch.tanh(net.mid(h)))) + net.readout.weight.sum()


@case
def results_that_nobody_reads(net, h):
    first = Three.apply(net.mid(h), h, True)[1]
    second = Three.apply(net.mid(h), h, False)[0]
    third = Three.apply(net.mid(h), h, False)[2]
    return first * second + third


@case
def a_hooked_square(net, h):
    """Both contributions to the value come from one node, and others came before."""
    y = net.mid(h)
    square = y * y
    square.grad_fn.register_hook(lambda products, errors: None)
    return square * 1.1 + torch.sin(y) * 1.3 + (y * 1.7).cos()


@case
def a_hooked_node_and_the_value_that_it_and_its_predecessor_read(net, h):
    y = net.mid(h)
    y.register_hook(lambda gradient: gradient * 3)
    y.mul_(h)
    y.register_hook(lambda gradient: gradient * 0.5)
    return y * h


@case
def hooks_behind_the_node_that_was_asked_for(net, h):
    y = torch.tanh(torch.sin(net.mid(h)))
    y.grad_fn.next_functions[0][0].register_hook(lambda products, errors: (products[0] * 3,))
    return y * h


@case
def a_view_hooked_before_and_after_a_write(net, h):
    y = net.mid(h)
    left = y[:, :2]
    left.register_hook(lambda gradient: gradient * 2)
    y.mul_(h)
    left.register_hook(lambda gradient: gradient * 3)
    return torch.cat([left, y[:, 2:]], dim=1)


@case
def a_retained_error_follows_a_write(net, h):
    y = net.mid(h)
    y.retain_grad()
    y.mul_(h)
    net.seen.append(y)
    return y * h


@case
def an_error_retained_in_two_passes(net, h):
    y = net.mid(h)
    y.retain_grad()
    net.seen.append(y)
    (gradient,) = torch.autograd.grad((y * y * h).sum(), h, create_graph=True)
    return y + gradient


@case
def a_gradient_asked_for_by_its_edge(net, h):
    y = torch.tanh(net.mid(h))
    edge = torch.autograd.graph.get_gradient_edge(h)
    (gradient,) = torch.autograd.grad((y * y * h).sum(), [edge], create_graph=True)
    return y + gradient * y


@case
def the_gradient_of_a_parameter_by_itself(net, h):
    (gradient,) = torch.autograd.grad(net.mid.bias, net.mid.bias, torch.full((4,), 0.3))
    return net.mid(h) * gradient


@case
def a_hook_beside_the_way_of_a_gradient_inside(net, h):
    y, other = net.mid(h), net.mid(torch.ones_like(h))
    other.register_hook(net.given.append)
    y.register_hook(net.given.append)
    (gradient,) = torch.autograd.grad((y * y * other).sum(), h, create_graph=True)
    return y + gradient * other


@case
def views_that_grow_stale(net, h):
    y = net.mid(h)
    left, right, rows = y[:, :2], y[:, 2:], y.view(2, 8)
    left.mul_(2)
    right.add_(h[:, :2])
    flat = y.view(16)
    rows[0].mul_(h.view(-1)[:8])
    return torch.cat([left * right, (flat * rows.reshape(-1)).view(4, 4)[:, :2]], dim=1)


@case
def a_stale_view_read_by_an_older_operation_than_its_history(net, h):
    y = net.mid(h)
    left = y[:, :2]
    y.mul_(h)
    older = torch.sin(left)
    return torch.cat([older * left, left * h[:, :2]], dim=1)


@case
def one_value_on_both_sides_of_an_operation(net, h):
    y = net.mid(h)
    early = torch.addcmul(y, y, torch.full_like(y, 0.3)) + torch.addcmul(y, y, y)
    return early + torch.sin(y) * 1.3 + (y * 1.7).cos()


@case
def arguments_returned_as_they_are(net, h):
    y = net.mid(h)
    same = y.type_as(h)
    assert same is y
    same.mul_(h)
    row, column = torch.broadcast_tensors(y[:1], h[:, :1])
    return same * h + row * column


@case
def operators_by_their_full_names(net, h):
    y = net.mid(h)
    torch.ops.aten.mul_.Tensor(y, h)
    torch.ops.aten.add_(y, h)
    return torch.ops.aten.mul.Tensor(y, h)


@case
def tangents(net, h):
    with forward_ad.dual_level():
        out = torch.tanh(net.mid(forward_ad.make_dual(h, torch.ones_like(h))) * h)
        value, tangent = forward_ad.unpack_dual(out)
    return value + tangent


@case
def results_with_names_as_a_list(net, h):
    return torch.stack(torch.aminmax(net.mid(h), dim=1)).t().repeat(1, 2) * h


@case
def memory_of_another_value(net, h):
    y = net.mid(h)
    y.data = torch.where(h > 0, h, y)
    return y * h


@case
def casts_of_a_value_with_several_readers(net, h):
    """Autocast keeps the cast of a parameter for all of its readers, and their errors are added up there; not of a value."""
    with torch.autocast("cpu", torch.bfloat16):
        h = (h * 1.1).float()
        heads = [F.linear(h, weight) for weight in (net.mid.weight * 2, net.mid.weight.t(), net.mid.weight.sin())]
        return (torch.tanh(net.mid(h)) * heads[0] + heads[1] + heads[2]).float()


@case
def a_table_read_sparsely_and_densely(net, h):
    return net.mid(h) + F.embedding(torch.tensor([0, 1, 1, 3]), net.mid.weight, sparse=True)


@case
def a_long_chain(net, h):
    for _ in range(2000):
        h = torch.sin(h)
    return net.mid(h)


def update(make_rule, function, dtype=torch.float32):
    torch.manual_seed(0)
    net = Net(function).to(dtype)
    make_rule(net).backward(torch.randn(4, 5, dtype=dtype), torch.randint(3, (4,)), F.cross_entropy)
    return net


@pytest.mark.usefixtures("_group")
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf", "ignore:.*torch.jit.*deprecated"
)
@pytest.mark.parametrize("function", CASES.values(), ids=CASES)
def test_zil_has_the_bits_and_the_strides_of_autograd(function):
    actual, expected = update(ZIL, function), update(Backprop, function)
    assert_same_bits(gradients_of(actual), gradients_of(expected))
    strides = [[None if p.grad is None else p.grad.stride() for p in net.parameters()] for net in (actual, expected)]
    assert strides[0] == strides[1]
    assert_same_bits(*({str(i): value.grad for i, value in enumerate(net.seen)} for net in (actual, expected)))
    assert_same_bits(*(dict(enumerate(net.given)) for net in (actual, expected)))


def test_the_state_form_moves_values_in_lists_of_torchs_own():
    actual, expected = (update(rule, results_with_names_as_a_list, torch.float64) for rule in (Dynamics, Backprop))
    assert relative_l2(gradients_of(actual), gradients_of(expected)) < 1e-10


def test_one_hook_on_several_gradients_is_refused():
    def function(net, h):
        torch.autograd.graph.register_multi_grad_hook((net.mid(h), h), lambda gradients: None)

    with pytest.raises(UnsupportedModule, match="registers one hook on the gradients of several values"):
        update(ZIL, function)


class Layouts(nn.Module):
    """Parameters that are not contiguous, and gradients that are expanded or transposed."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
        self.weight = nn.Parameter(torch.randn(3, 8).t())
        self.scale, self.row = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8, 1))
        self.turned = nn.Parameter(torch.randn(3, 8))

    def forward(self, x):
        h = self.conv(x).mean((2, 3)) * self.scale + self.row.t()
        return h @ self.weight + h @ self.turned.t().contiguous()


@pytest.mark.usefixtures("_group")
def test_gradients_lie_in_memory_as_autograds_do():
    found = []
    for make_rule in (Backprop, ZIL):
        torch.manual_seed(0)
        model = Layouts()
        make_rule(model).backward(torch.randn(2, 4, 6, 6), torch.tensor([0, 1]), F.cross_entropy)
        found.append(model)
    assert_same_bits(*map(gradients_of, found))
    assert len({str([p.grad.stride() for p in model.parameters()]) for model in found}) == 1


@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize("make_rule", [Backprop, ZIL])
def test_a_parameter_may_be_the_loss(make_rule):
    model = nn.Linear(1, 1)
    make_rule(model).backward(torch.ones(2, 1), None, lambda outputs, targets: model.bias)
    assert model.bias.grad == 1
    assert model.weight.grad is None


class Embeds(nn.Module):
    """A table whose gradient is sparse in some updates and dense in others."""

    def __init__(self):
        super().__init__()
        self.table, self.readout, self.sparse = nn.Parameter(torch.randn(6, 4)), nn.Linear(4, 3), True

    def forward(self, x):
        return self.readout(torch.tanh(F.embedding(x, self.table, sparse=self.sparse)))


@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize("order", [(True, False, True), (False, True, False), (True, True)])
def test_sparse_and_dense_gradients_accumulate(order):
    found = []
    for make_rule in (Backprop, ZIL):
        torch.manual_seed(0)
        model = Embeds()
        for model.sparse in order:
            make_rule(model).backward(torch.tensor([1, 2, 2]), torch.tensor([0, 1, 2]), F.cross_entropy)
        found.append(model)
    expected, actual = (model.table.grad for model in found)
    assert actual.layout is expected.layout
    assert_same_bits({"table": actual.to_dense()}, {"table": expected.to_dense()})


class Carries(nn.Module):
    """Forgets to detach its state."""

    def __init__(self):
        super().__init__()
        self.cell, self.state = nn.RNNCell(5, 3), None

    def forward(self, x):
        self.state = self.cell(x, self.state)
        return self.state


@pytest.mark.parametrize(
    ("make_rule", "error"), [(Backprop, RuntimeError), (ZIL, UnsupportedModule), (Dynamics, UnsupportedModule)]
)
def test_a_value_of_an_earlier_update_is_refused(make_rule, error):
    rule = make_rule(Carries())
    with pytest.raises(error):
        for _ in range(3):
            rule.backward(torch.randn(4, 5), torch.randint(3, (4,)), F.cross_entropy)


@pytest.mark.usefixtures("_group")
def test_what_a_hook_keeps_is_not_the_gradient_that_optimizers_write_into():
    model, kept = nn.Linear(5, 3), []
    model.bias.register_hook(kept.append)
    ZIL(model).backward(torch.randn(4, 5), torch.randint(3, (4,)), F.cross_entropy)
    before = kept[0].clone()
    model.bias.grad.zero_()
    assert torch.equal(kept[0], before)


class Teaches(nn.Module):
    """A forward in which another network learns."""

    def __init__(self, rule):
        super().__init__()
        self.stem, self.inner, self.readout, self.rule = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3), rule

    def forward(self, x):
        h = torch.tanh(self.stem(x))
        self.rule(self.inner).backward(
            Same.apply(h).detach(), torch.ones(4, 4), lambda o, t: F.mse_loss(Same.apply(o), t)
        )
        step = self.inner.weight.grad.clone()
        self.inner.zero_grad()
        return self.readout(h @ step + h)


@pytest.mark.parametrize("inner", [ZIL, Dynamics])
def test_a_rule_works_inside_a_rule(inner):
    found = []
    for outer, rule in ((Backprop, inner), (ZIL, inner)):
        torch.manual_seed(0)
        model = Teaches(rule)
        outer(model).backward(torch.randn(4, 5), torch.randint(3, (4,)), F.cross_entropy)
        found.append(gradients_of(model))
    assert_same_bits(*found)


def test_rules_work_in_threads_side_by_side():
    patched, engine = torch.overrides.has_torch_function, Variable._execution_engine
    models = [Net(lambda net, h: net.mid(h) * h)]
    models += [copy.deepcopy(models[0]) for _ in range(4)]
    batch = torch.randn(4, 5), torch.randint(3, (4,)), F.cross_entropy
    ended = [[] for _ in models]
    for model, of_model in zip(models, ended, strict=True):
        model.mid.weight.register_post_accumulate_grad_hook(
            lambda _, end=of_model: Variable._execution_engine.queue_callback(lambda: end.append(threading.get_ident()))
        )

    def learn(rule):
        for _ in range(20):
            rule.backward(*batch)

    threads = [threading.Thread(target=learn, args=(ZIL(model),)) for model in models[1:]]
    for thread in threads:
        thread.start()
    learn(Backprop(models[0]))
    for thread in threads:
        thread.join()
    for model in models[1:]:
        assert_same_bits(gradients_of(model), gradients_of(models[0]))
    assert ended == [[threading.get_ident()] * 20, *([thread.ident] * 20 for thread in threads)]
    assert torch.overrides.has_torch_function is patched
    assert Variable._execution_engine is engine


def test_the_patches_last_as_long_as_the_longest_block_that_needs_them():
    original = torch.overrides.has_torch_function
    first, second = Values(nn.Linear(1, 1)), Values(nn.Linear(1, 1))
    with first:
        thread = threading.Thread(target=lambda: second.__enter__())
        thread.start()
        thread.join()
    assert torch.overrides.has_torch_function is not original
    second._aside.__exit__(None, None, None)
    assert torch.overrides.has_torch_function is original
