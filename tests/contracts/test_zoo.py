"""torchvision's own classifiers; oracle: backpropagation on the unmodified model, and its own repetition.

Aimed at: a model that was changed by being looked at, an image size that the model refuses, buffers that nobody compared.
"""

import json

import pytest
import torch
import torchvision
from problems import assert_same_bits

from pcbench.errors import InvalidParameters
from pcbench.files import write_json
from pcbench.measure.zoo import SIDES, loss, names, smallest_side, zoo

SETTINGS = {"batch_size": 2, "seed": 0}


@pytest.mark.parametrize(
    "name",
    [
        "squeezenet1_1",
        pytest.param("resnet18", marks=pytest.mark.slow),
        pytest.param("googlenet", marks=pytest.mark.slow),
    ],
)
def test_zil_is_exact_on_torchvisions_own_networks(name, tmp_path):
    result = zoo(name, SETTINGS)
    head = {key: result[key] for key in ("schema", "stage", "task", "family")}
    assert head == {"schema": 1, "stage": "zoo", "task": name, "family": "cnn"}
    (record,) = result["results"]
    metrics = record["metrics"]
    assert metrics["bp_repeats_itself"] and metrics["bitwise_equal"] and metrics["buffers_equal"]
    assert (metrics["l2"], metrics["max_ulp"]) == (0.0, 0)
    proof = metrics["proof"]
    assert proof["equal"] and proof["operations"] == proof["own_operations"] > metrics["parameters"]
    assert proof.keys() == {"equal", "operations", "own_operations", "digest"}
    options = {"init_weights": True} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, weights=None, **options)
    assert metrics["parameters"] == len(list(model.parameters()))
    assert metrics["elements"] == sum(p.numel() for p in model.parameters())
    write_json(tmp_path / "zoo.json", result)
    assert json.loads((tmp_path / "zoo.json").read_text()) == result


def test_a_model_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(InvalidParameters, match=r"torchvision has no classifier 'resnet19'; it has .*resnet18"):
        zoo("resnet19", SETTINGS)
    with pytest.raises(InvalidParameters, match="no classifier 'fcn_resnet50'"):
        zoo("fcn_resnet50", SETTINGS)  # a segmentation network, which torchvision has too


def test_looking_for_a_size_leaves_the_model_and_the_random_state_alone():
    model = torchvision.models.get_model("squeezenet1_1", weights=None)
    model.features[0] = torch.nn.Sequential(model.features[0], torch.nn.BatchNorm2d(64))
    before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    side = smallest_side(model, 2)
    assert side in SIDES
    assert_same_bits(model.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), state)
    model(torch.zeros(2, 3, side, side))


def test_a_model_that_accepts_no_image_is_refused():
    with pytest.raises(InvalidParameters, match="Linear accepts no square image"):
        smallest_side(torch.nn.Linear(7, 2), 2)


def test_auxiliary_outputs_add_to_the_loss():
    logits, targets = torch.randn(4, 5), torch.tensor([0, 1, 2, 3])
    single = torch.nn.functional.cross_entropy(logits, targets)
    assert torch.equal(loss(logits, targets), single)
    assert loss((logits, logits, logits), targets).item() == pytest.approx(3 * single.item())


def test_only_classifiers_are_listed():
    assert "resnet18" in names() and "fcn_resnet50" not in names()
