"""The reproduction's verdict: are the deterministic results the committed ones, bit for bit?

DVC writes the hash of every stage's outputs into dvc.lock. For the deterministic stages a rerun that leaves those hashes
as they are committed *is* the reproduction.
"""

import subprocess
from pathlib import Path

import yaml

DETERMINISTIC = ("exactness@", "train@", "zoo@")
IDENTICAL, DIFFERS, NOT_COMPARABLE = "identical", "differs", "not comparable"


def compare(committed, current):
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
            verdicts[name] = NOT_COMPARABLE, f"changed since: {', '.join(changed)}"
        elif _changed(before.get("outs"), stage.get("outs")):
            verdicts[name] = DIFFERS, "same code, data and parameters, other bits"
        else:
            verdicts[name] = IDENTICAL, "same bits"
    return verdicts


def verdict(lock):
    """Compare a dvc.lock with the committed one and say so in a few lines of text.

    Results are looked for from the working directory: pipelines run in the repository's root folder.
    """
    lock = Path(lock)
    committed = _committed(lock)
    if committed is None:
        return ["reproduction: not comparable: there is no committed dvc.lock here (no git, or a new pipeline)"]
    verdicts = compare(committed, yaml.safe_load(lock.read_text(encoding="utf-8")) if lock.exists() else {})
    for name in verdicts:
        # A fresh clone's lock is the committed one: it says nothing of results that were never made here.
        if not all(Path(out["path"]).exists() for out in committed["stages"].get(name, {}).get("outs", ())):
            verdicts[name] = NOT_COMPARABLE, "not run here: its result is missing"
    counts = {kind: sum(v == kind for v, _ in verdicts.values()) for kind in (IDENTICAL, DIFFERS, NOT_COMPARABLE)}
    alike = {}  # a change of shared code has the same consequence for every stage: that is said once
    for name, found in verdicts.items():
        alike.setdefault(found, []).append(name)
    lines = [f"  {', '.join(names)}: {kind} ({reason})" for (kind, reason), names in alike.items() if kind != IDENTICAL]
    if counts[DIFFERS]:
        lines.append(
            "  Bits depend on the processor and on library versions (see the provenance beside each result); "
            "the divergences themselves must be zero everywhere."
        )
    summary = (
        ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "no deterministic stage has run"
    )
    return [f"reproduction: deterministic stages against the committed dvc.lock: {summary}", *lines]


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


def _committed(lock):
    """The lock as committed in git, or None."""
    try:
        done = subprocess.run(
            ["git", "show", f"HEAD:./{lock.name}"], cwd=lock.parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return yaml.safe_load(done.stdout)
