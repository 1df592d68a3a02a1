"""Print the pipeline of another profile: the repository's dvc.yaml with the profile's name in place of `default`."""

import sys
from pathlib import Path


def derive(text, profile):
    """Return dvc.yaml's text for ``profile``: its own results and report, run in the repository's root."""
    body = text[text.index("vars:") :]
    body = body.replace("  - params.yaml", "  - ../../params.yaml", 1)
    body = body.replace("profiles.default", f"profiles.{profile}").replace("--profile default", f"--profile {profile}")
    body = body.replace("results/default", f"results/{profile}").replace("reports/", f"reports/{profile}/")
    body = body.replace("    do:\n", "    do:\n      wdir: ../..\n").replace(
        "  report:\n", "  report:\n    wdir: ../..\n"
    )
    return f"# The pipeline of profile {profile}: made from dvc.yaml by `make profiles`, not edited by hand.\n{body}"


if __name__ == "__main__":
    print(derive(Path("dvc.yaml").read_text(encoding="utf-8"), sys.argv[1]), end="")
