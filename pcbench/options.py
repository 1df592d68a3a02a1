"""What several commands are asked with, said once; and where a profile's report is written."""

from pathlib import Path
from typing import Annotated

import typer

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="a task's name, see `pcbench tasks`")]
Profile = Annotated[str, typer.Option(help="the profile in params.yaml: seeds, epochs, rounds")]
ParamsFile = Annotated[Path, typer.Option("--params", help="the file with every number of the experiment")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; params.yaml's unless told")]
Datasets = Annotated[Path, typer.Option(help="the folder that holds the data sets")]


def report_folder(profile: str) -> Path:
    """The default profile's report stands in the front room; the others have a folder of their own."""
    return Path("reports") if profile == "default" else Path("reports") / profile
