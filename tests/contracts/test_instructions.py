"""The instruction set that is pinned; oracle: what torch says is in force, and bits under everything that must not matter.

Aimed at: a pin that comes too late, that reaches no worker, that holds back the timings; bits that depend on threads, locale,
time zone, hash seed, umask or path.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from pcbench import instructions
from pcbench.files import read_json
from pcbench.provenance import result_digest, sidecar

ROOT = Path(__file__).resolve().parents[2]
OWN = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PINNED = {variable for settings in instructions.PINS.values() for variable in settings}
MAIN = "import sys; from pcbench.__main__ import main; sys.argv[0] = 'pcbench'; main()"


def run(arguments, folder, program=MAIN, **environment):
    """Run a program in a process of its own, where nothing is pinned but by itself."""
    inherited = {name: value for name, value in os.environ.items() if name not in PINNED and "PCBENCH" not in name}
    environment = {**inherited, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment}
    command = [sys.executable, "-P", "-c", program, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_these_tests_are_pinned_themselves():
    recorded = instructions.in_force()
    if recorded["asked"] == "avx2" and instructions._has({"avx2", "fma"}, Path("/proc/cpuinfo")):
        assert instructions.travels(recorded)


REPORT = """
import json, sys
from pathlib import Path
from pcbench import instructions
before = instructions.pin(*map(Path, sys.argv[1:]))
print(json.dumps(instructions.in_force()))
"""


def in_force(folder, *arguments, **environment):
    done = run(arguments, folder, REPORT, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("own", [{}, {"ATEN_CPU_CAPABILITY": "default"}, {"ATEN_CPU_CAPABILITY": "avx512"}], ids=str)
def test_whatever_the_shell_says_the_same_is_in_force(tmp_path, own):
    assert in_force(tmp_path, **own) == instructions.in_force() | {"asked": "avx2"}


def test_it_can_be_overridden(tmp_path):
    assert in_force(tmp_path, PCBENCH_CPU="baseline") == {"asked": "baseline", "pinned": "baseline", "force": "DEFAULT"}
    native = in_force(tmp_path, PCBENCH_CPU="native")
    assert native["pinned"] == "native" and not instructions.travels(native)


def test_a_processor_without_it_is_left_as_it_is_and_that_is_recorded(tmp_path):
    (tmp_path / "cpuinfo").write_text("model name\t: old\nflags\t\t: fpu sse4_2 avx\n")
    found = in_force(tmp_path, str(tmp_path / "cpuinfo"))
    assert (found["asked"], found["pinned"]) == ("avx2", "native") and not instructions.travels(found)
    assert in_force(tmp_path, str(tmp_path / "nobody says"))["pinned"] == "native"


def test_an_unknown_name_is_refused(tmp_path):
    done = run(["tasks"], tmp_path, PCBENCH_CPU="quantum")
    assert done.returncode == 2 and "PCBENCH_CPU is 'quantum'; it must be one of avx2" in done.stderr


def parameters():
    """One task, two seeds, one epoch."""
    found = {**OWN, "exactness": {**OWN["exactness"], "dtypes": ["float32"], "seeds": [0]}}
    found["profiles"]["smoke"].update(seeds=[0, 1], rounds=2)
    found["profiles"]["smoke"]["tasks"]["digits-cnn"] = 1
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory, digits):
    """Run the deterministic stages somewhere; return the digests and the provenance of their results."""
    made = {}

    def make(place="plain", umask=None, **environment):
        key = (place, umask, *sorted(environment.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("run") / place
            folder.mkdir()
            (folder / "params.yaml").write_text(yaml.safe_dump(parameters()))
            if umask is not None:
                environment["UMASK"] = umask
            program = "import os; os.umask(int(os.environ.get('UMASK', '022'), 8))\n" + MAIN
            for stage in STAGES:
                arguments = [stage, "digits-cnn", "--profile", "smoke", "--datasets", str(digits)]
                done = run(arguments, folder, program, **environment)
                assert done.returncode == 0, done.stdout + done.stderr
            paths = [folder / "results/smoke/exactness/digits-cnn.json", folder / "results/smoke/train/digits-cnn"]
            made[key] = [(result_digest(path), read_json(sidecar(path))) for path in paths]
        return made[key]

    return make


STAGES = ("exactness", "train")


@pytest.mark.slow
@pytest.mark.parametrize(
    "where",
    [
        {"ATEN_CPU_CAPABILITY": "default"},
        {"ATEN_CPU_CAPABILITY": "avx512", "MKL_CBWR": "AUTO", "ONEDNN_MAX_CPU_ISA": "ALL"},
        {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
        {"OMP_NUM_THREADS": "5", "MKL_DYNAMIC": "FALSE"},
        {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "PYTHONUTF8": "0"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"TZ": "Pacific/Apia"},
        {"PYTHONHASHSEED": "1"},
        {"umask": "077"},
        {"place": "a path [with] späces"},
    ],
    ids=str,
)
def test_the_results_have_the_same_bits_under_what_must_not_matter(results, where):
    assert [digest for digest, _ in results(**where)] == [digest for digest, _ in results()]


@pytest.mark.slow
def test_a_results_provenance_says_what_was_in_force_and_the_workers_were_held_to_it_too(results):
    """Unpinned workers would have given the bits of another instruction set, where the processor has one."""
    assert all(record["instruction_set"] == {**instructions.in_force(), "asked": "avx2"} for _, record in results())
    baseline = results(PCBENCH_CPU="baseline")
    assert all(record["instruction_set"]["force"] == "DEFAULT" for _, record in baseline)
    assert [digest for digest, _ in baseline] != [digest for digest, _ in results()], "a control that must differ"


@pytest.mark.slow
def test_timings_are_taken_unpinned_even_below_a_pinned_process(tmp_path, digits):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(parameters()))
    held = "from pcbench import instructions; instructions.pin(); import os, subprocess, sys\n"
    held += f"sys.exit(subprocess.run([sys.executable, '-P', '-c', {MAIN!r}, *sys.argv[1:]]).returncode)"
    done = run(["cost", "digits-cnn", "--profile", "smoke", "--datasets", str(digits)], tmp_path, held)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "results/smoke/cost/digits-cnn.json"
    own = run([], tmp_path, "import torch; print(torch.backends.cpu.get_cpu_capability(), end='')").stdout
    assert read_json(sidecar(path))["instruction_set"]["pinned"] == "native"
    assert read_json(path)["instruction_set"] == own


VENDOR = """
#include <stdlib.h>
int mkl_serv_intel_cpu(void) { return getenv("PLAY_INTEL") != NULL; }
int mkl_serv_intel_cpu_true(void) { return getenv("PLAY_INTEL") != NULL; }
"""
KERNELS = """
import hashlib
from pcbench import instructions
instructions.pin()
import torch
torch.set_num_threads(1)
sha = hashlib.sha256()
for dtype in (torch.float32, torch.float64):
    a, b = torch.randn(64, 300, dtype=torch.float64, generator=torch.manual_seed(0)).to(dtype).split([30, 34])
    square = torch.cat((a, b))[:, :64]
    images = torch.cat((a, b)).reshape(4, 3, 40, 40)
    for found in (
        *(a @ b.T, a @ b[0], a[0] @ b[0], a[:, :7] @ b[:5, :7].T, torch.bmm(images[:, 0], images[:, 1])),
        *(a.tanh(), a.exp(), a.erf(), a.sin(), a.sigmoid(), a.softmax(1), a.sum(), torch.fft.fft(a).real),
        *(torch.linalg.inv(square), torch.linalg.svdvals(square), torch.linalg.qr(square)[1]),
        *(torch.nn.functional.conv2d(images, images[:, :, :3, :3]), torch.nn.functional.gelu(a)),
    ):
        sha.update(found.contiguous().numpy().tobytes())
print(sha.hexdigest())
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
@pytest.mark.skipif("BLAS_INFO=mkl" not in torch.__config__.show(), reason="a PyTorch without MKL")
def test_the_kernels_have_the_same_bits_where_mkl_takes_the_processor_for_another_makers(tmp_path):
    """MKL asks these two functions; here they answer as is wanted."""
    (tmp_path / "vendor.c").write_text(VENDOR)
    library = str(tmp_path / "vendor.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "vendor.c"], check=True)

    def bits(**environment):
        done = run([], tmp_path, KERNELS, LD_PRELOAD=library, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    intel, amd = bits(PLAY_INTEL="1"), bits()
    assert intel == amd
    assert bits(PLAY_INTEL="1", PCBENCH_CPU="native") != bits(PCBENCH_CPU="native"), "a control that must differ"
