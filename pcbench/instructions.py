"""The instruction set that deterministic results are computed with: one that every processor of today has.

PyTorch and the libraries under it (oneDNN, MKL) choose their kernels by the processor, and other kernels round otherwise.
Measured on an AMD processor with AVX-512, playing others: held to AVX2, PyTorch's and oneDNN's kernels give the same bits
everywhere. MKL takes other ways on Intel's and AMD's processors whatever instructions it is held to, except on its
``COMPATIBLE`` branch. There too its square roots, which are `torch.sqrt`'s, refine an estimate that is each processor's own:
of 42 results of the default profile 35 had the same bits on an AMD and on an Intel processor, and the seven trainings had
not, which is why `pcbench.measure.matched` has Adam take its square roots elsewhere.

All three read their variables when they are first used, so these are set before torch is imported; worker processes inherit
them. Timings are taken without.
"""

import os
import platform
import sys
from pathlib import Path

from pcbench.errors import InvalidParameters

VARIABLE = "PCBENCH_CPU"
DEFAULT, NATIVE = "avx2", "native"
PINS: dict[str, dict[str, str]] = {
    DEFAULT: {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"},
    "baseline": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
    NATIVE: {},
}
_NEEDED: dict[str, set[str]] = {DEFAULT: {"avx2", "fma"}}
_BEFORE = "PCBENCH_CPU_BEFORE"  # names of the variables that `pin` has set, for `release`


def asked() -> str:
    """The name in `PINS` that the environment variable ``PCBENCH_CPU`` gives, or the default.

    Raises:
        InvalidParameters: there is none of that name.
    """
    name = os.environ.get(VARIABLE) or DEFAULT
    if name not in PINS:
        raise InvalidParameters(f"{VARIABLE} is {name!r}; it must be one of {', '.join(PINS)}")
    return name


def pin(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Hold this process and its children to the instruction set that was `asked` for.

    Nothing is done where the processor lacks it, or torch was imported before: then the provenance says so, and the
    reproduction's verdict speaks of no difference.

    Args:
        cpuinfo: where Linux lists what the processor can.
    """
    name = os.environ.get(VARIABLE) or DEFAULT
    if name not in PINS or "torch" in sys.modules or not _has(_NEEDED.get(name, set()), cpuinfo):
        return
    os.environ.update(PINS[name])
    os.environ[_BEFORE] = ",".join(PINS[name])


def release() -> None:
    """Undo a `pin` that this process has inherited: for timings."""
    for variable in os.environ.pop(_BEFORE, "").split(","):
        os.environ.pop(variable, None)


def in_force() -> dict[str, str]:
    """What the provenance records: ``asked`` for, ``pinned`` (a name in `PINS`), and what torch says is in ``force``.

    Raises:
        InvalidParameters: see `asked`.
    """
    import torch  # here only: this module's work is done before torch is imported

    held = [name for name, settings in PINS.items() if settings and settings.items() <= os.environ.items()]
    capability = torch.backends.cpu.get_cpu_capability()
    return {"asked": asked(), "pinned": held[0] if held else NATIVE, "force": capability}


def travels(recorded: dict[str, str] | None) -> bool:
    """Whether a result with this record of `in_force` has the bits that any other processor would give it."""
    return recorded == {"asked": DEFAULT, "pinned": DEFAULT, "force": "AVX2"}


def _has(needed, cpuinfo):
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return not needed  # not Linux: nobody says what the processor can
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ())
    return needed <= {*flags}
