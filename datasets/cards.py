"""Write each data set's card, README.md in its folder, from its module: `make profiles`.

The module's docstring is the card, Markdown but for the full stop behind its title; what the code verifies is added here.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from pcbench import data  # noqa: E402
from pcbench.data._store import Spec  # noqa: E402


def card(name: str) -> str:
    """The text of a data set's card.

    Raises:
        InvalidParameters: no data set of that name.
    """
    module = data.module(name)
    title, _, rest = str(module.__doc__).partition(".\n")
    before, citation = rest.rstrip().split("\n## Citation\n")
    table, checksums = before.split("\n\n## Checksums\n")
    sums = "\n".join(f"{digest}  {what}" for what, digest in verified(module.SPEC).items())
    return (
        f"# {title}\n{table}\n| Fetch | `pcbench fetch {name}` |\n\n## Checksums\n{checksums.rstrip()}\n\n"
        f"```\n{sums}\n```\n\n## Citation\n{citation}\n"
    )


def verified(spec: Spec) -> dict[str, str]:
    """What a fetch compares with: ``{file or archive: checksum}``, of archives only where nobody publishes the content's."""
    archives = getattr(spec.make, "args", [spec.name, ()])[1]
    sums = {archive.name: archive.digest.partition(":")[2] for archive in archives if archive.digest}
    return sums | {file.path: file.sha256 for file in spec.files if file.sha256}


if __name__ == "__main__":
    for name in data.names():
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        (folder / "README.md").write_text(card(name), encoding="utf-8", newline="\n")
