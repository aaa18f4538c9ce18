"""`shardsynth sample` of a model of several tables: more subjects, with their rows in every table.

Part k of every table has the same subjects, as in a run. Beside the parts of a call stands what was asked for, and one
record a part, written when the part is whole in all tables: the same command goes on where it was stopped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from shardsynth._version import __version__
from shardsynth.commands.sample import SampleRequest, refuse_file
from shardsynth.data.columns import schema_to_text
from shardsynth.data.writer import PartWriter
from shardsynth.errors import ConditionError, RunError
from shardsynth.models.families import OF_TABLES
from shardsynth.planning.sampling import RUN_FOLDER
from shardsynth.run.row_ledger import RowsWanted, next_row, reserve
from shardsynth.sampling.identifiers import check_capacity
from shardsynth.sources.sources import model_card
from shardsynth.standalone.cpus import available_cpus, limit_threads, thread_environment
from shardsynth.standalone.files import read_json, sha256_of, write_json
from shardsynth.standalone.locks import sole_writer
from shardsynth.standalone.signals import follow_parent

if TYPE_CHECKING:
    from shardsynth.models.autoregressive.subjects.model import SubjectsModel

_MODEL_FILES = (".json", ".safetensors")
#: Subjects that take about as long as starting one more process.
_SUBJECTS_PER_PROCESS = 20_000


def is_of_tables(model: Path) -> bool:
    """Whether a folder holds a model of several tables."""
    return model_card(model).get("family") == OF_TABLES


@dataclass(frozen=True)
class _Parts:
    """The parts of a call.

    Attributes:
        folder: The model's.
        output: Where they are written.
        seed: Of the rows.
        subjects: Numbers of all subjects.
        per_part: Subjects of a part.
    """

    folder: Path
    output: Path
    seed: int
    subjects: range
    per_part: int

    @property
    def count(self) -> int:
        """Number of parts."""
        return -(-len(self.subjects) // self.per_part)

    def of(self, part: int) -> range:
        """Numbers of a part's subjects."""
        first = self.subjects.start + part * self.per_part
        return range(first, min(first + self.per_part, self.subjects.stop))

    def record(self, part: int) -> Path:
        """What a whole part holds, by table."""
        return self.output / RUN_FOLDER / f"part-{part:05d}.json"

    def path(self, table: str, part: int) -> Path:
        """A part of a table."""
        return self.output / table / f"part-{part:05d}.parquet"

    def missing(self) -> list[int]:
        """Parts that are not whole."""
        return [part for part in range(self.count) if not self._is_whole(part)]

    def _is_whole(self, part: int) -> bool:
        if not self.record(part).exists():
            return False
        entries = read_json(self.record(part))
        return all(
            self.path(table, part).exists() and self.path(table, part).stat().st_size == entry["size"]
            for table, entry in entries.items()
        )


def refuse_options(request: SampleRequest) -> None:
    """What cannot be asked of a model of several tables so far.

    Raises:
        ConditionError: It was asked for.
    """
    given = {
        "--where": request.where,
        "--remaining-columns": request.remaining,
        "--balance": request.balance,
        "--temperature": request.temperature,
        "--top-p": request.top_p,
        "--tasks": request.tasks,
    }
    for option, value in given.items():
        if value is not None:
            raise ConditionError(f"{option}: a model of several tables does not take it so far; leave it out")


def sample_tables(request: SampleRequest, *, console: Any = None) -> str:
    """Sample a model of several tables into ``output``; after an interruption, the same call makes what is missing.

    Args:
        request: What to sample; its rows are subjects.
        console: Shows progress; None: no progress.

    Returns:
        A line that says what was made.

    Raises:
        InputError: An option cannot be met, these subjects were made before, or the folder holds something else.
    """
    from shardsynth.models.autoregressive.subjects.model import SubjectsModel

    refuse_options(request)
    if request.rows_per_shard < 1:
        raise RunError(f"--rows-per-shard: wanted 1 or more, found {request.rows_per_shard}")
    if request.seed is not None and not 0 <= request.seed < 2**63:
        raise RunError(f"--seed: wanted a number from 0 to 2^63 - 1, found {request.seed}")
    refuse_file(request.output)
    card = model_card(request.model)
    model = SubjectsModel.load(request.model)
    seed = card.get("seed", 0) if request.seed is None else request.seed
    start = time.monotonic()
    (request.output / RUN_FOLDER).mkdir(parents=True, exist_ok=True)
    with sole_writer(request.output / RUN_FOLDER, "sample"):
        parts = _planned(request, card, model, seed)
        missing = parts.missing()
        done = parts.count - len(missing)
        for _ in _made(parts, model, missing):
            done += 1
            if console is not None:
                console.print(f"{done:,} of {parts.count:,} parts", highlight=False)
        rows = {name: _finish(parts, model, card, name) for name in model.schemas}
    seconds = max(time.monotonic() - start, 1e-9)
    counted = ", ".join(f"{count:,} rows of {name}" for name, count in rows.items())
    numbers = f"subjects {parts.subjects.start:,} to {parts.subjects.stop:,} of the model's stream, {seconds:.1f} s"
    return f"{len(parts.subjects):,} subjects in {parts.count} parts in {request.output}: {counted} ({numbers})"


