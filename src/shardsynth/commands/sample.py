"""`shardsynth sample`: more rows of a fitted model, in parts with a manifest, outside a run."""

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
from shardsynth.sources.sources import ConstrainedSource, NativeSource, Source, model_card, open_source
from shardsynth.standalone.cpus import available_cpus, limit_threads, thread_environment
from shardsynth.standalone.files import sha256_of, write_json
from shardsynth.standalone.signals import follow_parent


@dataclass(frozen=True)
class SampleRequest:
    """What `shardsynth sample` was asked for.

    Attributes:
        model: Model folder.
        output: Folder for the parts.
        rows: Rows to make.
        rows_per_shard: Rows of one part.
        tasks: Tasks to cut the parts into (default: one per part).
        seed: Another seed than the fit's.
        first_row: Global number of the first row (default: by the ledger).
        go_on: Start after the last row in the ledger.
        same_rows: Rows that were made before may be made again.
        where: Condition, as text.
        trust_pickle: Load a stock pickle that no run recorded.
        remaining: Folder, glob or file of known rows to be completed, in their order; ``rows`` is their number.
        temperature: Below 1 sharper, above 1 flatter than learned (default of these three: the model's own).
        top_p: Only the most probable values that together hold this probability.
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
        """How the model is to be sampled, where not as it was made to."""
        given = {"temperature": self.temperature, "top_p": self.top_p, "balance": self.balance}
        return {key: value for key, value in given.items() if value is not None}


def sample_model(request: SampleRequest, *, console: Any = None) -> str:
    """Sample a model into ``output``; run again after an interruption, it goes on where it was.

    Raises:
        ModelError: No model there.
        RunError: Rows that were made before, or a folder with other things in it.
        ConditionError: A condition that the model cannot meet.
        InputError: More rows than can be numbered, identified or held by the disk.
    """
    card = model_card(request.model)
    for option, number in (("--rows-per-shard", request.rows_per_shard), ("--tasks", request.tasks)):
        if number is not None and number < 1:
            raise RunError(f"{option}: wanted 1 or more, found {number}")
    if request.seed is not None and not 0 <= request.seed < 2**63:
        raise RunError(f"--seed: wanted a number from 0 to 2^63 - 1, found {request.seed}")
    if request.remaining is not None and (request.where is not None or request.go_on or card.get("engine") == "sdv"):
        raise ConditionError("--remaining-columns: goes without --where and --continue, and with native models")
    if request.remaining is not None and request.balance is not None:
        raise ConditionError("--balance: rows that are completed keep what they have; leave it out")
    if request.sampling and card.get("family") != "autoregressive":
        options = ", ".join("--" + key.replace("_", "-") for key in request.sampling)
        raise ConditionError(f"{options}: for autoregressive models; this one is {card.get('family')}")
    if request.where is not None and card.get("engine") == "sdv":
        raise ConditionError("--where: stock models take no conditions here; use a native model")
    if request.output.exists() and not request.output.is_dir():
        raise RunError(no_folder_there(request.output))
    asked = _asked(request, card)
    request = replace(request, rows=asked["rows"])
    # A bad model or condition is one error, before any row is reserved or any task starts.
    source = _open(asked, trust_pickle=request.trust_pickle)
    run = RunDir(request.output / "_run")
    plan = _planned(run, request, card, asked, source)
    ranges = split_range(plan["n_parts"], request.tasks or plan["n_parts"])
    todo = [(i, first, last) for i, (first, last) in enumerate(ranges) if run.committed("sample", i) is None]
    started = time.monotonic()
    worth = 20_000 if card.get("engine") == "sdv" else 500_000  # rows that pay for starting one more process
    slots = min(available_cpus(), len(todo), -(-request.rows // worth))
    told = _Told(console, plan["rows"], sum(len(_rows_of(plan, *task[1:])) for task in todo))
    if slots <= 1:
        for task in todo:
            _sample_task(str(run.root), *task, source, told)
            told.line()
    else:
        _sample_in_processes(run, todo, slots, told)
    acceptance = _write_manifest(run, request, plan, ranges, source.schema)
    seconds = max(time.monotonic() - started, 1e-9)
    made = f"{plan['rows']:,} rows in {plan['n_parts']} parts in {request.output}"
    first, last = plan["first_row"], plan["first_row"] + plan["rows"]
    met = "" if acceptance is None else f"; {acceptance:.2%} of the proposals met the condition"
    return f"{made} (rows {first:,} to {last:,} of the model's stream, {seconds:.1f} s{met})"


@dataclass
class _Told:
    """Rows made so far, as one line that is written over on a terminal, and as lines elsewhere."""

    console: Any
    rows: int
    left: int

    def __call__(self, batch: pa.RecordBatch) -> None:
        """Rows of a part were made."""
        self.left -= batch.num_rows
        if self.console is not None and self.console.is_terminal:
            self.line()

    def line(self, made: int = 0) -> None:
        """Print how far it is."""
        self.left -= made
        if self.console is not None:
            text = f"{self.rows - self.left:,} of {self.rows:,} rows"
            self.console.print(text, end="\r" if self.console.is_terminal else "\n", highlight=False)


def _begin_process() -> None:
    limit_threads(1)
    follow_parent()


def _sample_in_processes(run: RunDir, todo: list[tuple[int, int, int]], slots: int, told: _Told) -> None:
    """Do the tasks in processes of one thread; TaskError names the first that failed."""
    os.environ.update(thread_environment(1))  # inherited by the workers before they import anything
    pool = ProcessPoolExecutor(slots, get_context("spawn"), initializer=_begin_process)
    try:
        futures = {pool.submit(_sample_task, str(run.root), *task): task for task in todo}
        for future in as_completed(futures):
            try:
                told.line(future.result())
            except InputError:
                raise
            except Exception as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise TaskError(f"sampling task {futures[future][0]}: {reason}; run the same command again") from error
    finally:
        pool.shutdown(cancel_futures=True)  # the end of a `with` would do all that is left


def _asked(request: SampleRequest, card: dict[str, Any]) -> dict[str, Any]:
    """What decides the rows: the model's files, its stream, how many."""
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


