"""Planning a job of several tables: what it cannot have yet, the tables as a tree, the subjects, the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data.relations import SUBJECT, Reference, TableTree, read_tables
from shardsynth.data.shards import Dataset, Shard, open_shards, read_batches
from shardsynth.errors import JobError, ShardError, did_you_mean
from shardsynth.job import STAGES, Job
from shardsynth.planning.plan import (
    CHUNK_ROWS,
    InputTable,
    Plan,
    StageTasks,
    TablesPlan,
    Task,
    add_model_tasks,
    fit_threads,
    pack_pieces,
    split_range,
)
from shardsynth.planning.tasks import Block
from shardsynth.summaries.rows import hash_keys

#: Rows of all tables that are gathered into one bucket, about: a task has one in memory.
BUCKET_ROWS = 1_000_000
_NOT_YET = "cannot be used with `tables:` so far"


@dataclass(frozen=True)
class OpenedTables:
    """The tables of a job, as they are on disk.

    Attributes:
        datasets: Shards and schema of each table that is learned, in the job's order.
        tree: How they hang together.
        metadata: By table, SDV V2 metadata of this table alone.
        copied: Lists that are copied.
        references: Columns that name their rows.
    """

    datasets: dict[str, Dataset]
    tree: TableTree
    metadata: dict[str, dict[str, Any]]
    copied: dict[str, Dataset]
    references: tuple[Reference, ...]


def refuse_for_tables(job: Job) -> None:
    """The one list of what a job of several tables cannot have yet.

    Raises:
        JobError: The job has it.
    """
    for name, model in job.models.items():
        if model.model != "autoregressive" or model.engine != "native":
            raise JobError(
                f"models.{name}: {model.model} (engine {model.engine}) {_NOT_YET}: the native autoregressive model "
                "learns several tables; leave the others out"
            )
        for option in ("replicas", "balance", "order"):
            if option in model.options:
                raise JobError(f"models.{name}.{option}: {_NOT_YET}; leave it out")
    given = {
        "constraints": job.constraints,
        "sample.conditions": job.sample.conditions,
        "sample.balance": job.sample.balance,
        "sample.coalesce_mb": job.sample.coalesce_mb,
        "privacy": job.privacy,
        "pseudonymize": job.pseudonymize,
        "anonymize": job.anonymize,
        "evaluate.target": job.evaluate.target,
        "evaluate.sensitive": job.evaluate.sensitive,
        "evaluate.survival": job.evaluate.survival,
    }
    for key, value in given.items():
        if value:
            raise JobError(f"{key}: {_NOT_YET}; leave it out")
    if job.person is not None or job.evaluate.group is not None:
        raise JobError("person: leave it out: with `tables:` the persons are the subjects, the rows of the root table")
    if job.metadata is None:
        raise JobError(
            "tables: need `metadata`, which says their keys and relationships: `shardsynth init DATA1 DATA2 ...` "
            "proposes both files"
        )


def open_tables(job: Job) -> OpenedTables:
    """Open the shards of a job's tables, and read its metadata.

    Raises:
        JobError: The job has what several tables cannot have yet.
        ShardError: A table cannot be opened.
        MetadataError: The metadata do not fit the tables.
    """
    refuse_for_tables(job)
    datasets = {}
    for name, entry in job.tables.items():
        try:
            datasets[name] = open_shards(entry.input, widen=job.widen)
        except ShardError as error:
            raise ShardError(f"tables.{name}.input: {error}") from None
        if SUBJECT in datasets[name].schema.names:
            raise ShardError(f"tables.{name}: a column is called {SUBJECT!r}, a name that is needed; rename it")
        if not datasets[name].rows:
            raise JobError(f"tables.{name}: the table has no rows; leave it out")
    assert job.metadata is not None
    columns = {name for dataset in datasets.values() for name in dataset.schema.names}
    for key, given in (("free_text", job.free_text), ("learn_personal", job.learn_personal)):
        for name in given:
            if name not in columns:
                raise JobError(f"{key}: no table has a column {name!r}{did_you_mean(name, columns, 0.6)}")
    copied = copied_of(job)
    if len(copied) == len(datasets):
        raise JobError("tables: all are lists to be copied (`copy: true`); wanted one that is learned")
    schemas = {name: dataset.schema for name, dataset in datasets.items()}
    tree, metadata, references = read_tables(job.metadata, schemas, copied)
    lists = {name: datasets.pop(name) for name in copied}
    return OpenedTables(datasets, tree, metadata, lists, references)


def copied_of(job: Job) -> list[str]:
    """Names of the tables of a job that are copied."""
    return [name for name, entry in job.tables.items() if entry.copied]


def plan_tables(job: Job, opened: OpenedTables, cpus: int | dict[str, int], metadata: str | None) -> Plan:
    """Plan a job over several tables.

    Args:
        job: The job.
        opened: Its tables.
        cpus: As ``plan.make_plan``.
        metadata: Checksum of the metadata file.
    """
    tables: list[InputTable] = []
    shards: list[Shard] = []
    for name, dataset in opened.datasets.items():
        tables.append(InputTable(name, dataset.schema, len(shards), len(shards) + len(dataset.shards)))
        shards += dataset.shards
    copied = []
    for name, dataset in opened.copied.items():
        copied.append(InputTable(name, dataset.schema, len(shards), len(shards) + len(dataset.shards)))
        shards += dataset.shards
    subjects = _count_subjects(opened)
    most = max(dataset.rows for dataset in opened.datasets.values())
    total = sum(dataset.rows for dataset in opened.datasets.values())
    buckets = max(1, -(-total // BUCKET_ROWS))
    part_subjects = max(1, job.sample.rows_per_shard * subjects // max(most, subjects))
    several = TablesPlan(tuple(tables), opened.tree, subjects, buckets, part_subjects, tuple(copied), opened.references)
    rows = job.sample.total_rows(subjects)
    chunk_rows = job.sample.chunk_rows or min(CHUNK_ROWS, job.sample.rows_per_shard)
    plan = Plan(job, tuple(shards), pa.schema([]), rows, chunk_rows, {}, metadata=metadata, tables=several)
    tasks: dict[str, list[Block]] = {stage: [] for stage in STAGES}
    for table in tables:
        own = tuple(shards[table.first : table.last])
        for pieces in pack_pieces(own, job.cluster.rows_per_task):
            moved = tuple(replace(piece, shard=piece.shard + table.first) for piece in pieces)
            tasks["partition"].append(Task("partition", len(tasks["partition"]), pieces=moved))
    ranges = split_range(buckets, -(-total // job.cluster.rows_per_task))
    for stage in ("gather", "profile", "count"):
        tasks[stage] = [Task(stage, index, parts=edges) for index, edges in enumerate(ranges)]
        tasks[f"{stage}_merge"] = [Task(f"{stage}_merge", 0)]
    add_model_tasks(plan, tasks, fit_threads(job, cpus) if isinstance(cpus, int) else cpus)
    notes = tuple(opened.tree.drawing({n: d.rows for n, d in opened.datasets.items()}))
    notes += tuple(drawn_lists(opened.references, {name: dataset.rows for name, dataset in opened.copied.items()}))
    return replace(plan, tasks={stage: StageTasks(tasks[stage]) for stage in STAGES}, notes=notes)


def _count_subjects(opened: OpenedTables) -> int:
    """Rows of the root table; of an implied one, the distinct values of the sequence key, which are read for it."""
    root = opened.tree.root
    if not root.implied:
        return opened.datasets[root.name].rows
    ((name, dataset),) = opened.datasets.items()
    column = opened.tree.by_name[name].owner_column
    assert column is not None
    found = np.zeros(0, np.uint64)
    for shard in dataset.shards:
        for batch in read_batches(shard, dataset.schema, names=[column]):
            key = batch.column(column)
            key = key.filter(key.is_valid())
            found = np.union1d(found, key_hashes(key))
    if not len(found):
        raise JobError(f"tables.{name}: the sequence_key {column!r} has no value")
    return len(found)


def key_hashes(keys: pa.Array) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """uint64[n], hashes of keys that are all there: equal for equal values, also where their types differ."""
    return hash_keys(0, "subject", keys, np.zeros(len(keys), np.uint64))


def schemas_of(plan: Plan) -> dict[str, pa.Schema]:
    """Schema of each table of a plan that is in files and learned."""
    assert plan.tables is not None
    return {table.name: table.schema for table in plan.tables.tables}


def drawn_lists(references: Sequence[Reference], rows: Mapping[str, int]) -> list[str]:
    """Lines of text on the lists that are copied, whose numbers of rows are given."""
    lines = []
    for name, count in rows.items():
        named = ", ".join(f"{each.table}.{each.column}" for each in references if each.named == name)
        lines.append(f"{name} ({count:,} rows): copied" + (f", named by {named}" if named else ""))
    return lines


def shards_of(plan: Plan, table: InputTable) -> tuple[Shard, ...]:
    """The shards of one table of a plan."""
    return plan.shards[table.first : table.last]


def metadata_of(plan: Plan) -> Mapping[str, dict[str, Any]]:
    """By table, SDV V2 metadata of this table alone, as the user's file says them."""
    assert plan.job.metadata is not None and plan.tables is not None
    schemas = schemas_of(plan) | {table.name: table.schema for table in plan.tables.copied}
    return read_tables(Path(plan.job.metadata), schemas, copied_of(plan.job))[1]
