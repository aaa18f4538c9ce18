"""`shardsynth sample`: more rows of a fitted model, as parts with a manifest, outside of a run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardsynth.commands.capacity import check_room
from shardsynth.data.columns import schema_from_text
from shardsynth.errors import (
    ConditionError,
    InputError,
    JobError,
    MissingLibrary,
    ModelError,
    RunError,
    ShardsynthError,
    TaskError,
    no_folder_there,
    of_library,
)
from shardsynth.planning.plan import CHUNK_ROWS, Plan, Sampling, Task
from shardsynth.planning.sampling import RUN_FOLDER, sampling_plan
from shardsynth.run.constraint_card import read_card
from shardsynth.run.row_ledger import RowsWanted, next_known, next_row, reserve, reserve_known
from shardsynth.run.rundir import RunDir
from shardsynth.run.schedule import missing_tasks
from shardsynth.sources.asked import open_asked
from shardsynth.sources.known import KnownSource, open_known
from shardsynth.sources.sources import Source, model_card
from shardsynth.stages.task import TaskRunner
from shardsynth.standalone.cpus import available_cpus, limit_threads, thread_environment
from shardsynth.standalone.files import sha256_of, write_atomic
from shardsynth.standalone.locks import sole_writer
from shardsynth.standalone.signals import follow_parent

#: Endings of the files of a model that decide its rows.
_MODEL_FILES = (".json", ".safetensors")
#: Endings of files that somebody may want in place of a folder.
_TABLE_FILES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".feather", ".xlsx", ".sav", ".dta", ".xpt", ".rds", ".json")


def refuse_file(output: Path) -> None:
    """RunError where the output of samples is a file, or is named like one that is not there."""
    if output.exists() and not output.is_dir():
        raise RunError(no_folder_there(output))
    if output.suffix.lower() in _TABLE_FILES and not output.exists():
        raise RunError(f"{output}: is named like a file, and the rows go to a folder, as Parquet; name a folder")


#: Rows that take about as long as starting one more process: of stock models, of native ones.
_STOCK_ROWS_PER_PROCESS, _NATIVE_ROWS_PER_PROCESS = 20_000, 500_000


@dataclass(frozen=True)
class SampleRequest:
    """The options of `shardsynth sample`.

    Attributes:
        model: Model folder.
        output: Folder for the parts.
        rows: Rows to make.
        rows_per_shard: Rows of one part.
        tasks: Number of tasks that share the parts (default: one per part).
        seed: Seed of the rows (default: the model's).
        first_row: Global number of the first row (default: as the ledger says).
        go_on: Start after the last row in the ledger.
        same_rows: Rows that were made before may be made again.
        where: Condition, as text.
        trust_pickle: Load a pickle that the user did not sign.
        remaining: Folder, glob or file of known rows to complete, in their order; ``rows`` is then their number.
        temperature: Below 1, frequent values become more frequent; above 1, rare ones (default of the last three: as
            the model was fitted).
        top_p: Draw only the most probable values, whose probabilities add up to this.
        balance: Category column whose categories are drawn equally often.
        cluster: Where the tasks run, as the section ``cluster`` of a job says it.
    """

    model: Path
    output: Path
    rows: int
    rows_per_shard: int = 1_000_000
    tasks: int | None = None
    seed: int | None = None
    first_row: int | None = None
    go_on: bool = False
    same_rows: bool = False
    where: str | None = None
    trust_pickle: bool = False
    remaining: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    balance: str | None = None
    cluster: dict[str, Any] = field(default_factory=dict)

    @property
    def sampling(self) -> dict[str, Any]:
        """The options of an autoregressive model that are set."""
        options = {"temperature": self.temperature, "top_p": self.top_p, "balance": self.balance}
        return {key: value for key, value in options.items() if value is not None}


@dataclass
class ModelSample:
    """Rows of a model that were asked for, checked and planned.

    Attributes:
        request: What was asked for.
        card: ``model.json`` and ``run.json`` of the model.
        source: The rows; None where a library of the model is not installed here.
        plan: The plan. As long as it is not written, its first row is not reserved.
        run: The run directory.
        planned: Whether the plan is in the run directory.
    """

    request: SampleRequest
    card: dict[str, Any]
    source: Source | None
    plan: Plan
    run: RunDir
    planned: bool = False

    def write(self) -> None:
        """Reserve the rows in the model's ledger and write the plan; nothing where that was done before.

        Raises:
            RunError: The rows were made before, or the folder cannot be written.
        """
        if self.planned:
            return
        self.run.create()  # before rows are reserved: none are lost where the folder cannot be written
        with sole_writer(self.run.root, "sample"):
            if self.run.plan_file.exists():
                raise RunError(
                    f"{self.request.output}: another `shardsynth sample` has begun there meanwhile; no rows were "
                    "reserved: choose another folder, or wait for it, and the same command goes on where it was"
                )
            sampling = self.plan.sampling
            assert sampling is not None
            asked, request = sampling.asked, self.request
            if request.remaining is None:
                first_row = reserve(_wanted(request, asked), self.card)
            else:
                first_row = reserve_known(request.model, asked["rows"], asked["seed"], asked["known"], self.card)
            sampling = replace(sampling, first_row=first_row)
            self.plan = replace(self.plan, sampling=sampling)
            self.run.write_plan(self.plan.job.to_yaml(), self.plan.to_json())
        self.planned = True


def prepare(request: SampleRequest, *, elsewhere: bool = False) -> ModelSample:
    """Check and plan what was asked for; writes nothing that was not there.

    Args:
        request: What to sample.
        elsewhere: The rows are made on other machines: this one may lack torch or SDV.

    Raises:
        ModelError: There is no model.
        RunError: A number is out of range, the rows were made before, or the folder holds something else.
        ConditionError: The model cannot meet the condition, or options exclude each other.
        InputError: More rows than can be numbered, identified or stored.
    """
    card = model_card(request.model)
    for option, number in (("--rows-per-shard", request.rows_per_shard), ("--tasks", request.tasks)):
        if number is not None and number < 1:
            raise RunError(f"{option}: wanted 1 or more, found {number}")
    if request.seed is not None and not 0 <= request.seed < 2**63:
        raise RunError(f"--seed: wanted a number from 0 to 2^63 - 1, found {request.seed}")
    if request.remaining is not None and (request.where is not None or request.go_on or card.get("engine") == "sdv"):
        raise ConditionError("--remaining-columns: cannot be used with --where or --continue, nor with a stock model")
    if request.remaining is not None and request.balance is not None:
        raise ConditionError("--balance: rows that are completed keep what they have; leave it out")
    if request.sampling and card.get("family") != "autoregressive":
        options = ", ".join("--" + key.replace("_", "-") for key in request.sampling)
        raise ConditionError(f"{options}: for autoregressive models; this one is {card.get('family')}")
    if request.where is not None and card.get("engine") == "sdv":
        raise ConditionError("--where: stock models take no conditions here; use a native model")
    refuse_file(request.output)
    content = _content(request, card)
    request = replace(request, rows=content["rows"])
    # A wrong model or condition is an error here, before rows are reserved and tasks start.
    source: Source | None = None
    try:
        source = open_asked(content, trust_pickle=request.trust_pickle)
        if isinstance(source, KnownSource):
            source.check()
    except (ModuleNotFoundError, MissingLibrary):
        if not elsewhere:
            raise
        schema = _written_schema(request.model, card)
    else:
        schema = source.schema
    run = RunDir(request.output.absolute() / RUN_FOLDER, parts_beside=True)
    planned = run.plan_file.exists()
    plan = _find_or_make_plan(run, request, card, content, source, schema)
    return ModelSample(request, card, source, plan, run, planned)


def _written_schema(model: Path, card: dict[str, Any]) -> pa.Schema:
    """Schema of a model's rows, from its files alone; ModelError where they do not say it."""
    table = read_card(model)
    if table is not None:
        return table.schema
    if "schema" not in card:
        raise ModelError(f"{model}: needs a library that is not installed on this machine; submit where it is")
    return schema_from_text(card["schema"])


def sample_model(request: SampleRequest, *, console: Any = None) -> str:
    """Sample a model into ``output``. After an interruption, the same call makes what is missing.

    Args:
        request: What to sample.
        console: Shows progress; None: no progress.

    Returns:
        A line that says what was made.

    Raises:
        InputError: As `prepare`.
        TaskError: A task failed.
    """
    wanted = prepare(request)
    wanted.write()
    start = time.monotonic()
    run, plan = wanted.run, wanted.plan
    if isinstance(wanted.source, KnownSource) and plan.sampling is not None:
        wanted.source.first_row = plan.sampling.first_row
    executor = plan.job.cluster.executor
    if executor == "slurm":
        raise JobError("cluster.executor: slurm: `sample --submit` hands the rows to Slurm")
    missing = missing_tasks(plan, run).of("sample")
    per_process = _STOCK_ROWS_PER_PROCESS if wanted.card.get("engine") == "sdv" else _NATIVE_ROWS_PER_PROCESS
    cpus = plan.job.cluster.workers or available_cpus()
    processes = min(cpus, len(missing), -(-plan.rows // per_process))
    progress = _Progress(console, plan.rows, sum(_rows_of(plan, task) for task in missing))
    runner = TaskRunner(run.root)
    if executor in ("submitit", "debug"):
        _execute(run, plan, console)
    elif processes <= 1:
        runner.artifacts.cached("asked", lambda: wanted.source)
        for task in missing:
            runner.run_task("sample", task.index, progress.advance)
            progress.end_task()
    else:
        _sample_in_processes(run, plan, missing, processes, progress)
    acceptance = runner.run_task("merge", 0).get("acceptance")
    seconds = max(time.monotonic() - start, 1e-9)
    assert plan.sampling is not None
    first_row = plan.sampling.first_row
    parts = f"{plan.rows:,} rows in {plan.n_parts} parts in {request.output}"
    accepted = "" if acceptance is None else f"; {acceptance:.2%} of the proposals met the condition"
    return f"{parts} (rows {first_row:,} to {first_row + plan.rows:,} of the model's stream, {seconds:.1f} s{accepted})"


def _execute(run: RunDir, plan: Plan, console: Any) -> None:
    """Run all tasks with submitit's local or debug executor."""
    from rich.console import Console

    from shardsynth.executors.local.execute import execute

    execute(run, plan, console=console or Console(stderr=True, quiet=True))


@dataclass
class _Progress:
    """Number of rows made so far: on a terminal one line that is overwritten, elsewhere a line per task."""

    console: Any
    rows: int
    left: int
    of_task: int = 0

    def advance(self, rows: int) -> None:
        """Note how many rows of the running task are done."""
        self.left -= rows - self.of_task
        self.of_task = rows
        if self.console is not None and self.console.is_terminal:
            self.show()

    def end_task(self) -> None:
        """Note that the running task has ended."""
        self.of_task = 0
        self.show()

    def show(self, rows: int = 0) -> None:
        """Count rows of another process, and print the number."""
        self.left -= rows
        if self.console is not None:
            text = f"{self.rows - self.left:,} of {self.rows:,} rows"
            self.console.print(text, end="\r" if self.console.is_terminal else "\n", highlight=False)


def _start_process() -> None:
    limit_threads(1)
    follow_parent()


def _sample_in_processes(run: RunDir, plan: Plan, tasks: Sequence[Task], processes: int, progress: _Progress) -> None:
    """Do tasks in processes of one thread each; TaskError names the first that failed."""
    os.environ.update(thread_environment(1))  # inherited by the workers before they import anything
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start_process)
    try:
        futures = {pool.submit(_sample_task, str(run.root), task.index): task for task in tasks}
        for future in as_completed(futures):
            try:
                future.result()
                progress.show(_rows_of(plan, futures[future]))
            except InputError:
                raise
            except Exception as error:
                reason = str(error) if isinstance(error, ShardsynthError) else of_library(error)
                index = futures[future].index
                raise TaskError(f"sampling task {index}: {reason}; run the same command again") from error
    finally:
        pool.shutdown(cancel_futures=True)  # `with` would wait until all tasks are done


_RUNNERS: dict[str, TaskRunner] = {}  # by run: a worker process opens the model once


def _sample_task(root: str, index: int) -> None:
    """Make the parts of one task and commit them."""
    if root not in _RUNNERS:
        _RUNNERS[root] = TaskRunner(Path(root))
    _RUNNERS[root].run_task("sample", index)


def _rows_of(plan: Plan, task: Task) -> int:
    """Rows of a task's parts."""
    return sum(len(plan.part_rows(part)) for part in range(*task.parts))


def _content(request: SampleRequest, card: dict[str, Any]) -> dict[str, Any]:
    """All that decides the content of the parts; it stands in the plan as ``asked``."""
    folder = request.model.resolve()
    known, digest = (None, None) if request.remaining is None else open_known(request.remaining)
    return {
        "model": str(folder),
        "files": {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.suffix in _MODEL_FILES},
        "name": card.get("name", folder.name),
        "seed": card.get("seed", 0) if request.seed is None else request.seed,
        "chunk_rows": card.get("chunk_rows", CHUNK_ROWS),
        "rows": request.rows if known is None else known.rows,
        "rows_per_shard": request.rows_per_shard,
        "tasks": request.tasks,
        "where": request.where,
        **({"sampling": request.sampling} if request.sampling else {}),
        **({} if known is None else {"remaining": os.path.abspath(str(request.remaining)), "known": digest}),
    }


def _wanted(request: SampleRequest, asked: dict[str, Any]) -> RowsWanted:
    return RowsWanted(
        request.model,
        request.rows,
        asked["seed"],
        request.where,
        request.first_row,
        request.go_on,
        request.same_rows,
    )


def _find_or_make_plan(
    run: RunDir,
    request: SampleRequest,
    card: dict[str, Any],
    content: dict[str, Any],
    source: Source | None,
    schema: pa.Schema,
) -> Plan:
    """The plan in the output folder, or a new one, which is not written yet."""

    def plan_of(sampling: Sampling) -> Plan:
        return sampling_plan(sampling, card, schema, request.output.absolute(), request.cluster)

    if run.plan_file.exists():
        data = run.read_plan(old_sampling=True)
        before = data if "asked" in data else data.get("sampling") or {}  # plans of the first versions had no tasks
        if before.get("asked") != json.loads(json.dumps(content)):
            raise RunError(f"{request.output}: the folder holds other samples; choose another folder")
        if (request.output / "_manifest.json").exists() and not request.same_rows:
            raise RunError(
                f"{request.output}: these rows exist already; choose another folder, with --continue for other rows"
            )
        plan = plan_of(Sampling(content, before["first_row"], before["trust_pickle"]))
        if data is before:
            run.change_plan(plan.to_json())
            write_atomic(run.job_file, plan.job.to_yaml(), 0o600)
        return plan
    # A call that ended before it had rows leaves a folder _run without a plan.
    if request.output.exists() and any(p.name[0] != "." and p.name != run.root.name for p in request.output.iterdir()):
        raise RunError(f"{request.output}: the folder is not empty; choose another folder")
    if request.remaining is None:
        first_row = next_row(_wanted(request, content), card)[0]
    else:  # the same known rows have the same numbers each time
        first_row = next_known(request.model, content["rows"], content["seed"], content["known"], card)[0]
    if isinstance(source, KnownSource):
        source.first_row = first_row
    if source is not None:
        check_room(source, first_row, request.rows, request.rows_per_shard, request.output)
    return plan_of(Sampling(content, first_row, request.trust_pickle))
