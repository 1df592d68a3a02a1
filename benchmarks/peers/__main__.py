"""Other people's libraries on our weights and batch, see README.md beside this file.

python -m benchmarks.peers LIBRARY [--path PATH] [--task TASK]     measures, and writes results/LIBRARY/TASK.json
python -m benchmarks.peers table                                   writes what was measured into README.md
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from pcbench import instructions

ADAPTERS = ("torch2pc", "fabricpc", "pcx")


def main() -> None:
    """Run the command line; an error is one line, and exit code 2."""
    instructions.pin()  # before torch is imported
    from pcbench.errors import PCBenchError

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=(*ADAPTERS, "table"), metavar="LIBRARY")
    parser.add_argument("--path", type=Path, help="of a library that is in no package index")
    parser.add_argument("--task", default="digits-mlp", help="of params.yaml, with the network `mlp`")
    options = parser.parse_args()
    try:
        print(tabulated() if options.what == "table" else measured(options.what, options.path, options.task))
    except PCBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def measured(library: str, path: Path | None, task: str) -> str:
    """Measure a library on a task, write the result, and say where it is."""
    from benchmarks.peers import measure
    from pcbench import data, params, stages
    from pcbench.measure.matched import Matched
    from pcbench.report.peers import FOLDER

    parameters = params.load()
    peer = import_module(f"benchmarks.peers.{library}").peer(path)
    stages.reproducible()
    data.fetch(params.task(parameters, task)["data"], Path("datasets"))
    matched = Matched.load(parameters, task, Path("datasets"))
    out = FOLDER / library / f"{task}.json"
    measure.write(out, measure.result(matched, peer, parameters), matched, peer, parameters)
    return f"wrote {out}"


def tabulated() -> str:
    """Write the table of all results into README.md, and say so."""
    from benchmarks.peers import table

    table.write()
    return f"wrote {table.README}"


if __name__ == "__main__":
    main()
