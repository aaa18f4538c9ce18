"""Commands on a Slurm cluster: submit a run and follow it, check the site."""

import sys
from pathlib import Path
from typing import Annotated, Optional  # typer evaluates the annotations

import typer

from shardsynth.cli.arguments import AsJson, Debug, JobFile, Overrides, RunFolder, ShowValues
from shardsynth.cli.terminal import progress_console


def submit(
    job: JobFile,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the sbatch scripts; write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Submit without asking, however large.")] = False,
    show_values: ShowValues = False,
    debug: Debug = False,
) -> None:
    """Run the job on Slurm: arrays chained by dependencies; returns at once."""
    from shardsynth.executors.slurm.submit import submit_job
    from shardsynth.job import Job

    def confirm() -> bool:
        return yes or (sys.stdin.isatty() and typer.confirm("submit all of this?"))

    run = submit_job(Job.load(job, overrides), dry_run=dry_run, confirm=confirm, say=print)
    if not dry_run:
        print(f"submitted: nothing runs on this machine, you may log out; see shardsynth status {run.root}")


def watch(
    folder: RunFolder,
    every: Annotated[float, typer.Option("--every", help="Seconds between two looks at the queue.")] = 10.0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show a submitted run's status until nothing is queued any more."""
    from shardsynth.api import Run
    from shardsynth.executors.status_json import print_changes
    from shardsynth.executors.watch import wait, watch_screen

    run = Run(folder)
    if as_json:
        status = wait(run.dir, run.plan, pause=every, show=print_changes(run.dir, run.plan))
    else:
        with watch_screen(run.dir, run.plan, progress_console()) as show:
            status = wait(run.dir, run.plan, pause=every, show=show)
    if not status.done:
        raise typer.Exit(1)


def efficiency(folder: RunFolder, debug: Debug = False) -> None:
    """Compare what each stage asked for with what it used, and say what would fit better."""
    from shardsynth.api import Run
    from shardsynth.executors.slurm.efficiency import efficiency_lines

    run = Run(folder)
    for line in efficiency_lines(run.dir, run.plan):
        print(line)


def cancel(folder: RunFolder, debug: Debug = False) -> None:
    """Cancel what is queued or running of a submitted run; what is committed stays."""
    from shardsynth.api import Run
    from shardsynth.executors.slurm.queue import cancel as cancel_run

    for line in cancel_run(Run(folder).dir):
        print(line)


def doctor(
    folder: Annotated[Path, typer.Option("--folder", help="Folder that login and compute nodes share.")] = Path("."),
    site: Annotated[Optional[str], typer.Option("--site", help="Site file to check with.")] = None,
    image: Annotated[Optional[Path], typer.Option("--image", help="Apptainer image to check.")] = None,
    write_profile: Annotated[
        Optional[str], typer.Option("--write-profile", metavar="NAME", help="Draft the site file NAME.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Check a Slurm site: one line per check, with what to do about it."""
    from shardsynth.executors.slurm.doctor import check_all, draft_profile

    if write_profile is not None:
        print(draft_profile(write_profile))
        return
    checks = check_all(folder, site, image, say=print, say_waiting=lambda line: print(f"     {line}"))
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def sbatch(
    job: JobFile,
    overrides: Overrides = None,
    output: Annotated[
        Optional[Path], typer.Option("-o", "--output", help="Folder for the scripts (default: RUN/private/sbatch).")
    ] = None,
    scheduler: Annotated[
        str, typer.Option("--scheduler", help="slurm, pbs (PBS Pro, OpenPBS) or sge (Grid Engine).")
    ] = "slurm",
    debug: Debug = False,
) -> None:
    """Plan the job and write plain array scripts that do the same; submits nothing.

    Standard output is the script that submits them all: `shardsynth sbatch job.yaml > job.sh; bash job.sh`.
    """
    from shardsynth.errors import InputError
    from shardsynth.executors.slurm.plain_scripts import write_plain_scripts
    from shardsynth.executors.slurm.qsub_scripts import SCHEDULERS
    from shardsynth.job import Job

    if scheduler not in ("slurm", *SCHEDULERS):
        raise InputError(f"--scheduler {scheduler}: wanted slurm, {' or '.join(SCHEDULERS)}")
    script, lines = write_plain_scripts(Job.load(job, overrides), output, scheduler)
    if not sys.stdout.isatty():
        print(script, end="")
    for line in lines:
        print(line, file=sys.stderr)
