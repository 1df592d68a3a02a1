"""Z-IL under DistributedDataParallel; oracle: `loss.backward()` under it, in the same processes, bit by bit.

Aimed at: gradients that are averaged twice, too early, or not at all; buckets in another order, in which three numbers add up
to other bits; a wave that waits for communication until its end; buffers and dropout masks of another process.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, partial
from tempfile import TemporaryDirectory

import pytest
import torch
import torch.distributed as dist
from problems import assert_same_bits, relative_l2
from torch import multiprocessing, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel, distributed

import pcbench
from pcbench import ZIL, Captured, Dynamics, UnsupportedModule
from pcbench.errors import NonFiniteLoss

UPDATES = 3
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
ADAM = partial(torch.optim.Adam, lr=0.01)


class Stop(torch.autograd.Function):
    """The identity, behind which there are no gradients."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return None


def mlp():
    hidden = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 16), nn.ReLU()
    return nn.Sequential(*hidden, nn.Linear(16, 3))


class Tied(nn.Module):
    """A matrix that is read at both ends."""

    def __init__(self):
        super().__init__()
        self.ends, self.middle, self.readout = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.readout(torch.tanh(self.ends(torch.tanh(self.middle(torch.tanh(self.ends(x)))))))


class Recurrent(nn.Module):
    """Cells that are operations of their own, or hide in one that reads all their parameters at once."""

    def __init__(self, cells):
        super().__init__()
        self.cells, self.readout = cells(2, 8, num_layers=2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.readout(self.cells(x.unflatten(1, (3, 2)))[0][:, -1])


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.readout = nn.Embedding(7, 6, sparse=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.readout(torch.tanh(self.table((x * 3).long().abs() % 7).sum(1)))


class Halted(nn.Module):
    """Two layers of which one learns nothing, though the loss depends on it."""

    def __init__(self):
        super().__init__()
        self.first, self.halted, self.readout = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        return self.readout(h + Stop.apply(torch.tanh(self.halted(h))))


class Unused(nn.Module):
    """Layers of which a process uses some, another process others; one is used by none."""

    def __init__(self):
        super().__init__()
        self.first, self.readout = nn.Linear(6, 6), nn.Linear(6, 3)
        self.branches = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))

    def forward(self, x):
        h = torch.tanh(self.first(x))
        return self.readout(torch.tanh(self.branches[dist.get_rank()](h)) * h)


class Many(nn.Module):
    """One operation that reads many parameters, beside others; all of them are whole at once."""

    def __init__(self):
        super().__init__()
        self.stem, self.readout = nn.Linear(6, 6), nn.Linear(6, 3)
        self.rows = nn.ParameterList(torch.randn(6) for _ in range(7))

    def forward(self, x):
        h = torch.tanh(self.stem(x))
        return self.readout(torch.tanh(h @ torch.stack(list(self.rows)).t()[:, :6]) * h)


class Watched(nn.Module):
    """Layers of different widths.

    Attributes:
        log: what has happened: a value's whole error, a parameter's hooks.
    """

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(map(nn.Linear, (6, 9, 10, 11), (9, 10, 11, 3)))
        self.log = []
        self.nodes = [parameter.view_as(parameter).grad_fn.next_functions[0][0] for parameter in self.parameters()]
        for (name, parameter), node in zip(self.named_parameters(), self.nodes, strict=True):
            parameter.register_hook(lambda gradient, name=name: self.log.append(f"gradient of {name}"))
            parameter.register_post_accumulate_grad_hook(lambda _, name=name: self.log.append(f"{name}.grad"))
            node.register_hook(lambda _, errors, name=name: self.log.append(f"node of {name}"))

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = torch.tanh(layer(x))
            x.register_hook(lambda error, i=i: self.log.append(f"error {i}"))
        return x


@dataclass(frozen=True)
class Case:
    """A network that learns in several processes.

    Attributes:
        model: makes it.
        options: of DistributedDataParallel.
        optimizer: of the parameters.
        parts: how many batches make one update; only the last of them is synchronised.
    """

    model: Callable[[], nn.Module]
    options: dict = field(default_factory=dict)
    optimizer: Callable = SGD
    parts: int = 1


