"""Absolute time of one weight update (gradient and optimizer step): the record beside the interleaved ratios."""

from pathlib import Path

import pytest

from pcbench import data, params, stages
from pcbench.errors import UnsupportedModule
from pcbench.measure.cost import update_of
from pcbench.measure.matched import Matched
from pcbench.measure.scaling import synthetic_update
from pcbench.measure.updates import counted, peak_bytes

ROOT = Path(__file__).parent.parent
PARAMETERS = params.load(ROOT / "params.yaml")
TASKS = list(PARAMETERS["profiles"]["default"]["tasks"])
RULES = params.section(PARAMETERS, "cost")["rules"]
SCALING = params.section(PARAMETERS, "scaling")
# The second size of every axis, and the second to last.
SIZES = [(axis, numbers["sizes"][place]) for axis, numbers in SCALING["axes"].items() for place in (1, -2)]


@pytest.fixture(scope="session")
def datasets(tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")


@pytest.mark.parametrize("task_name", TASKS)
@pytest.mark.parametrize("rule", RULES)
def test_time_of_one_weight_update(benchmark, datasets, task_name, rule):
    stages.reproducible()
    data.fetch(params.task(PARAMETERS, task_name)["data"], datasets)
    measured(benchmark, task_name, update_of(Matched.load(PARAMETERS, task_name, datasets), RULES[rule]))


@pytest.mark.parametrize(("axis", "size"), SIZES)
@pytest.mark.parametrize("rule", SCALING["rules"])
def test_time_of_one_weight_update_of_a_synthetic_network(benchmark, axis, size, rule):
    stages.reproducible()
    numbers = SCALING["axes"][axis]
    if size > numbers["largest"].get(rule, size):
        pytest.skip("measured at smaller sizes only")
    measured(benchmark, f"{axis} {size}", synthetic_update({**numbers, axis: size}, SCALING["rules"][rule]))


def measured(benchmark, group, update):
    """Time an update, and keep its memory and operations, and the time to capture it, beside."""
    try:
        update()
    except UnsupportedModule as error:
        pytest.skip(str(error))
    benchmark.group = group
    benchmark.extra_info |= {"peak_bytes": peak_bytes(update), **counted(update)}
    benchmark.extra_info["capture_seconds"] = getattr(update.rule, "seconds", None)
    benchmark(update)
