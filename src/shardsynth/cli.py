"""The command line: parse, call, print. Nothing heavy is imported before a command needs it.

Annotations are not postponed here: on Python 3.9 typer would read them without what `Annotated` adds.
"""

import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Optional  # typer evaluates the annotations

import typer

from shardsynth.errors import ShardsynthError, no_folder_there
from shardsynth.standalone.signals import interrupt_on_signals

app = typer.Typer(
    name="shardsynth",
    help="Synthetic tables from sharded Parquet, on Slurm and GPU clusters, with SDV's models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="Job file (YAML).")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")]
ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, such as runs/mine/models/tvae.")]
Set = Annotated[Optional[list[str]], typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the job file.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


#: What is wrong with a path that the user gave.
_ABOUT_PATHS = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


_RESUMES = "; what is committed stays, `shardsynth resume` does the rest"
#: How a command that was stopped goes on.
_AFTER_STOP = {
    **dict.fromkeys(("run", "resume", "demo", "task"), _RESUMES),
    "sample": "; what is committed stays, the same command goes on where it was",
}


def main() -> None:
    """Entry point: one clear line per error; 2 for the user's mistakes, 1 for failures."""
    _open_standard_streams()
    interrupt_on_signals()
    try:
        app()
    except ShardsynthError as error:
        if "--debug" in sys.argv:
            raise
        print(f"shardsynth: {error}{_image_hint(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:  # typer turns Ctrl-C into an exit without a word
        code = stop.code if isinstance(stop, SystemExit) else 130
        if code not in (130, 129, 143):
            raise
        print(f"shardsynth: stopped{_AFTER_STOP.get(''.join(sys.argv[1:2]), '')}", file=sys.stderr)
        sys.exit(code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        # Two names: the second is the target of a rename or a link.
        names = ", ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        reason = f"{names or type(error).__name__}: {error.strerror or error}"
        if isinstance(error, (NotADirectoryError, FileExistsError)) and not os.path.isdir(error.filename or "."):
            reason = no_folder_there(Path(os.fsdecode(error.filename)))
        print(f"shardsynth: {reason}", file=sys.stderr)
        sys.exit(2 if isinstance(error, _ABOUT_PATHS) else 1)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        # Not the message: it may hold values of the data.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
        print(f"shardsynth: unexpected {where}: a bug; --debug shows the traceback", file=sys.stderr)
        sys.exit(1)


def _image_hint(message: str) -> str:
    """What a path that is not there most often means in a container; else nothing."""
    if "APPTAINER_CONTAINER" not in os.environ:
        return ""
    if not any(words in message for words in ("no such file", "no job file", "no run here", "Read-only file system")):
        return ""
    return " (an image sees only what is bound: apptainer run --mount type=bind,src=FOLDER,dst=FOLDER ...)"


def _open_standard_streams() -> None:
    """A service manager may start us without them: the next file opened would take their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def _version(value: bool) -> None:
    if value:
        from shardsynth._version import __version__

        print(f"shardsynth {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    output: Annotated[Path, typer.Option("-o", "--output", help="Job file to write.")],
    source: Annotated[
        Optional[list[str]], typer.Argument(metavar="DATA...", help="Folder, glob or files of Parquet shards.")
    ] = None,
    run_folder: Annotated[Optional[str], typer.Option("--run", help="Run directory to name in it.")] = None,
    from_config: Annotated[
        Optional[Path],
        typer.Option("--from-config", help="Take table, model and settings from a config.yaml of SDV 0.17's time."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the job file.")] = False,
    debug: Debug = False,
) -> None:
    """Look at the shards and write a job file with the detected metadata."""
    from shardsynth.commands.init import write_job
    from shardsynth.errors import JobError

    if (from_config is None) == (not source):
        raise JobError("init: wanted either DATA, the shards, or --from-config FILE, which names its own table")
    old = None
    if from_config is not None:
        from shardsynth.commands.old_config import imported, read_old

        if output.exists() and not force:
            raise JobError(f"{output}: exists already; --force overwrites it, or choose another name")
        old = read_old(from_config)
        folder, *lines = imported(old, output, force=force)
        source = [folder]
        for line in lines:
            print(line)
    assert source is not None
    try:
        for line in write_job(source if len(source) > 1 else source[0], output, run_folder, force=force, old=old):
            print(line)
    except BaseException:
        if old is not None and old.needs_import:  # the next try imports the table again
            shutil.rmtree(source[0], ignore_errors=True)
        raise


@app.command()
def run(
    job: JobFile,
    overrides: Set = None,
    here: Annotated[bool, typer.Option("--here", help="Run on this machine, even on a login node.")] = False,
    debug: Debug = False,
) -> None:
    """Plan the job and run it to its end on this machine."""
    from shardsynth.api import run_job
    from shardsynth.executors.slurm.login_node import refuse_on_login_node
    from shardsynth.job import Job

    loaded = Job.load(job, overrides)
    refuse_on_login_node(loaded, here=here)
    _report_end(run_job(loaded, console=_console(), debug=debug))


@app.command()
def resume(
    folder: RunFolder,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare the outputs' checksums, not only their sizes.")
    ] = False,
    here: Annotated[bool, typer.Option("--here", help="On this machine, though the run was submitted.")] = False,
    image: Annotated[Optional[Path], typer.Option("--image", help="Go on in this Apptainer image (Slurm).")] = None,
    debug: Debug = False,
) -> None:
    """Run only what is missing: on Slurm where the run was submitted there, else on this machine."""
    from shardsynth.api import Run

    found = Run(folder)
    if not here and found.on_slurm:
        from shardsynth.executors.slurm.submit import submit_missing

        submit_missing(found.dir, found.plan, verify=verify, image=image, say=print)
        return
    found.resume(console=_console(), debug=debug, verify=verify)
    _report_end(found)


@app.command()
def status(folder: RunFolder, verify: bool = False, debug: Debug = False) -> None:
    """Say what is done, stage by stage, and what Slurm holds."""
    from shardsynth.api import Run

    for line in Run(folder).status_lines(verify=verify):
        print(line)


@app.command()
def logs(
    folder: RunFolder,
    stage: Annotated[Optional[str], typer.Argument(help="Stage name.")] = None,
    index: Annotated[Optional[int], typer.Argument(help="Task number in the stage.")] = None,
    debug: Debug = False,
) -> None:
    """Print a task's log, and its array element's; without a task, list the logs."""
    from shardsynth.api import Run
    from shardsynth.executors.slurm.ledger import Ledger

    if stage is not None and index is not None:
        found = Run(folder).dir
        element = Ledger(found).element_log(stage, index)
        if element is not None:
            print(f"--- {element}\n{element.read_text(errors='replace').rstrip()}")
            if not found.log(stage, index).exists():
                return
            print(f"--- {found.log(stage, index)}")
    for line in Run(folder).log_lines(stage, index):
        print(line)


@app.command()
def task(folder: RunFolder, stage: str, index: int, debug: Debug = False) -> None:
    """Run one task by hand: what sbatch scripts and containers call."""
    from shardsynth.standalone.cpus import available_cpus, limit_threads

    limit_threads(available_cpus())
    from shardsynth.stages.task import TaskRunner

    runner = TaskRunner(folder)
    planned = runner.artifacts.find(stage, index)
    limit_threads(planned.threads)
    record = runner.run_task(stage, index)
    print(f"{stage} {index}: committed, {record['rows']:,} rows, {record['seconds']} s")


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directory; with --compare, several.")],
    compare: Annotated[bool, typer.Option("--compare", help="One page for the models of several runs.")] = False,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the comparison's page.")] = Path(
        "comparison"
    ),
    debug: Debug = False,
) -> None:
    """Write the HTML page again, or one that compares runs."""
    if compare:
        from shardsynth.commands.compare import write_comparison

        print(f"report: {write_comparison(folders, output)}")
        return
    from shardsynth.stages.report import write_run_report

    for folder in folders:
        print(f"report: {write_run_report(folder)}")


@app.command()
def sample(
    model: ModelFolder,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the parts.")],
    rows: Annotated[Optional[str], typer.Option("--rows", help="Rows to make, such as 1e6.")] = None,
    tasks: Annotated[Optional[int], typer.Option("--tasks", help="Tasks to cut the work into.")] = None,
    rows_per_shard: Annotated[str, typer.Option("--rows-per-shard", help="Rows of one part.")] = "1e6",
    seed: Annotated[Optional[int], typer.Option("--seed", help="Another seed than the run's.")] = None,
    go_on: Annotated[
        bool, typer.Option("--continue", help="Start after the last row made before: other rows.")
    ] = False,
    same_rows: Annotated[bool, typer.Option("--same-rows", help="Make the same rows as before, on purpose.")] = False,
    where: Annotated[
        Optional[str], typer.Option("--where", help="Condition, such as 'Gender == \"F\" and AGE >= 60'.")
    ] = None,
    remaining: Annotated[
        Optional[str],
        typer.Option("--remaining-columns", help="Parquet rows of which some columns are known: complete them."),
    ] = None,
    temperature: Annotated[
        Optional[float],
        typer.Option("--temperature", help="Autoregressive models: below 1 sharper, above 1 flatter than learned."),
    ] = None,
    top_p: Annotated[
        Optional[float],
        typer.Option(
            "--top-p", help="Autoregressive models: only the most probable values, of this probability in all."
        ),
    ] = None,
    balance: Annotated[
        Optional[str],
        typer.Option("--balance", help="Autoregressive models: column whose categories are drawn equally often."),
    ] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Load a stock pickle that no run recorded.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Sample a fitted model into Parquet parts and a manifest."""
    from shardsynth.commands.sample import SampleRequest, sample_model
    from shardsynth.errors import InputError
    from shardsynth.job import parse_rows

    if (rows is None) == (remaining is None):
        raise InputError("wanted either --rows, such as --rows 1e6, or --remaining-columns with the rows to complete")
    request = SampleRequest(
        model=model,
        output=output,
        rows=0 if rows is None else parse_rows(rows),
        remaining=remaining,
        rows_per_shard=parse_rows(rows_per_shard),
        tasks=tasks,
        seed=seed,
        go_on=go_on,
        same_rows=same_rows,
        where=where,
        trust_pickle=trust_pickle,
        temperature=temperature,
        top_p=top_p,
        balance=balance,
    )
    print(sample_model(request, console=_console()))


@app.command()
def show(model: ModelFolder, debug: Debug = False) -> None:
    """Show a model: family, columns, learned distributions."""
    from shardsynth.api import describe_model

    for line in describe_model(model):
        print(line)


@app.command()
def export(
    model: ModelFolder,
    output: Annotated[Path, typer.Argument(metavar="OUT.pkl", help="Pickle to write.")],
    debug: Debug = False,
) -> None:
    """Write a model as a stock SDV synthesizer."""
    from shardsynth.api import export_model

    for line in export_model(model, output):
        print(line)


@app.command("import-model")
def import_model(
    source: Annotated[Path, typer.Argument(metavar="MODEL.pkl", help="Pickle of a fitted stock GaussianCopula.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Model folder to write.")],
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Run the code in the pickle: you know its source.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Turn a stock SDV pickle into a native model folder."""
    from shardsynth.api import import_stock_model

    for line in import_stock_model(source, output, trust_pickle=trust_pickle):
        print(line)


@app.command("import")
def import_table(
    source: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV, TSV, Excel or Feather file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the shards.")],
    types: Annotated[
        Optional[list[str]],
        typer.Option("--type", metavar="COLUMN=TYPE", help="Arrow type of a column, such as age=int8."),
    ] = None,
    rows_per_shard: Annotated[str, typer.Option("--rows-per-shard", help="Rows of one shard.")] = "1e6",
    delimiter: Annotated[Optional[str], typer.Option("--delimiter", help="Field separator of a text table.")] = None,
    sheet: Annotated[Optional[str], typer.Option("--sheet", help="Sheet of an Excel file.")] = None,
    encoding: Annotated[str, typer.Option("--encoding", help="Encoding of a text table.")] = "utf-8",
    null: Annotated[
        Optional[list[str]], typer.Option("--null", help="Text that means missing (may be given several times).")
    ] = None,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Errors quote the value at fault: it may be a patient's.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Turn CSV, TSV, Excel or Feather into Parquet shards."""
    from shardsynth.data.importer import import_table as write_shards
    from shardsynth.errors import InputError
    from shardsynth.job import parse_rows

    chosen = {}
    for item in types or []:
        name, equals, kind = item.rpartition("=")
        if not equals:
            raise InputError(f"--type {item!r}: wanted COLUMN=TYPE, such as age=int8")
        chosen[name] = kind
    paths = write_shards(
        source,
        output,
        types=chosen,
        rows_per_shard=parse_rows(rows_per_shard),
        delimiter=delimiter,
        sheet=sheet,
        null_values=null,
        encoding=encoding,
        show_values=show_values,
    )
    print(f"{len(paths)} shards in {output}")


@app.command()
def clean(
    folder: RunFolder,
    private: Annotated[bool, typer.Option("--private", help="Delete all that derives from real rows.")] = False,
    debug: Debug = False,
) -> None:
    """Delete leftovers of dead attempts and intermediates that nothing needs any more."""
    from shardsynth.api import Run

    for line in Run(folder).clean(private=private):
        print(line)


@app.command()
def pack(
    folder: RunFolder,
    output: Annotated[
        Optional[Path], typer.Option("-o", "--output", help="Archive to write (default: RUN.tar.gz).")
    ] = None,
    debug: Debug = False,
) -> None:
    """Pack what may leave the house: models, samples, metrics, report; nothing private."""
    from shardsynth.api import Run

    print(Run(folder).pack(output))


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the demo's data and run.")] = Path(
        "runs/demo"
    ),
    debug: Debug = False,
) -> None:
    """Run a real job, all four models, on the breast-cancer table that scikit-learn carries."""
    from shardsynth.commands.demo import run_demo

    _report_end(run_demo(output, console=_console(), debug=debug))


@app.command()
def submit(
    job: JobFile,
    overrides: Set = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the sbatch scripts; write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Submit without asking, however large.")] = False,
    debug: Debug = False,
) -> None:
    """Run the job on Slurm: arrays chained by dependencies; returns at once."""
    from shardsynth.executors.slurm.submit import submit_job
    from shardsynth.job import Job

    def confirm() -> bool:
        return yes or (sys.stdin.isatty() and typer.confirm("submit all of this?"))

    found = submit_job(Job.load(job, overrides), dry_run=dry_run, confirm=confirm, say=print)
    if not dry_run:
        print(f"nothing needs to stay behind here; shardsynth status {found.root}")


@app.command()
def watch(
    folder: RunFolder,
    every: Annotated[float, typer.Option("--every", help="Seconds between looks.")] = 10.0,
    debug: Debug = False,
) -> None:
    """Show a submitted run's status until nothing is queued any more."""
    from shardsynth.api import Run
    from shardsynth.executors.watch import wait, watch_screen

    found = Run(folder)
    with watch_screen(found.dir, found.plan, _console()) as show:
        status = wait(found.dir, found.plan, pause=every, show=show)
    if not status.done:
        raise typer.Exit(1)


@app.command()
def cancel(folder: RunFolder, debug: Debug = False) -> None:
    """Cancel what is queued or running of a submitted run; what is committed stays."""
    from shardsynth.api import Run
    from shardsynth.executors.slurm.queue import cancel as cancel_run

    for line in cancel_run(Run(folder).dir):
        print(line)


@app.command()
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
    checks = check_all(folder, site, image, say=print)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@app.command()
def sbatch(
    job: JobFile,
    overrides: Set = None,
    output: Annotated[
        Optional[Path], typer.Option("-o", "--output", help="Folder for the scripts (default: RUN/private/sbatch).")
    ] = None,
    debug: Debug = False,
) -> None:
    """Plan the job and write plain array scripts that do the same; submits nothing.

    Standard output is the script that submits them all: `shardsynth sbatch job.yaml > job.sh; bash job.sh`.
    """
    from shardsynth.executors.slurm.plain_scripts import write_plain_scripts
    from shardsynth.job import Job

    script, lines = write_plain_scripts(Job.load(job, overrides), output)
    if not sys.stdout.isatty():
        print(script, end="")
    for line in lines:
        print(line, file=sys.stderr)


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def _report_end(found: Any) -> None:
    for line in found.summary_lines():
        print(line)


if __name__ == "__main__":
    main()
