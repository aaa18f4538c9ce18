"""The command line: parse, call, print. Nothing heavy is imported before a command needs it.

The modules ``tables``, ``runs``, ``models`` and ``slurm`` hold one function per command, by theme. Their annotations
are not postponed: on Python 3.9 typer would read them without what `Annotated` adds.
"""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from shardsynth._version import __version__
from shardsynth.cli import models, runs, slurm, tables
from shardsynth.cli.exits import exit_on_error
from shardsynth.cli.terminal import open_standard_streams
from shardsynth.standalone.signals import interrupt_on_signals

app = typer.Typer(
    name="shardsynth",
    help="Synthetic tables from sharded Parquet, on Slurm and GPU clusters, with SDV's models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: Name of each command and its function, in the order of `shardsynth --help`.
COMMANDS: dict[str, Callable[..., Any]] = {
    "init": tables.init,
    "run": runs.run,
    "resume": runs.resume,
    "status": runs.status,
    "logs": runs.logs,
    "task": runs.task,
    "report": runs.report,
    "sample": models.sample,
    "show": models.show,
    "export": models.export,
    "export-table": tables.export_table,
    "import-model": models.import_model,
    "import": tables.import_table,
    "clean": runs.clean,
    "pack": runs.pack,
    "demo": runs.demo,
    "submit": slurm.submit,
    "watch": slurm.watch,
    "cancel": slurm.cancel,
    "efficiency": slurm.efficiency,
    "doctor": slurm.doctor,
    "sbatch": slurm.sbatch,
}
for _name, _function in COMMANDS.items():
    app.command(_name)(_function)


def main() -> None:
    """Entry point: an error is one line and an exit code, as `shardsynth.cli.exits` says."""
    open_standard_streams()
    interrupt_on_signals()
    exit_on_error(app)


def _print_version(value: bool) -> None:
    if value:
        print(f"shardsynth {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
