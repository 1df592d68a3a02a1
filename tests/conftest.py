"""One way to run: two threads at most, Hypothesis without chance, every network of `problems` by its name."""

from pcbench import instructions

instructions.pin()  # before torch is imported: as every stage

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from problems import PROBLEMS  # noqa: E402

from pcbench import data  # noqa: E402

torch.set_num_threads(1)  # the networks are tiny, and pytest-xdist already uses every core

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("repeatable")


@pytest.fixture(params=PROBLEMS, ids=lambda problem: problem.name)
def problem(request):
    """Every network of `problems`."""
    return request.param


@pytest.fixture(params=[p for p in PROBLEMS if p.chain], ids=lambda problem: problem.name)
def chain(request):
    """The networks whose vertices form a chain."""
    return request.param


@pytest.fixture(params=[p for p in PROBLEMS if p.skips], ids=lambda problem: problem.name)
def skips(request):
    """The networks with an edge that skips a level."""
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request):
    """Both floating point types that the rules promise."""
    return request.param


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder of data sets that has the digits, and that no other module's tests write into."""
    folder = tmp_path_factory.mktemp("datasets")
    data.fetch("digits", folder)
    return folder


@pytest.fixture
def as_before():
    """A stage sets threads and determinism for its whole process: afterwards they are what they were."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(autouse=True)
def _global_generator():
    """No test depends on, or changes, what another one draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
