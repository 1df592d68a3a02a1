"""Absolute time of one weight update (gradient and optimizer step): the record beside the interleaved ratios."""

from pathlib import Path

import pytest

from pcbench import data, params, stages
from pcbench.measure.cost import peak_bytes, weight_update

ROOT = Path(__file__).parent.parent
PARAMETERS = params.load(ROOT / "params.yaml")
TASKS = list(PARAMETERS["profiles"]["default"]["tasks"])
RULES = list(PARAMETERS["cost"]["rules"])


@pytest.fixture(scope="session")
def datasets(tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")


@pytest.mark.parametrize("task_name", TASKS)
@pytest.mark.parametrize("rule", RULES)
def test_time_of_one_weight_update(benchmark, datasets, task_name, rule):
    stages.reproducible()
    task, numbers = params.task(PARAMETERS, task_name)
    data.fetch(task.data, datasets)
    update = weight_update(task, numbers, data.load(task.data, datasets), PARAMETERS["cost"]["rules"][rule])
    benchmark.group = task_name
    benchmark.extra_info["peak_bytes"] = peak_bytes(update)
    benchmark(update)
