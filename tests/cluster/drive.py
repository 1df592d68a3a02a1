"""What `pcbench run` does between DVC's parts, in the checkout that is the working directory: compute cells by an executor.

    python drive.py EXECUTOR STAGE:TASK,... [OPTION=VALUE ...]

prints one line a cell, as it ends: ``{"cell": ..., "failed": ...}``.
"""

import json
import sys
from pathlib import Path

from pcbench import instructions


def main():
    from pcbench import executors, params, stages
    from pcbench.cells import Experiment

    name, asked, *options = sys.argv[1:]
    parameters = params.load()
    cells = []
    for each in asked.split(","):
        stage, _, task = each.partition(":")
        cells += stages.named(stage).cells(Experiment(task, "smoke", parameters, Path("datasets")))
    left = [cell for cell in cells if cell.stored() is None]
    for outcome in executors.named(name).outcomes(left, dict(option.split("=", 1) for option in options)):
        print(json.dumps({"cell": str(outcome.cell), "failed": outcome.failed}), flush=True)


if __name__ == "__main__":
    instructions.pin()
    from pcbench.terminal import run

    run(main)
