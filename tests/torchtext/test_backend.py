"""The text tasks with torchtext as back end: the same data sets as PCBench's own, and Z-IL is BP on them.

The quiet failure aimed at: rows, tokens and numbers agree one by one, and the tensors that a network is trained on do not.
"""

import pytest
from contracts.test_text_formats import small_ag_news, small_imdb, small_sst2
from parity import ROOT

from pcbench import params, tasks
from pcbench.measure.matched import Matched
from pcbench.measure.training import train

backend = pytest.importorskip("backend", reason="torchtext is not installed here: run `make test-torchtext`")
pytestmark = pytest.mark.filterwarnings("ignore:Some child DataPipes are not exhausted:UserWarning")

SIZE = 12  # fewer than there are tokens in any of the small files
SMALL = {"steps": 8, "embedding": 4, "hidden": 5}
NUMBERS = {"batch_size": 2, "optimizer": {"name": "adam", "lr": 0.05}}
TASKS = {
    "agnews-rnn": (small_ag_news, SMALL),
    "imdb-lstm": (small_imdb, {"kind": "LSTM", **SMALL}),
    "sst2-gru": (small_sst2, {"kind": "GRU", **SMALL}),
}
SETTINGS = {"rules": {rule: {"label": rule, "engine": rule} for rule in ("bp", "zil")}}


@pytest.fixture(params=TASKS)
def matched(request, fetched):
    """A task with small numbers, on its data set by PCBench and by torchtext."""
    small, model = TASKS[request.param]
    spec, files = small()
    folder, root = fetched(spec, files)
    *_, classes, length, _ = spec.read.args
    ours = spec.read.func(*spec.read.args[:-1], SIZE, folder)
    theirs = backend.load(spec.name, root, classes, length, SIZE)
    settings = {**params.task(params.load(ROOT / "params.yaml"), request.param), "model": model, **NUMBERS}
    return [Matched(tasks.named(request.param, settings["network"]), settings, data) for data in (ours, theirs)]


def test_a_data_set_made_by_torchtext_is_pcbench_s_tensor_for_tensor(matched):
    ours, theirs = (by_backend.data for by_backend in matched)
    assert theirs.name == matched[0].settings["data"]
    assert len(theirs.vocabulary) == SIZE
    assert backend.differences(ours, theirs) == []


def test_with_torchtext_as_back_end_zil_has_bp_s_weights_and_they_are_those_of_pcbench_s_loader(matched, tmp_path):
    found = [
        train(by_backend, SETTINGS, seed=0, epochs=3, checkpoint=tmp_path / f"{i}.pt")
        for i, by_backend in enumerate(matched)
    ]
    bp, zil = (entry["metrics"] for entry in found[1]["results"])
    assert zil["divergence"]["l2"] == zil["divergence"]["max_ulp"] == [0] * zil["updates"]
    assert zil["weights_sha256"] == bp["weights_sha256"]
    assert found[1] == found[0]
