"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Optional  # typer evaluates the annotations

import typer

JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="Job file (YAML).")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")]
ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, such as runs/mine/models/tvae.")]
Overrides = Annotated[
    Optional[list[str]], typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the job file.")
]
Here = Annotated[bool, typer.Option("--here", help="Compute on this machine, even if it is a login node.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts: one object a line.")]
#: `shardsynth.cli.exits` reads it from the command line: the commands do nothing with it.
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
#: Read from the command line in the same place.
ShowValues = Annotated[
    bool, typer.Option("--show-values", help="Errors quote values of the table: they may be a patient's.")
]