def _planned(
    run: RunDir, request: SampleRequest, card: dict[str, Any], asked: dict[str, Any], source: Source
) -> dict[str, Any]:
    """The plan in the output folder, or a new one with rows of its own from the ledger."""
    if run.plan_file.exists():
        plan = run.read_plan()
        if plan["asked"] != json.loads(json.dumps(asked)):
            raise RunError(f"{request.output}: the folder holds other samples; choose another folder")
        complete = (request.output / "_manifest.json").exists()
        if complete and not request.same_rows:
            raise RunError(
                f"{request.output}: these rows are made already; choose another folder, with --continue for other rows"
            )
        return plan
    # A folder _run without a plan was left by a call that ended before it had rows.
    if request.output.exists() and any(p.name[0] != "." and p.name != run.root.name for p in request.output.iterdir()):
        raise RunError(f"{request.output}: the folder is not empty; choose another folder")
    # What completes given rows is a stream of its own: asked twice, it is to give the same.
    wanted = RowsWanted(
        request.model,
        request.rows,
        asked["seed"],
        request.where,
        request.first_row,
        request.go_on,
        request.same_rows,
    )
    first_row = next_row(wanted, card)[0] if request.remaining is None else 0
    check_room(source, first_row, request.rows, request.rows_per_shard, request.output)
    run.create()  # before rows are reserved: a folder that cannot be written costs none
    if request.remaining is None:
        first_row = reserve(wanted, card)
    plan = {
        "identity": hashlib.sha256(json.dumps([asked, first_row]).encode()).hexdigest(),
        "asked": asked,
        "trust_pickle": request.trust_pickle,
        "first_row": first_row,
        "rows": request.rows,
        "n_parts": max(1, -(-request.rows // request.rows_per_shard)),
    }
    write_json(run.plan_file, plan)
    return plan


def _open(asked: dict[str, Any], *, trust_pickle: bool) -> Source:
    source = open_source(
        Path(asked["model"]),
        seed=asked["seed"],
        name=asked["name"],
        chunk_rows=asked["chunk_rows"],
        trust_pickle=trust_pickle,
        where=asked["where"],
        sampling=asked.get("sampling"),
    )
    if asked.get("remaining") is None:
        return source
    if isinstance(source, ConstrainedSource):
        raise ConditionError("--remaining-columns: this model keeps constraints, under which it cannot complete rows")
    if not isinstance(source, NativeSource):
        raise ConditionError("--remaining-columns: a stock model cannot complete rows; use a native one")
    known, digest = open_known(asked["remaining"])
    if digest != asked["known"]:
        raise InputError(f"{asked['remaining']}: the known rows changed since they were first read")
    return KnownSource(source.model, asked["seed"], known)


_MODEL_FILES = (".json", ".safetensors")
_SOURCES: dict[str, Any] = {}  # a worker process opens the model once


def _rows_of(plan: dict[str, Any], first_part: int, last_part: int) -> range:
    """Rows of some parts, from 0 on."""
    size = plan["asked"]["rows_per_shard"]
    return range(first_part * size, min(last_part * size, plan["rows"]))


def _sample_task(
    root: str,
    index: int,
    first_part: int,
    last_part: int,
    source: Any = None,
    watch: Callable[[pa.RecordBatch], None] = lambda batch: None,
) -> int:
    """Make the parts of one task and commit them; returns their rows."""
    from shardsynth.sources.parts import write_part

    run = RunDir(Path(root))
    plan = run.read_plan()
    if source is None:
        if root not in _SOURCES:
            _SOURCES[root] = _open(plan["asked"], trust_pickle=plan["trust_pickle"])
        source = _SOURCES[root]
    first_row = plan["first_row"]
    parts, made = [], 0
    with run.attempt("sample", index) as attempt:
        for part in range(first_part, last_part):
            path = run.root.parent / f"part-{part:05d}.parquet"
            numbers = _rows_of(plan, part, part + 1)
            rows = range(first_row + numbers.start, first_row + numbers.stop)
            written = write_part(attempt.output(path), source.schema, source, rows, watch)
            attempt.checksum(path, written["sha256"])
            parts.append({"path": path.name, "part": part, "first_row": rows.start, **written})
        made = sum(part["rows"] for part in parts)
        attempt.commit(rows=made, parts=parts, acceptance=source.acceptance())
    return made


def _write_manifest(
    run: RunDir, request: SampleRequest, plan: dict[str, Any], ranges: list[tuple[int, int]], schema: pa.Schema
) -> float | None:
    """Write the manifest; the share of proposals that conditions accepted, None without conditions."""
    parts: list[dict[str, Any]] = []
    drawn = {"proposals": 0, "accepted": 0}
    for index in range(len(ranges)):
        record = run.committed("sample", index)
        if record is None:
            raise TaskError(f"{request.output}: sampling task {index} is not committed; run the same command again")
        parts += record["parts"]
        for key in drawn:
            drawn[key] += (record.get("acceptance") or {}).get(key, 0)
    manifest = {
        "model": plan["asked"]["name"],
        "rows": sum(part["rows"] for part in parts),
        "first_row": plan["first_row"],
        "seed": plan["asked"]["seed"],
        "where": plan["asked"]["where"],
        "sampling": plan["asked"].get("sampling"),
        "completed": "remaining" in plan["asked"],
        "acceptance": drawn["accepted"] / drawn["proposals"] if drawn["proposals"] else None,
        "model_files": plan["asked"]["files"],
        "chunk_rows": plan["asked"]["chunk_rows"],
        "schema": schema_to_text(schema),
        "versions": {"shardsynth": __version__, "pyarrow": pa.__version__, "numpy": np.__version__},
        "parts": parts,
    }
    if manifest["rows"] != plan["rows"]:
        raise TaskError(f"{request.output}: the parts hold {manifest['rows']} rows, {plan['rows']} were asked for")
    write_json(request.output / "_manifest.json", manifest)
    acceptance: float | None = manifest["acceptance"]
    return acceptance