CASES = {
    "mlp": Case(mlp),
    "mlp, Adam, views of buckets": Case(mlp, {"gradient_as_bucket_view": True}, ADAM),
    "mlp, accumulated": Case(mlp, parts=3),
    "mlp, no broadcast": Case(mlp, {"broadcast_buffers": False}),
    "tied": Case(Tied),
    "recurrent": Case(partial(Recurrent, pcbench.nn.LSTM), optimizer=ADAM),
    "recurrent, one kernel": Case(partial(Recurrent, nn.LSTM)),
    "sparse": Case(Sparse),
    "halted": Case(Halted),
    "halted, looked for": Case(Halted, {"find_unused_parameters": True}),
    "unused": Case(Unused, {"find_unused_parameters": True}),
    "many": Case(Many),
    "watched": Case(Watched),
}


def backpropagation(net):
    return lambda x, y: F.cross_entropy(net(x), y).backward()


def by_rule(make_rule, net):
    rule = make_rule(net)
    return lambda x, y: rule.backward(x, y, F.cross_entropy)


def update_of(make, case, rank):
    """Let a network learn, and return what each update leaves behind."""
    torch.manual_seed(0)
    net = case.model()
    wrapped = DistributedDataParallel(net, bucket_cap_mb=0.0001, **case.options)
    log = getattr(net, "log", [])
    if log is getattr(net, "log", None):

        def noted(group, bucket):
            log.append(f"bucket {bucket.index()}: {[tuple(p.shape) for p in bucket.parameters()]}")
            return default_hooks.allreduce_hook(group, bucket)

        wrapped.register_comm_hook(dist.group.WORLD, noted)
    optimizer, backward = case.optimizer(net.parameters()), make(wrapped)
    torch.manual_seed(1 + rank)
    dtype, left = next(net.parameters()).dtype, []
    for _ in range(UPDATES):
        log.append("update")
        for part in range(case.parts):
            with wrapped.no_sync() if part < case.parts - 1 else nullcontext():
                backward(torch.randn(5, 6, dtype=dtype), torch.randint(3, (5,)))
        gradients = {f"gradient of {name}": parameter.grad for name, parameter in net.named_parameters()}
        found = {name: None if g is None else g.to_dense().clone() for name, g in gradients.items()}
        optimizer.step()
        optimizer.zero_grad()
        left.append(found | {name: tensor.clone() for name, tensor in net.state_dict().items()})
    return {"left": left, "log": list(log)}


def local(rank):
    """Gradients of one batch: each process's own, which nothing averages, and then backpropagation's, averaged."""
    torch.manual_seed(0)
    net = mlp().eval()
    wrapped = DistributedDataParallel(net)
    torch.manual_seed(1 + rank)
    batch = torch.randn(5, 6), torch.randint(3, (5,))
    found = ZIL(wrapped).gradients(*batch, F.cross_entropy)[1]
    assert all(parameter.grad is None for parameter in net.parameters())
    own = [found[parameter] for parameter in net.parameters()]
    backpropagation(wrapped)(*batch)
    return {"own": own, "averaged": [parameter.grad for parameter in net.parameters()]}


def work(rank, processes, folder):
    """What one process does."""
    torch.set_num_threads(1)
    dist._DEFAULT_FIRST_BUCKET_BYTES = 100  # of 1 MiB there would be one bucket
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=processes, timeout=timedelta(seconds=60))
    found = {
        name: [update_of(make, case, rank) for make in (backpropagation, partial(by_rule, ZIL))]
        for name, case in CASES.items()
    }
    found["state form"] = [
        update_of(make, Case(lambda: mlp().double()), rank) for make in (backpropagation, partial(by_rule, Dynamics))
    ]
    found["local"] = local(rank)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@cache
def learned(processes):
    """What all processes have found."""
    with TemporaryDirectory() as folder:
        multiprocessing.spawn(work, (processes, folder), processes)
        return [torch.load(f"{folder}/{rank}.pt") for rank in range(processes)]


several = pytest.mark.parametrize("processes", [2, 3], ids=["two processes", "three processes"])


@several
@pytest.mark.parametrize("name", CASES)
def test_every_process_has_the_bits_of_backpropagation_after_every_update(processes, name):
    for process in learned(processes):
        for expected, actual in zip(*(rule["left"] for rule in process[name]), strict=True):
            assert_same_bits(actual, expected)


