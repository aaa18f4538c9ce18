"""`shardsynth sample`: more rows of a fitted model, in parts with a manifest, outside a run.

The model's ledger, ``ledger/<number>.json`` beside its ``model.json``, records which global rows were handed out: each
entry is created once, so that two calls at the same time get different rows. The rows that the run itself made come
first. Asking again without ``--continue`` is refused: nobody gets the same rows by accident.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth import __version__
from shardsynth.data.columns import schema_to_text
from shardsynth.errors import ConditionError, InputError, RunError, TaskError
from shardsynth.pipeline.completing import KnownSource, open_known
from shardsynth.pipeline.files import create_once, read_json, sha256_of, write_json
from shardsynth.pipeline.plan import CHUNK_ROWS, split_range
from shardsynth.pipeline.rundir import RunDir
from shardsynth.pipeline.sources import ConstrainedSource, Source, model_card, open_source
from shardsynth.pipeline.threads import available_cpus, limit_threads, thread_environment


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
    """
    card = model_card(request.model)
    for option, number in (("--rows-per-shard", request.rows_per_shard), ("--tasks", request.tasks)):
        if number is not None and number < 1:
            raise RunError(f"{option}: wanted 1 or more, found {number}")
    if request.seed is not None and not 0 <= request.seed < 2**63:
        raise RunError(f"--seed: wanted a number from 0 to 2^63 - 1, found {request.seed}")
    if request.remaining is not None and (request.where or request.go_on or card.get("engine") == "sdv"):
        raise ConditionError("--remaining-columns: goes without --where and --continue, and with native models")
    if request.remaining is not None and request.balance is not None:
        raise ConditionError("--balance: rows that are completed keep what they have; leave it out")
    if request.sampling and card.get("family") != "autoregressive":
        options = ", ".join("--" + key.replace("_", "-") for key in request.sampling)
        raise ConditionError(f"{options}: for autoregressive models; this one is {card.get('family')}")
    if request.where and card.get("engine") == "sdv":
        raise ConditionError("--where: stock models take no conditions here; use a native model")
    asked = _asked(request, card)
    request = replace(request, rows=asked["rows"])
    # A bad model or condition is one error, before any row is reserved or any task starts.
    source = _open(asked, trust_pickle=request.trust_pickle)
    run = RunDir(request.output / "_run")
    plan = _planned(run, request, card, asked)
    ranges = split_range(plan["n_parts"], request.tasks or plan["n_parts"])
    todo = [(i, first, last) for i, (first, last) in enumerate(ranges) if run.committed("sample", i) is None]
    started = time.monotonic()
    worth = 20_000 if card.get("engine") == "sdv" else 500_000  # rows that pay for starting one more process
    slots = min(available_cpus(), len(todo), -(-request.rows // worth))
    if slots <= 1:
        for task in todo:
            _sample_task(str(run.root), *task, source)
    else:
        os.environ.update(thread_environment(1))  # inherited by the workers before they import anything
        with ProcessPoolExecutor(slots, get_context("spawn"), initializer=limit_threads, initargs=(1,)) as pool:
            futures = {pool.submit(_sample_task, str(run.root), *task): task for task in todo}
            for done, future in enumerate(as_completed(futures), 1):
                try:
                    future.result()
                except InputError:
                    raise
                except Exception as error:
                    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                    raise TaskError(
                        f"sampling task {futures[future][0]}: {reason}; run the same command again"
                    ) from error
                if console is not None:
                    console.print(f"{done}/{len(todo)} tasks", end="\r" if console.is_terminal else "\n")
    acceptance = _write_manifest(run, request, plan, ranges, source.schema)
    seconds = max(time.monotonic() - started, 1e-9)
    made = f"{plan['rows']:,} rows in {plan['n_parts']} parts in {request.output}"
    first, last = plan["first_row"], plan["first_row"] + plan["rows"]
    met = "" if acceptance is None else f"; {acceptance:.2%} of the proposals met the condition"
    return f"{made} (rows {first:,} to {last:,} of the model's stream, {seconds:.1f} s{met})"


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


def _planned(run: RunDir, request: SampleRequest, card: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
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
    run.create()  # before rows are reserved: a folder that cannot be written costs none
    # What completes given rows is a stream of its own: asked twice, it is to give the same.
    first_row = _reserve(request, card, asked) if request.remaining is None else 0
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


def _reserve(request: SampleRequest, card: dict[str, Any], asked: dict[str, Any]) -> int:
    """First global row for this request, recorded in the ledger before any row is made."""
    ledger = request.model / "ledger"
    ledger.mkdir(exist_ok=True)
    base = int(card.get("rows", 0)) if asked["seed"] == card.get("seed") else 0  # rows that the run made itself
    while True:
        entries = [read_json(path) for path in sorted(ledger.glob("*.json"))]
        stream = {"seed": asked["seed"], "where": _digest(asked["where"])}
        mine = [entry for entry in entries if {key: entry[key] for key in stream} == stream]
        last = max([base, *(entry["first_row"] + entry["rows"] for entry in mine)])
        start = request.first_row if request.first_row is not None else last if request.go_on else base
        clash = [e for e in mine if start < e["first_row"] + e["rows"] and e["first_row"] < start + request.rows]
        if (clash or (start < base and not request.where)) and not request.same_rows:
            raise RunError(
                f"{request.model}: rows {start:,} to {start + request.rows:,} of this model were made before; "
                "--continue makes other rows, --same-rows makes the same ones on purpose"
            )
        entry = {"first_row": start, "rows": request.rows, **stream}
        if create_once(ledger / f"{len(entries):06d}.json", (json.dumps(entry) + "\n").encode()):
            return int(start)


def _digest(condition: str | None) -> str | None:
    """A condition names values of people: the ledger, which leaves with the model, knows only its digest."""
    return hashlib.sha256(condition.encode("utf-8")).hexdigest() if condition else None


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
    known, digest = open_known(asked["remaining"])
    if digest != asked["known"]:
        raise InputError(f"{asked['remaining']}: the known rows changed since they were first read")
    return KnownSource(source.model, asked["seed"], known)


_MODEL_FILES = (".json", ".safetensors")
_SOURCES: dict[str, Any] = {}  # a worker process opens the model once


def _sample_task(root: str, index: int, first_part: int, last_part: int, source: Any = None) -> None:
    """Make the parts of one task and commit them."""
    from shardsynth.pipeline.stages import write_part

    run = RunDir(Path(root))
    plan = run.read_plan()
    if source is None:
        if root not in _SOURCES:
            _SOURCES[root] = _open(plan["asked"], trust_pickle=plan["trust_pickle"])
        source = _SOURCES[root]
    size, first_row = plan["asked"]["rows_per_shard"], plan["first_row"]
    parts = []
    with run.attempt("sample", index) as attempt:
        for part in range(first_part, last_part):
            path = run.root.parent / f"part-{part:05d}.parquet"
            rows = range(first_row + part * size, first_row + min((part + 1) * size, plan["rows"]))
            written = write_part(attempt.output(path), source.schema, source, rows, lambda batch: None)
            attempt.checksum(path, written["sha256"])
            parts.append({"path": path.name, "part": part, "first_row": rows.start, **written})
        attempt.commit(rows=sum(part["rows"] for part in parts), parts=parts, acceptance=source.acceptance())


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
