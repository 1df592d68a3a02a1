"""What a number was measured on and from: the record beside every result."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from pcbench import code, devices, instructions
from pcbench.files import write_json
from pcbench.params import Parameters

SIDECAR = ".provenance.json"
ENVIRONMENT = ("versions", "platform", "cpu", "instruction_set", "gpu", "threads")
RECORDED = ("torch", "torchvision", "numpy", "scikit-learn", "faker", "pcbench")


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def weights_digest(model: torch.nn.Module) -> str:
    """Return the SHA-256 over the names, shapes and bits of all parameters and buffers of ``model``."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def result_digest(result: str | Path) -> str:
    """Return the SHA-256 of a result: of a file's bytes, or of the names and bytes of a folder's files."""
    result = Path(result)
    sha = hashlib.sha256()
    for path in sorted(result.rglob("*.json")) if result.is_dir() else [result]:
        sha.update(path.name.encode() + b"\0" + path.read_bytes())
    return sha.hexdigest()


def sidecar(result: str | Path) -> Path:
    """Return the path of the provenance that belongs to ``result``, a file or a folder."""
    result = Path(result)
    return result.with_name(result.name.removesuffix(".json") + SIDECAR)


def environment(device: str = devices.CPU.type) -> dict[str, Any]:
    """Return what this process computes on: versions, platform, processor, instruction set, threads, GPU if it uses one.

    Args:
        device: the device's name.

    Raises:
        InvalidParameters: it is not here.
    """
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in RECORDED}},
        "platform": platform.platform(),
        "cpu": _cpu(),
        "instruction_set": instructions.in_force(),
        "gpu": devices.gpu(device),
        "threads": torch.get_num_threads(),
    }


def environments(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every environment that a provenance's result was computed in: cells of one result may come from several nodes.

    Args:
        record: a provenance's value; of an empty one the only environment is empty.
    """
    own = {key: record[key] for key in ENVIRONMENT if key in record}
    return [own, *({**own, **other["differs"]} for other in record.get("elsewhere", ()))]


def write_sidecar(
    result: str | Path,
    parameters: Parameters,
    data_sha256: str | None,
    code_sha256: str | None = None,
    made_on: Sequence[tuple[str, Mapping[str, Any]]] = (),
) -> None:
    """Write ``<result>.provenance.json`` beside a result (a file, or a folder of them).

    It is a file of its own, and an output of its own in the pipeline, because a deterministic result's bytes must not
    depend on when and where it was made.

    Args:
        result: the path of the result.
        parameters: the JSON value of every parameter that the result depends on.
        data_sha256: the digest of the data set that it was computed from; None if there was none.
        code_sha256: the digest of the code that it was computed by, see `pcbench.code.digest`.
        made_on: each part's name, and the `environment` that it was computed in; without any, that is this process's.

    Raises:
        PCBenchError: it cannot be written.
    """
    commit, changed = code.version()
    (_, own), *others = made_on or [("", environment(parameters.get("device", devices.CPU.type)))]
    elsewhere: dict[str, dict[str, Any]] = {}
    for part, other in others:
        if differs := {key: other[key] for key in ENVIRONMENT if other[key] != own[key]}:
            elsewhere.setdefault(digest(differs), {"parts": [], "differs": differs})["parts"].append(part)
    record = {
        "schema": 1,
        # A result that DVC has exchanged since is then known not to be the one described here.
        "result_sha256": result_digest(result),
        "git_commit": commit,
        "dirty": changed,
        "code_sha256": code_sha256,
        "parameters": parameters,
        "parameters_sha256": digest(parameters),
        "data_sha256": data_sha256,
        **own,
    }
    if elsewhere:
        record["elsewhere"] = [*elsewhere.values()]
    write_json(sidecar(result), record)


def _version(package):
    if package == "torch":
        return str(torch.__version__)  # its metadata do not tell a build for the CPU from one for CUDA
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