def _planned(request: SampleRequest, card: dict[str, Any], model: SubjectsModel, seed: int) -> _Parts:
    """The parts: those of the plan in the output folder, or of a new one, whose subjects are reserved."""
    folder = request.model.resolve()
    asked = {
        "model": str(folder),
        "files": {str(p.relative_to(folder)): sha256_of(p) for p in sorted(folder.rglob("*")) if _is_of_model(p)},
        "seed": seed,
        "subjects": request.rows,
        "rows_per_shard": request.rows_per_shard,
    }
    largest = max(part.rows for part in model.parts.values())
    per_part = max(1, request.rows_per_shard * model.subjects // max(largest, model.subjects))
    plan = request.output / RUN_FOLDER / "asked.json"
    if plan.exists():
        before = read_json(plan)
        if before.get("asked") != asked:
            raise RunError(f"{request.output}: the folder holds other samples; choose another folder")
        finished = all((request.output / name / "_manifest.json").exists() for name in model.schemas)
        if finished and not request.same_rows:
            raise RunError(
                f"{request.output}: these subjects exist already; choose another folder, with --continue for others"
            )
        first = before["first_subject"]
        return _Parts(folder, request.output, seed, range(first, first + request.rows), per_part)
    if any(p.name[0] != "." and p.name not in (RUN_FOLDER, *model.schemas) for p in request.output.iterdir()):
        raise RunError(f"{request.output}: the folder is not empty; choose another folder")
    wanted = RowsWanted(request.model, request.rows, seed, None, request.first_row, request.go_on, request.same_rows)
    first = next_row(wanted, card)[0]
    _check_capacity(model, first + request.rows)
    first = reserve(wanted, card)
    write_json(plan, {"asked": asked, "first_subject": first})
    return _Parts(folder, request.output, seed, range(first, first + request.rows), per_part)


def _is_of_model(path: Path) -> bool:
    return path.is_file() and path.suffix in _MODEL_FILES and path.parent.name != "ledger"


def _check_capacity(model: SubjectsModel, subjects: int) -> None:
    """InputError where a key has too few values for so many subjects."""
    from shardsynth.models.autoregressive.subjects.sampler import BLOCK

    blocks = -(-subjects // BLOCK) * model.blocks_per_block
    for name, generator in model.generators.items():
        check_capacity(generator, model.most[name] * BLOCK * blocks, f"{name}.{model.tree.by_name[name].key}")


def _made(parts: _Parts, model: SubjectsModel, missing: list[int]) -> Iterator[int]:
    """Make the missing parts, in as many processes as pay; yields each when it is whole."""
    processes = min(available_cpus(), len(missing), -(-len(missing) * parts.per_part // _SUBJECTS_PER_PROCESS))
    if processes <= 1:
        for part in missing:
            _make(parts, model, part)
            yield part
        return
    os.environ.update(thread_environment(1))  # inherited by the workers before they import anything
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start_process)
    try:
        futures = {pool.submit(_make_elsewhere, parts, part): part for part in missing}
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    finally:
        pool.shutdown(cancel_futures=True)


def _start_process() -> None:
    limit_threads(1)
    follow_parent()


_MODELS: dict[Path, Any] = {}  # a worker process opens the model once


def _make_elsewhere(parts: _Parts, part: int) -> None:
    from shardsynth.models.autoregressive.subjects.model import SubjectsModel

    if parts.folder not in _MODELS:
        _MODELS[parts.folder] = SubjectsModel.load(parts.folder)
    _make(parts, _MODELS[parts.folder], part)


def _make(parts: _Parts, model: SubjectsModel, part: int) -> None:
    """Write one part of every table under temporary names, rename them, and record it."""
    with ExitStack() as stack:
        writers = {}
        for name, schema in model.schemas.items():
            path = parts.path(name, part)
            path.parent.mkdir(parents=True, exist_ok=True)
            few = model.dictionary_columns[name]
            writer = PartWriter(path.with_suffix(".new"), schema, dictionary_columns=few, background=False)
            writers[name] = stack.enter_context(writer)
        for name, batch, _ in model.draw_subjects(parts.seed, parts.of(part)):
            writers[name].write(batch)
        written = {name: writer.close() for name, writer in writers.items()}
    for name in written:
        os.replace(parts.path(name, part).with_suffix(".new"), parts.path(name, part))
    entries = {n: {"rows": own.rows, "size": own.bytes, "sha256": own.sha256} for n, own in written.items()}
    write_json(parts.record(part), entries)


def _finish(parts: _Parts, model: SubjectsModel, card: dict[str, Any], name: str) -> int:
    """Write the manifest of one table; returns its rows."""
    entries = []
    for part in range(parts.count):
        subjects = parts.of(part)
        own = read_json(parts.record(part))[name]
        entry = {"path": parts.path(name, part).name, "part": part, "rows": own["rows"]}
        entries.append({**entry, "first_subject": subjects.start, "subjects": len(subjects), **own})
    schema = model.schemas[name]
    manifest = {
        "model": card.get("name", parts.folder.name),
        "table": name,
        "rows": sum(entry["rows"] for entry in entries),
        "subjects": len(parts.subjects),
        "first_subject": parts.subjects.start,
        "seed": parts.seed,
        "schema": schema_to_text(schema),
        "columns": [{"name": f.name, "type": str(f.type), "nullable": f.nullable} for f in schema],
        "versions": {"shardsynth": __version__, "pyarrow": pa.__version__, "numpy": np.__version__},
        "parts": entries,
    }
    write_json(parts.output / name / "_manifest.json", manifest)
    return int(manifest["rows"])
