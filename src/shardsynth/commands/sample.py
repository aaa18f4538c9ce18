"""`shardsynth sample`: more rows of a fitted model, as parts with a manifest, outside of a run."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth._version import __version__
from shardsynth.commands.capacity import check_room
from shardsynth.commands.row_ledger import RowsWanted, next_row, reserve
from shardsynth.data.columns import schema_to_text
from shardsynth.errors import ConditionError, InputError, RunError, TaskError, no_folder_there
from shardsynth.planning.plan import CHUNK_ROWS, split_range
from shardsynth.run.rundir import RunDir
from shardsynth.sources.known import KnownSource, open_known
from shardsynth.sources.parts import write_part
from shardsynth.sources.sources import ConstrainedSource, NativeSource, Source, model_card, open_source
from shardsynth.standalone.cpus import available_cpus, limit_threads, thread_environment
from shardsynth.standalone.files import sha256_of, write_json
from shardsynth.standalone.signals import follow_parent

#: Endings of the files of a model that decide its rows.
_MODEL_FILES = (".json", ".safetensors")
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
        trust_pickle: Load a stock pickle that no run recorded.
        remaining: Folder, glob or file of known rows to complete, in their order; ``rows`` is then their number.
        temperature: Below 1, frequent values become more frequent; above 1, rare ones (default of the last three: as
            the model was fitted).
        top_p: Draw only the most probable values, whose probabilities add up to this.
        balance: Category column whose categories are drawn equally often.
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

    @property
    def sampling(self) -> dict[str, Any]:
        """The options of an autoregressive model that are set."""
        options = {"temperature": self.temperature, "top_p": self.top_p, "balance": self.balance}
        return {key: value for key, value in options.items() if value is not None}


def sample_model(request: SampleRequest, *, console: Any = None) -> str:
    """Sample a model into ``output``. After an interruption, the same call makes what is missing.

    Args:
        request: What to sample.
        console: Shows progress; None: no progress.

    Returns:
        A line that says what was made.

    Raises:
        ModelError: There is no model.
        RunError: A number is out of range, the rows were made before, or the folder holds something else.
        ConditionError: The model cannot meet the condition, or options exclude each other.
        InputError: More rows than can be numbered, identified or stored.
        TaskError: A task failed.
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
    if request.output.exists() and not request.output.is_dir():
        raise RunError(no_folder_there(request.output))
    content = _content(request, card)
    request = replace(request, rows=content["rows"])
    # A wrong model or condition is an error here, before rows are reserved and tasks start.
    source = _open(content, trust_pickle=request.trust_pickle)
    run = RunDir(request.output / "_run")
    plan = _read_or_make_plan(run, request, card, content, source)
    ranges = split_range(plan["n_parts"], request.tasks or plan["n_parts"])
    missing = [(i, first, stop) for i, (first, stop) in enumerate(ranges) if run.committed("sample", i) is None]
    start = time.monotonic()
    rows_per_process = _STOCK_ROWS_PER_PROCESS if card.get("engine") == "sdv" else _NATIVE_ROWS_PER_PROCESS
    processes = min(available_cpus(), len(missing), -(-request.rows // rows_per_process))
    progress = _Progress(console, plan["rows"], sum(len(_rows_of(plan, *task[1:])) for task in missing))
    if processes <= 1:
        for task in missing:
            _sample_task(str(run.root), *task, source, progress)
            progress.show()
    else:
        _sample_in_processes(run, missing, processes, progress)
    acceptance = _write_manifest(run, request, plan, ranges, source.schema)
    seconds = max(time.monotonic() - start, 1e-9)
    parts = f"{plan['rows']:,} rows in {plan['n_parts']} parts in {request.output}"
    first_row, stop_row = plan["first_row"], plan["first_row"] + plan["rows"]
    accepted = "" if acceptance is None else f"; {acceptance:.2%} of the proposals met the condition"
    return f"{parts} (rows {first_row:,} to {stop_row:,} of the model's stream, {seconds:.1f} s{accepted})"


@dataclass
class _Progress:
    """Number of rows made so far: on a terminal one line that is overwritten, elsewhere a line per task."""

    console: Any
    rows: int
    left: int

    def __call__(self, batch: pa.RecordBatch) -> None:
        """Count the rows of a batch."""
        self.left -= batch.num_rows
        if self.console is not None and self.console.is_terminal:
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


def _sample_in_processes(run: RunDir, tasks: list[tuple[int, int, int]], processes: int, progress: _Progress) -> None:
    """Do tasks in processes of one thread each; TaskError names the first that failed."""
    os.environ.update(thread_environment(1))  # inherited by the workers before they import anything
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start_process)
    try:
        futures = {pool.submit(_sample_task, str(run.root), *task): task for task in tasks}
        for future in as_completed(futures):
            try:
                progress.show(future.result())
            except InputError:
                raise
            except Exception as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise TaskError(f"sampling task {futures[future][0]}: {reason}; run the same command again") from error
    finally:
        pool.shutdown(cancel_futures=True)  # `with` would wait until all tasks are done


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


def _read_or_make_plan(
    run: RunDir, request: SampleRequest, card: dict[str, Any], content: dict[str, Any], source: Source
) -> dict[str, Any]:
    """The plan in the output folder. Where there is none, a new one, whose rows are recorded in the ledger."""
    if run.plan_file.exists():
        plan = run.read_plan()
        if plan["asked"] != json.loads(json.dumps(content)):
            raise RunError(f"{request.output}: the folder holds other samples; choose another folder")
        complete = (request.output / "_manifest.json").exists()
        if complete and not request.same_rows:
            raise RunError(
                f"{request.output}: these rows exist already; choose another folder, with --continue for other rows"
            )
        return plan
    # A call that ended before it had rows leaves a folder _run without a plan.
    if request.output.exists() and any(p.name[0] != "." and p.name != run.root.name for p in request.output.iterdir()):
        raise RunError(f"{request.output}: the folder is not empty; choose another folder")
    rows_wanted = RowsWanted(
        request.model,
        request.rows,
        content["seed"],
        request.where,
        request.first_row,
        request.go_on,
        request.same_rows,
    )
    # Rows that complete known rows are not in the ledger: the same known rows are completed in the same way each time.
    first_row = next_row(rows_wanted, card)[0] if request.remaining is None else 0
    check_room(source, first_row, request.rows, request.rows_per_shard, request.output)
    run.create()  # before rows are reserved: none are lost where the folder cannot be written
    if request.remaining is None:
        first_row = reserve(rows_wanted, card)
    plan = {
        "identity": hashlib.sha256(json.dumps([content, first_row]).encode()).hexdigest(),
        "asked": content,
        "trust_pickle": request.trust_pickle,
        "first_row": first_row,
        "rows": request.rows,
        "n_parts": max(1, -(-request.rows // request.rows_per_shard)),
    }
    write_json(run.plan_file, plan)
    return plan


def _open(content: dict[str, Any], *, trust_pickle: bool) -> Source:
    """The rows of a model, or the known rows that it completes."""
    source = open_source(
        Path(content["model"]),
        seed=content["seed"],
        name=content["name"],
        chunk_rows=content["chunk_rows"],
        trust_pickle=trust_pickle,
        where=content["where"],
        sampling=content.get("sampling"),
    )
    if content.get("remaining") is None:
        return source
    if isinstance(source, ConstrainedSource):
        raise ConditionError("--remaining-columns: this model keeps constraints, under which it cannot complete rows")
    if not isinstance(source, NativeSource):
        raise ConditionError("--remaining-columns: a stock model cannot complete rows; use a native one")
    known, digest = open_known(content["remaining"])
    if digest != content["known"]:
        raise InputError(
            f"{content['remaining']}: the known rows changed since they were first read; restore them, or choose "
            "another --output"
        )
    return KnownSource(source.model, content["seed"], known)


_SOURCES: dict[str, Any] = {}  # by run: a worker process opens the model once


def _rows_of(plan: dict[str, Any], first_part: int, stop_part: int) -> range:
    """Numbers of the rows of some parts, where the first row of the sample is 0."""
    size = plan["asked"]["rows_per_shard"]
    return range(first_part * size, min(stop_part * size, plan["rows"]))


def _sample_task(
    root: str,
    index: int,
    first_part: int,
    stop_part: int,
    source: Any = None,
    watch: Callable[[pa.RecordBatch], None] = lambda batch: None,
) -> int:
    """Make the parts of one task and commit them; returns their number of rows."""
    run = RunDir(Path(root))
    plan = run.read_plan()
    if source is None:
        if root not in _SOURCES:
            _SOURCES[root] = _open(plan["asked"], trust_pickle=plan["trust_pickle"])
        source = _SOURCES[root]
    first_row = plan["first_row"]
    parts = []
    with run.attempt("sample", index) as attempt:
        for part in range(first_part, stop_part):
            path = run.root.parent / f"part-{part:05d}.parquet"
            offsets = _rows_of(plan, part, part + 1)
            rows = range(first_row + offsets.start, first_row + offsets.stop)
            written = write_part(attempt.output(path), source.schema, source, rows, watch)
            attempt.checksum(path, written["sha256"])
            parts.append({"path": path.name, "part": part, "first_row": rows.start, **written})
        n_rows: int = sum(part["rows"] for part in parts)
        attempt.commit(rows=n_rows, parts=parts, acceptance=source.acceptance())
    return n_rows


def _write_manifest(
    run: RunDir, request: SampleRequest, plan: dict[str, Any], ranges: list[tuple[int, int]], schema: pa.Schema
) -> float | None:
    """Write the manifest; returns the share of proposals that met the condition, None without one."""
    parts: list[dict[str, Any]] = []
    counts = {"proposals": 0, "accepted": 0}
    for index in range(len(ranges)):
        record = run.committed("sample", index)
        if record is None:
            raise TaskError(f"{request.output}: sampling task {index} is not committed; run the same command again")
        parts += record["parts"]
        for key in counts:
            counts[key] += (record.get("acceptance") or {}).get(key, 0)
    manifest = {
        "model": plan["asked"]["name"],
        "rows": sum(part["rows"] for part in parts),
        "first_row": plan["first_row"],
        "seed": plan["asked"]["seed"],
        "where": plan["asked"]["where"],
        "sampling": plan["asked"].get("sampling"),
        "completed": "remaining" in plan["asked"],
        "acceptance": counts["accepted"] / counts["proposals"] if counts["proposals"] else None,
        "model_files": plan["asked"]["files"],
        "chunk_rows": plan["asked"]["chunk_rows"],
        "schema": schema_to_text(schema),
        "versions": {"shardsynth": __version__, "pyarrow": pa.__version__, "numpy": np.__version__},
        "parts": parts,
    }
    if manifest["rows"] != plan["rows"]:
        raise TaskError(f"{request.output}: the parts hold {manifest['rows']} rows, wanted {plan['rows']}")
    write_json(request.output / "_manifest.json", manifest)
    acceptance: float | None = manifest["acceptance"]
    return acceptance
