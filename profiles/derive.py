"""Print the pipeline of another profile: the repository's dvc.yaml with the profile's name in place of `default`."""

import sys
from pathlib import Path


def derive(text, profile):
    """Return dvc.yaml's text for ``profile``: its own results and report, run in the repository's root."""
    body = text[text.index("vars:") :]
    body = body.replace("  - params.yaml", "  - ../../params.yaml", 1)
    for default, other in (
        ("profiles.default", f"profiles.{profile}"),
        ("--profile default", f"--profile {profile}"),
        ("results/default", f"results/{profile}"),
        ("reports/", f"reports/{profile}/"),
        ("    do:\n", "    do:\n      wdir: ../..\n"),
        ("  report:\n", "  report:\n    wdir: ../..\n"),
    ):
        body = body.replace(default, other)
    return f"# The pipeline of profile {profile}: made from dvc.yaml by `make profiles`, not edited by hand.\n{body}"


if __name__ == "__main__":
    print(derive(Path("dvc.yaml").read_text(encoding="utf-8"), sys.argv[1]), end="")
