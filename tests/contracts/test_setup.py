"""The batches of an epoch; oracle: every example once, and a function of seed and epoch alone.

Aimed at: a text whose label is another's, and an epoch that repeats the last one.
"""

import pytest
import torch

from pcbench.data import Split
from pcbench.measure._setup import epoch_batches

EXAMPLES, LENGTH = 37, 12


def split(bucketed):
    lengths = torch.randint(1, LENGTH + 1, (EXAMPLES,), generator=torch.Generator().manual_seed(0))
    targets = torch.arange(EXAMPLES)
    # The last token, which no batch cuts off, names the example.
    inputs = torch.where(torch.arange(LENGTH) >= LENGTH - lengths[:, None], targets[:, None] + 1, 0)
    return Split(inputs, targets, bucketed)


@pytest.mark.parametrize("bucketed", [False, True])
def test_every_example_comes_once_and_with_its_own_target(bucketed):
    batches = list(epoch_batches(split(bucketed), 8, seed=0, epoch=0))
    assert all(torch.equal(inputs[:, -1] - 1, targets) for inputs, targets in batches)
    assert sorted(torch.cat([targets for _, targets in batches]).tolist()) == list(range(EXAMPLES))


@pytest.mark.parametrize("bucketed", [False, True])
def test_the_order_is_a_function_of_seed_and_epoch(bucketed):
    def order(seed, epoch):
        return torch.cat([targets for _, targets in epoch_batches(split(bucketed), 8, seed, epoch)]).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) != order(1, 1)


def test_bucketed_batches_leave_out_padding_only():
    widths = set()
    for inputs, targets in epoch_batches(split(bucketed=True), 8, seed=0, epoch=0):
        widths.add(inputs.shape[1])
        whole = split(bucketed=True).inputs[targets]
        assert torch.equal(whole[:, -inputs.shape[1] :], inputs)
        assert not whole[:, : -inputs.shape[1]].any()
    assert len(widths) > 1
