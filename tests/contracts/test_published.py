"""Published values and sentences; oracle: their citations, and the figures that they are set beside.

Aimed at: a sentence without a source, one read elsewhere that passes for read, another machine's milliseconds compared, and a
counterpart of another kind of network.
"""

import copy

import pytest
import yaml
from theory import METRICS, divergence, of, put

from pcbench.errors import PCBenchError
from pcbench.params import OF_TASKS
from pcbench.report import published, published_table
from pcbench.report.results import Source, TaskResults
from pcbench.report.writing import BIT_IDENTICAL


def named(metrics):
    """Tasks and models as the door hands them on, of which the table reads names and paths."""

    def source(stage, name):
        return Source(stage, name, published._DATA.with_name(f"{stage}-{name}.json"), (), "", None)

    tasks = [
        TaskResults(name, entry["family"], *(source(stage, name) for stage in OF_TASKS))
        for name, entry in metrics["tasks"].items()
    ]
    return tasks, [source("zoo", name) for name in metrics["zoo"]]


def rows(metrics):
    tasks, zoo = named(metrics)
    table = published_table.build(tasks, metrics, zoo)
    return {(group.heading.split()[0], row[0]): row[1:] for group in table.groups for row in group.rows}, table


def test_times_are_compared_as_ratios_on_tasks_of_the_published_networks_family():
    found, table = rows(METRICS)
    assert found["time", "MLP"] == ("1.02", "1.20", "1.00", "mlp-task")
    assert found["time", "Transformer"] == ("1.00", "1.20", "1.00", "skip-task")
    assert found["time", "ResNet-18"][-1] == "cnn-task"
    (record,) = (r for r in table.records if r["network"] == "MLP" and r["figure"] == "time ratio")
    assert (
        record["published"] == 3.81 / 3.72
        and record["measured"] == 1.2
        and record["source"].endswith("cost-mlp-task.json")
    )


def test_the_published_network_itself_comes_before_its_family():
    own = copy.deepcopy(METRICS["tasks"]["cnn-task"])
    own["cost"]["zil"]["ratio"]["median"] = 1.1
    found, _ = rows(put({"tasks/cifar10-resnet18": own}))
    assert found["time", "ResNet-18"][1:] == ("1.10", "1.00", "cifar10-resnet18")
    assert found["time", "AlexNet"][1:] == ("1.10–1.20", "1.00", "cnn-task, cifar10-resnet18")


def test_what_has_no_counterpart_says_so_and_the_rest_stays():
    found, table = rows(put({"tasks/mlp-task": ..., of("rnn-task", "cost/zil"): ...}))
    assert found["time", "MLP"] == ("1.02", "no counterpart", "–", "–")
    assert found["time", "RNN"] == ("1.01", "no counterpart", "–", "–")
    assert found["time", "Transformer"][1] == "1.20"
    assert {r["source"] for r in table.records if r["network"] == "MLP"} == {""}
    found, _ = rows(put({of("skip-task", "identities"): 0}))
    assert found["L2", "ResNet-18, not levelled"] == ("4.5e7", "no counterpart", "–", "–")


def test_a_divergence_of_zero_is_beside_what_was_measured_bit_by_bit():
    found, _ = rows(METRICS)
    assert found["L2", "MLP"] == ("0", BIT_IDENTICAL, "–", "mlp-task")
    assert found["L2", "ResNet-18"] == ("0", BIT_IDENTICAL, "–", "resnet18")
    assert found["L2", "ResNet-18, not levelled"] == ("4.5e7", "0.20", "–", "skip-task")
    changes = {of("mlp-task", "exactness/zil"): divergence(1e-3), "zoo/resnet18/bitwise_equal": False}
    changes |= {"zoo/resnet18/l2": None, of("rnn-task", "exactness/zil/float64/l2"): 5.0}
    found, _ = rows(put(changes))
    assert found["L2", "MLP"][1] == "0.0010"
    assert found["L2", "ResNet-18"][1] == "not finite"
    assert found["L2", "RNN"][1] == BIT_IDENTICAL  # the bits decide


def test_without_captured_updates_only_what_was_timed_is_compared():
    found, _ = rows(put({of("mlp-task", "cost/zil-captured"): {"refused": "numpy"}}))
    assert found["time", "MLP"] == ("1.02", "1.20", "–", "mlp-task")


def written(tmp_path, edit):
    content = yaml.safe_load(published._DATA.read_text(encoding="utf-8"))
    edit(content)
    path = tmp_path / "published.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda c: c["claims"][0].pop("source"), r"claims\.0 has no key 'source'"),
        (
            lambda c: c["claims"][0].update(source="song"),
            r"claims, exact-mlp: there is no source 'song'; the sources are",
        ),
        (lambda c: c["claims"][0].update(read="heard"), r"claims\.0\.read is 'heard'"),
        (lambda c: c["claims"][0].update(read="reported"), r"exact-mlp: what is `reported` says `reported_by` whom"),
        (lambda c: c["claims"][0].update(reported_by="zahid-2023"), r"exact-mlp: what is `reported` says"),
        (lambda c: c["claims"][0].update(reported_by="x", read="reported"), r"exact-mlp: there is no source 'x'"),
        (lambda c: c["claims"][0].pop("quote"), r"exact-mlp: what is not the source's `own` sentence has the `quote`"),
        (lambda c: c["claims"][0].update(stages=["taste"]), r"claims\.0\.stages\.0 is 'taste'"),
        (lambda c: c["claims"][1].update(id="exact-mlp"), r"claims has 'exact-mlp' twice"),
        (lambda c: c["times"][0].update(source="song"), r"times, MLP: there is no source 'song'"),
        (lambda c: c["times"][0].update(bp="fast"), r"times\.0\.bp is 'fast'"),
        (lambda c: c["times"][0].pop("zil"), r"times\.0 has no key 'zil'"),
    ],
)
def test_a_faulty_entry_is_named(tmp_path, edit, told):
    with pytest.raises(PCBenchError, match=told) as refused:
        published.load(written(tmp_path, edit))
    assert "\n" not in str(refused.value) and str(refused.value).endswith("mend it")


def test_what_was_read_elsewhere_says_where():
    by_id = {entry["id"]: entry for entry in published.load()["claims"]}
    assert published.claimed_in(by_id["exact-mlp"]) == "Song et al. 2020, abstract"
    assert published.claimed_in(by_id["ablation"]) == "Song et al. 2020, as reported in Zahid et al. 2023"
    assert "NeurIPS 33" in published.citation(by_id["ablation"])
    assert "Neural Computation 35" in published.citation(by_id["ablation"])
    assert all(
        value["reported_by"] == "synthesis" for table in ("times", "divergences") for value in published.load()[table]
    )
