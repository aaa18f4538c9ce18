"""Commands on a fitted model: sample it, show it, give it to SDV and take it from there."""

import sys
from pathlib import Path
from typing import Annotated, Optional  # typer evaluates the annotations

import typer

from shardsynth.cli.arguments import Debug, Here, ModelFolder, ShowValues
from shardsynth.cli.terminal import progress_console
from shardsynth.errors import InputError


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
        bool, typer.Option("--trust-pickle", help="Load a pickle that you did not sign: you know its source.")
    ] = False,
    here: Here = False,
    submit: Annotated[bool, typer.Option("--submit", help="Make the rows on Slurm; returns at once.")] = False,
    overrides: Annotated[
        Optional[list[str]],
        typer.Option("--set", metavar="KEY=VALUE", help="A key of `cluster`, such as cluster.stages.sample.mem_gb=4."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --submit: print the sbatch scripts; write nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --submit: submit without asking, however large.")] = False,
    show_values: ShowValues = False,
    debug: Debug = False,
) -> None:
    """Sample a fitted model into Parquet parts and a manifest, on this machine or on Slurm."""
    from shardsynth.commands.sample import SampleRequest, sample_model
    from shardsynth.commands.sample_tables import is_of_tables, sample_tables
    from shardsynth.commands.submit_sample import cluster_section, submit_sample
    from shardsynth.executors.slurm.login_node import IN_A_JOB, refuse_to_compute
    from shardsynth.job import parse_rows

    if (dry_run or yes) and not submit:
        raise InputError(f"{'--dry-run' if dry_run else '--yes'}: goes with --submit")
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
        cluster=cluster_section(model, overrides, as_fitted=submit),
    )
    if not submit:  # said before the model is looked at
        refuse_to_compute(here=here, instead=f"`--submit` makes the rows on Slurm; or {IN_A_JOB}")
    several = is_of_tables(model)
    if several and submit:
        raise InputError(
            "--submit: a model of several tables is sampled here, or by a run with larger `sample.rows`; leave it out"
        )
    if not submit:
        print((sample_tables if several else sample_model)(request, console=progress_console()))
        return

    def confirm() -> bool:
        return yes or (sys.stdin.isatty() and typer.confirm("submit all of this?"))

    run = submit_sample(request, dry_run=dry_run, confirm=confirm, say=print)
    if not dry_run:
        print(f"submitted: nothing runs on this machine, you may log out; see shardsynth status {run.root.parent}")


def show(model: ModelFolder, debug: Debug = False) -> None:
    """Show a model: family, columns, learned distributions."""
    from shardsynth.api import describe_model

    for line in describe_model(model):
        print(line)


def export(
    model: ModelFolder,
    output: Annotated[Path, typer.Argument(metavar="OUT.pkl", help="Pickle to write.")],
    debug: Debug = False,
) -> None:
    """Write a model as a stock SDV synthesizer."""
    from shardsynth.api import export_model

    for line in export_model(model, output):
        print(line)


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
