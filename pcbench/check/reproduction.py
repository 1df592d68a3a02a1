"""The reproduction's verdict: are the deterministic results the committed ones, bit for bit?

DVC writes the hash of every stage's outputs into dvc.lock. For the deterministic stages a rerun that leaves the results'
hashes as they are committed *is* the reproduction. Their provenance is an output too, and another one on every machine: it
says whether other bits are news, or come with another instruction set, or a GPU.
"""

import subprocess
from pathlib import Path
from typing import Any

from pcbench import instructions
from pcbench.errors import ResultError
from pcbench.files import parse_yaml, read_json, read_yaml
from pcbench.params import Settings
from pcbench.provenance import SIDECAR, environments, sidecar

Lock = dict[str, Any]  # a parsed dvc.lock

DETERMINISTIC = ("exactness@", "train@", "proof@", "conformance@", "conditions@", "zoo@")
IDENTICAL, DIFFERS, NOT_COMPARABLE = "identical", "differs", "not comparable"


def compare_locks(committed: Lock, current: Lock) -> dict[str, tuple[str, str]]:
    """Compare two parsed dvc.lock files.

    Returns:
        ``{stage: (verdict, reason)}`` for the deterministic stages of ``current``.
    """
    verdicts = {}
    for name, stage in current.get("stages", {}).items():
        if not name.startswith(DETERMINISTIC):
            continue
        before = committed.get("stages", {}).get(name)
        if before is None:
            verdicts[name] = NOT_COMPARABLE, "not among the committed results"
            continue
        changed = _changed(before.get("deps"), stage.get("deps")) + _changed_parameters(before, stage)
        if changed:
            verdicts[name] = NOT_COMPARABLE, f"changed since: {_few(changed)}"
        elif _changed(_results(before), _results(stage)):
            verdicts[name] = DIFFERS, "same code, data and parameters, other bits"
        else:
            verdicts[name] = IDENTICAL, "same bits"
    return verdicts


def _few(names, most=6):
    """The first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def read(lock: str | Path) -> Lock:
    """Return a parsed dvc.lock.

    Raises:
        ResultError: it is missing, damaged, or left half merged.
    """
    return _formed(read_yaml(lock, ResultError, _REMEDY), lock)


def verdict(lock: str | Path, profile: Settings) -> list[str]:
    """Compare a dvc.lock with the committed one and say so in a few lines of text, which are returned.

    Results are looked for from the working directory: pipelines run in the repository's root folder.

    Args:
        lock: the lock of a profile's pipeline.
        profile: the profile in params.yaml: of its ``tasks`` and its ``zoo``, and of nothing else, this speaks.

    Raises:
        ResultError: one of the locks, or a provenance beside a result that differs, is damaged.
    """
    lock = Path(lock)
    current = read(lock) if lock.exists() else {"stages": {}}
    committed, reason = committed_lock(lock)
    if committed is None:
        return [f"reproduction: not comparable: there is no committed dvc.lock here ({reason})"]
    locks = [{"stages": _listed(each["stages"], profile)} for each in (committed, current)]
    # What was committed and is not in today's lock was not run.
    verdicts = dict.fromkeys(locks[0]["stages"], (NOT_COMPARABLE, "not run here")) | compare_locks(*locks)
    for name in verdicts:
        # A fresh clone's lock is the committed one: it says nothing of results that were never made here.
        if not all(Path(out["path"]).exists() for out in locks[0]["stages"].get(name, {}).get("outs", ())):
            verdicts[name] = NOT_COMPARABLE, "not run here: its result is missing"
        elif verdicts[name][0] == DIFFERS and (other := _another_machines(locks[1]["stages"][name])):
            verdicts[name] = NOT_COMPARABLE, other
    counts = {kind: sum(v == kind for v, _ in verdicts.values()) for kind in (IDENTICAL, DIFFERS, NOT_COMPARABLE)}
    # A change of shared code has the same consequence for every stage: that is said once.
    alike: dict[tuple[str, str], list[str]] = {}
    for name, found in verdicts.items():
        alike.setdefault(found, []).append(name)
    lines = [f"  {', '.join(names)}: {kind} ({reason})" for (kind, reason), names in alike.items() if kind != IDENTICAL]
    if counts[DIFFERS]:
        lines.append(
            "  The instruction set is pinned, so this comes from other library versions or another kind of processor: "
            "please report it. The divergences themselves must be zero everywhere."
        )
    summary = (
        ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "no deterministic stage has run"
    )
    return [f"reproduction: deterministic stages against the committed dvc.lock: {summary}", *lines]


def _results(stage):
    """The outputs that say what was found; None for a stage without any."""
    outs = [out for out in stage.get("outs", ()) if not out["path"].endswith(SIDECAR)]
    return outs or None


def _another_machines(stage):
    """Why a result's bits cannot be those of other machines, or None: from the provenance beside it."""
    for out in _results(stage) or ():
        path = sidecar(out["path"])
        for where in environments(read_json(path) if path.exists() else {}):
            if where.get("gpu"):
                return f"computed on a GPU, {where['gpu']}, and another kind of GPU rounds otherwise"
            recorded = where.get("instruction_set")
            if not recorded:
                return "instruction set not recorded: its provenance is missing"
            if not instructions.travels(recorded):
                return f"instruction set {recorded['force']}, {recorded['pinned']}, where {instructions.DEFAULT} is the rule"
    return None


def _changed(before, after):
    """The paths whose hashes are not the same."""
    hashes = [{entry["path"]: entry.get("md5") for entry in entries or ()} for entries in (before, after)]
    return sorted(path for path in hashes[0].keys() | hashes[1].keys() if hashes[0].get(path) != hashes[1].get(path))


def _changed_parameters(before, after):
    flat = [
        {f"{file}:{key}": value for file, values in stage.get("params", {}).items() for key, value in values.items()}
        for stage in (before, after)
    ]
    return sorted(key for key in flat[0].keys() | flat[1].keys() if flat[0].get(key) != flat[1].get(key))


def committed_lock(lock: Path, revision: str = "HEAD") -> tuple[Lock, None] | tuple[None, str]:
    """Return the lock as committed in git, and None; or None, and why there is none.

    Raises:
        ResultError: what was committed is no lock.
    """
    try:
        done = subprocess.run(["git", "show", f"{revision}:./{lock.name}"], cwd=lock.parent, capture_output=True)
    except OSError as error:
        return None, f"git: {error.strerror}"
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        return None, told.removeprefix("fatal: ").rstrip(".")
    text = done.stdout.decode(errors="replace")
    place = f"{revision}:{lock}"
    return _formed(parse_yaml(text, place, ResultError, _REMEDY), place), None


def is_revision(name: str) -> bool:
    """Whether git knows a commit by this name."""
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def _formed(lock, path):
    """The lock, if it has the form of one."""
    stages = lock.get("stages") if isinstance(lock, dict) else None
    if isinstance(stages, dict) and all(isinstance(stage, dict) for stage in stages.values()):
        return lock
    raise ResultError(f"{str(path)!r} is no dvc.lock; {_REMEDY}")


def _listed(stages, profile):
    """The deterministic stages of what the profile lists: a lock keeps those of tasks that are long gone."""
    names = {*profile["tasks"], *profile["zoo"]}
    return {
        name: stage
        for name, stage in stages.items()
        if name.startswith(DETERMINISTIC)
        and {part.removesuffix(".json") for out in stage.get("outs", ()) for part in Path(out["path"]).parts} & names
    }


_REMEDY = "take the committed one (`git checkout HEAD -- dvc.lock`, in its folder) and run `make repro` for its profile"
