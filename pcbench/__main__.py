"""Where the command ``pcbench`` begins: before torch is imported, which reads what is pinned here."""

import sys
from pathlib import Path

from pcbench import instructions


def main():
    """Run the command line, held to one instruction set unless it takes timings."""
    command, *arguments = sys.argv[1:] or ["--help"]
    if command == "cost" or (command == "reproduce" and any("cost" in Path(each).parts for each in arguments)):
        instructions.release()
    else:
        instructions.pin()
    from pcbench.cli import main

    main()


if __name__ == "__main__":
    main()
