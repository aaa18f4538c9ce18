"""Commands on a run: make one, go on with it, look at it, tidy it up."""

import json
from pathlib import Path
from typing import Annotated, Optional  # typer evaluates the annotations

import typer

from shardsynth.cli.arguments import AsJson, Debug, Here, JobFile, Overrides, RunFolder, ShowValues
from shardsynth.cli.terminal import print_summary, progress_console


def run(
    job: JobFile,
    overrides: Overrides = None,
    here: Here = False,
    show_values: ShowValues = False,
    debug: Debug = False,
) -> None:
    """Plan the job and run it to its end on this machine."""
    from shardsynth.api import run_job
    from shardsynth.executors.slurm.login_node import refuse_on_login_node
    from shardsynth.job import Job

    loaded = Job.load(job, overrides)
    if here and loaded.cluster.executor == "slurm":
        loaded = Job.load(job, [*(overrides or []), "cluster.executor=local"])
    refuse_on_login_node(loaded, here=here)
    print_summary(run_job(loaded, console=progress_console(), debug=debug))


def resume(
    folder: RunFolder,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare the outputs' checksums, not only their sizes.")
    ] = False,
    here: Annotated[
        bool, typer.Option("--here", help="Run on this machine, even if the run was submitted to Slurm.")
    ] = False,
    image: Annotated[
        Optional[Path], typer.Option("--image", help="Go on in this Apptainer image (Slurm); it is kept.")
    ] = None,
    overrides: Annotated[
        Optional[list[str]],
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the run's section `cluster`; it is kept."),
    ] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Sign the run's pickles and classes: you know who made them.")
    ] = False,
    show_values: ShowValues = False,
    debug: Debug = False,
) -> None:
    """Run only what is missing: on Slurm where the run was submitted there, else on this machine."""
    from shardsynth.api import Run
    from shardsynth.executors.slurm.login_node import refuse_on_login_node
    from shardsynth.executors.slurm.submit import submit_missing
    from shardsynth.run.cluster import with_overrides

    run = Run(folder)
    run.dir.refuse_of_another()
    if trust_pickle:
        for line in run.trust():
            print(line)
    if run.on_slurm and not here:
        plan = with_overrides(run.plan, overrides or [], image)
        submit_missing(run.dir, plan, verify=verify, say=print)
        return
    submit = f"`shardsynth submit {run.dir.job_file}` runs the rest on the cluster"
    refuse_on_login_node(with_overrides(run.plan, overrides or []).job, here=here, instead=submit)
    for line in run.change(overrides or [], image=image):
        print(line)
    if here and run.job.cluster.executor == "slurm":  # for this time only
        run.plan = with_overrides(run.plan, ["cluster.executor=local"])
    run.resume(console=progress_console(), debug=debug, verify=verify)
    print_summary(run)


def status(
    folder: RunFolder,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare the outputs' checksums, not only their sizes.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what is done, stage by stage, and what is queued or running on Slurm."""
    from shardsynth.api import Run

    if as_json:
        print(json.dumps(Run(folder).status_record(verify=verify), ensure_ascii=False))
        return
    for line in Run(folder).status_lines(verify=verify):
        print(line)


def logs(
    folder: RunFolder,
    stage: Annotated[Optional[str], typer.Argument(help="Stage name.")] = None,
    index: Annotated[Optional[int], typer.Argument(help="Task number in the stage.")] = None,
    debug: Debug = False,
) -> None:
    """Print a task's log, and its array element's; without a task, list the logs."""
    from shardsynth.api import Run
    from shardsynth.executors.slurm.ledger import Ledger
    from shardsynth.standalone.regular import read_regular

    run = Run(folder)
    if stage is not None and index is not None:
        of_element = Ledger(run.dir).element_logs(stage, index)
        for path in of_element:
            print(f"--- {path}\n{read_regular(path).decode(errors='replace').rstrip()}")
        if of_element:
            log = run.dir.log(stage, index)
            if not log.exists():
                return
            print(f"--- {log}")
    for line in run.log_lines(stage, index):
        print(line)


def task(
    folder: RunFolder, stage: str, index: int, here: Here = False, show_values: ShowValues = False, debug: Debug = False
) -> None:
    """Run one task by hand: what sbatch scripts and containers call."""
    from shardsynth.executors.slurm.login_node import IN_A_JOB, refuse_to_compute
    from shardsynth.standalone.cpus import available_cpus, limit_threads

    refuse_to_compute(here=here, instead=IN_A_JOB)
    limit_threads(available_cpus())  # before numpy and torch are imported: they read the limit only then
    from shardsynth.stages.task import TaskRunner

    runner = TaskRunner(folder)
    limit_threads(runner.artifacts.find(stage, index).threads)
    record = runner.run_task(stage, index)
    print(f"{stage} {index}: committed, {record['rows']:,} rows, {record['seconds']} s")


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directory; with --compare, several.")],
    compare: Annotated[bool, typer.Option("--compare", help="One page for the models of several runs.")] = False,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the comparison's page.")] = Path(
        "comparison"
    ),
    show_values: ShowValues = False,
    debug: Debug = False,
) -> None:
    """Write the HTML page again, or one that compares runs."""
    if compare:
        from shardsynth.commands.compare import write_comparison

        print(f"report: {write_comparison(folders, output)}")
        return
    from shardsynth.stages.rewrite import write_run_report

    for folder in folders:
        print(f"report: {write_run_report(folder)}")


def clean(
    folder: RunFolder,
    private: Annotated[bool, typer.Option("--private", help="Delete all that derives from real rows.")] = False,
    debug: Debug = False,
) -> None:
    """Delete leftovers of dead attempts and intermediates that nothing needs any more."""
    from shardsynth.api import Run

    for line in Run(folder).clean(private=private):
        print(line)


def pack(
    folder: RunFolder,
    output: Annotated[
        Optional[Path], typer.Option("-o", "--output", help="Archive to write (default: RUN.tar.gz).")
    ] = None,
    debug: Debug = False,
) -> None:
    """Pack what may be given away: models, samples, metrics, report; nothing of `private/`."""
    from shardsynth.api import Run

    print(Run(folder).pack(output))


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the demo's data and run.")] = Path(
        "runs/demo"
    ),
    here: Here = False,
    debug: Debug = False,
) -> None:
    """Run a real job, all four models, on the breast-cancer table that scikit-learn carries."""
    from shardsynth.commands.demo import run_demo
    from shardsynth.executors.slurm.login_node import IN_A_JOB, refuse_to_compute

    refuse_to_compute(here=here, instead=IN_A_JOB)
    print_summary(run_demo(output, console=progress_console(), debug=debug))