@several
def test_every_process_has_the_same_weights(processes):
    for name in CASES:
        weights = [
            {key: tensor for key, tensor in process[name][1]["left"][-1].items() if "running" not in key}
            for process in learned(processes)
        ]
        for other in weights[1:]:
            assert_same_bits(other, weights[0])


@several
def test_gradients_alone_are_of_each_process_and_their_mean_is_what_is_averaged(processes):
    own = [process["local"]["own"] for process in learned(processes)]
    assert not any(torch.equal(a, b) for a, b in zip(*own[:2], strict=True))
    for process in learned(processes):
        for averaged, *terms in zip(process["local"]["averaged"], *own, strict=True):
            torch.testing.assert_close(averaged, torch.stack(terms).mean(0))


@several
def test_what_hangs_on_parameters_sees_gradients_when_it_does_under_backpropagation(processes):
    for process in learned(processes):
        expected, actual = (rule["log"] for rule in process["watched"])
        assert actual == expected


@several
def test_buckets_go_out_while_errors_are_still_on_their_way(processes):
    for process in learned(processes):
        log = process["watched"][1]["log"]
        last = log[-log[::-1].index("update") :]  # by then buckets are in the order in which gradients become whole
        buckets = [i for i, entry in enumerate(last) if entry.startswith("bucket")]
        errors = [i for i, entry in enumerate(last) if entry.startswith("error")]
        assert len(buckets) > 2
        assert errors[0] < buckets[0] < buckets[1] < errors[-1]


@several
def test_the_state_form_is_averaged_too(processes):
    for process in learned(processes):
        for expected, actual in zip(*(rule["left"] for rule in process["state form"]), strict=True):
            assert relative_l2(actual, expected) < 1e-10


@pytest.fixture
def alone(tmp_path):
    """A process group of this process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


BATCH = torch.ones(4, 6), torch.zeros(4, dtype=torch.long), F.cross_entropy


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("make_rule", [ZIL, Dynamics])
def test_a_loss_that_is_not_finite_is_refused_before_anything_is_averaged(make_rule):
    net, told = mlp(), []
    wrapped = DistributedDataParallel(net)
    wrapped.register_comm_hook(
        None, lambda _, bucket: told.append(bucket) or default_hooks.allreduce_hook(None, bucket)
    )
    rule = make_rule(wrapped)
    with pytest.raises(NonFiniteLoss):
        rule.backward(*BATCH[:2], lambda *pair: F.cross_entropy(*pair) * float("inf"))
    assert not told and all(parameter.grad is None for parameter in net.parameters())
    rule.backward(*BATCH)
    assert told and all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("make_rule", [ZIL, Dynamics])
@pytest.mark.parametrize(
    ("option", "value", "instead"),
    [
        ("static_graph", True, "find_unused_parameters=True"),
        pytest.param(
            "mixed_precision",
            distributed._MixedPrecision(param_dtype=torch.bfloat16),
            "torch.autocast",
            marks=pytest.mark.skipif(
                not torch.cuda.is_available(), reason="no GPU, without which there is no such option"
            ),
        ),
    ],
)
def test_what_waits_for_the_end_of_the_engines_pass_is_refused_by_name(make_rule, option, value, instead):
    net = nn.Sequential(DistributedDataParallel(mlp(), **{option: value}))
    message = rf"'0' \(DistributedDataParallel\) has {option}, .* {instead}"
    with pytest.raises(UnsupportedModule, match=message):
        make_rule(net).backward(*BATCH)


@pytest.mark.usefixtures("alone")
def test_an_update_that_averages_is_not_captured():
    wrapped = DistributedDataParallel(mlp())
    with pytest.raises(UnsupportedModule, match=r"prepares averaging in its forward, .* use the rule as it is"):
        Captured(ZIL(wrapped)).backward(*BATCH)


@pytest.mark.usefixtures("alone")
def test_a_gradient_is_not_copied_on_its_way():
    """The engine makes a copy of what somebody else holds."""
    net, places = mlp(), []
    net[-1].weight.register_hook(lambda gradient: places.append(gradient.data_ptr()))
    ZIL(net).backward(*BATCH)
    assert net[-1].weight.grad.data_ptr() == places[0]
