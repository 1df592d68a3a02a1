"""Where the command ``pcbench`` begins: before torch is imported, which reads what is pinned here."""

import sys
from pathlib import Path

from pcbench import instructions


def main() -> None:
    """Run the command line, held to one instruction set unless it takes timings."""
    command, *arguments = sys.argv[1:] or ["--help"]
    parts = {part for each in arguments for part in Path(each).parts} if command == "reproduce" else {command}
    if parts & {"cost", "scaling"}:
        instructions.release()
    else:
        instructions.pin()
    from pcbench.cli import main

    main()


if __name__ == "__main__":
    main()
