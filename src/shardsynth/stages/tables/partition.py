"""Deal the rows of the shards to buckets by their subjects: all rows of a subject go to files of one number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from shardsynth.data.relations import SUBJECT, Reference, Table
from shardsynth.data.shards import read_batches
from shardsynth.data.values import decoded
from shardsynth.planning.plan import Plan, Task
from shardsynth.planning.tables import key_hashes, shards_of
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress, RunDir
from shardsynth.standalone import signals

Hashes = NDArray[np.uint64]

#: Column of a dealt row: its number in the table.
ROW = "(row)"
#: Rows that are dealt at once.
_ROWS = 500_000


def part_file(run: RunDir, index: int) -> Path:
    """The rows that one task dealt, a row group a bucket."""
    return run.private / "partition" / f"{index}.parquet"


def buckets_file(run: RunDir, index: int) -> Path:
    """The bucket of each row group, and what was left out."""
    return run.private / "partition" / f"{index}.json"


def partition(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Deal the rows of some row groups to buckets; those without an owner are counted and left out."""
    plan, run = artifacts.plan, artifacts.run
    assert plan.tables is not None
    source = plan.tables.table_of(task.pieces[0].shard)
    table = plan.tables.tree.by_name[source.name]
    subjects = Subjects.of(plan, table, task)
    schema = source.schema.append(pa.field(SUBJECT, pa.int64())).append(pa.field(ROW, pa.int64()))
    row_groups: list[int] = []
    lists = {each.column: _keys_of(plan, each) for each in plan.tables.references if each.table == source.name}
    unlisted = dict.fromkeys(lists, 0)
    unnamed = unknown = rows = 0
    with pq.ParquetWriter(attempt.output(part_file(run, task.index)), schema, compression="zstd") as writer:
        for batch, first in _large_batches(plan, task):
            key = batch.column(subjects.column)
            named = np.asarray(decoded(key).is_valid().to_numpy(zero_copy_only=False), np.bool_)
            subject, known = subjects.look_up(key, named)
            unnamed += int((~named).sum())
            unknown += int((named & ~known).sum())
            for name, keys in lists.items():
                unlisted[name] += _count_unlisted(batch.column(name), keys)
            keep = np.flatnonzero(known)
            bucket = (subject[keep] % np.uint64(plan.tables.buckets)).astype(np.int64)
            keep = keep[np.argsort(bucket, kind="stable")]
            counts = np.bincount(bucket, minlength=plan.tables.buckets)
            dealt = batch.take(pa.array(keep))
            dealt = dealt.append_column(SUBJECT, pa.array(number_of(subject[keep])))
            dealt = dealt.append_column(ROW, pa.array(first + keep))
            ends = np.cumsum(counts)
            for number in np.flatnonzero(counts).tolist():
                piece = dealt.slice(int(ends[number] - counts[number]), int(counts[number]))
                writer.write_table(piece.cast(schema), row_group_size=len(piece))
                row_groups.append(number)
            rows += batch.num_rows
            progress(rows)
    facts: dict[str, Any] = {"table": table.name, "buckets": row_groups, "unnamed": unnamed, "unknown": unknown}
    facts["unlisted"] = unlisted
    attempt.write_json(buckets_file(run, task.index), facts)
    return attempt.commit(rows=rows)


def _keys_of(plan: Plan, reference: Reference) -> Hashes:
    """Hashes of the keys of a list, in order."""
    assert plan.tables is not None
    source = next(each for each in plan.tables.copied if each.name == reference.named)
    found = [np.zeros(0, np.uint64)]
    for shard in shards_of(plan, source):
        for batch in read_batches(shard, source.schema, names=[reference.key]):
            found.append(key_hashes(decoded(batch.column(reference.key)).drop_null()))
    return np.unique(np.concatenate(found))


def _count_unlisted(column: pa.ChunkedArray, keys: Hashes) -> int:
    """Values that are no key of the list; missing ones are none."""
    values = decoded(column).drop_null()
    return int((~np.isin(key_hashes(values), keys)).sum())


def number_of(hashes: Hashes) -> NDArray[np.int64]:
    """Hashes of subjects as the numbers that stand in files, from 0 to 2^63 - 1."""
    return (hashes >> np.uint64(1)).astype(np.int64)


def _large_batches(plan: Plan, task: Task) -> Iterator[tuple[pa.Table, int]]:
    """Many rows of a task's pieces at once, and the number of the first of them in the table."""
    assert plan.tables is not None
    for piece in task.pieces:
        schema = plan.tables.table_of(piece.shard).schema
        waiting: list[pa.RecordBatch] = []
        first = piece.first_row
        for batch in read_batches(plan.shards[piece.shard], schema, range(piece.first_group, piece.last_group)):
            signals.check(0)
            waiting.append(batch)
            if sum(len(each) for each in waiting) >= _ROWS:
                table = pa.Table.from_batches(waiting, schema).unify_dictionaries()
                yield table, first
                first, waiting = first + len(table), []
        if waiting:
            yield pa.Table.from_batches(waiting, schema).unify_dictionaries(), first


class Subjects:
    """Finds the subjects of a task's rows, however far their table is from the root.

    The keys of the tables in between are read from the shards, a batch at a time: only those that the task's rows name
    are kept.

    Attributes:
        column: The column of the rows that names their owner; of the root, its key.
    """

    def __init__(self, column: str, named: Hashes | None, subject: Hashes, known: NDArray[np.bool_]) -> None:
        self.column = column
        self._named, self._subject, self._known = named, subject, known

    @classmethod
    def of(cls, plan: Plan, table: Table, task: Task) -> Subjects:
        """For the rows of a task."""
        assert plan.tables is not None
        path = plan.tables.tree.path(table.name)
        column = table.owner_column or table.key
        assert column is not None
        if len(path) <= 2:  # the column names the subject itself
            return cls(column, None, np.zeros(0, np.uint64), np.zeros(0, np.bool_))
        named = np.zeros(0, np.uint64)
        for piece in task.pieces:
            groups = range(piece.first_group, piece.last_group)
            schema = plan.tables.table_of(piece.shard).schema
            for batch in read_batches(plan.shards[piece.shard], schema, groups, names=[column]):
                key = decoded(batch.column(column))
                named = np.union1d(named, key_hashes(key.filter(key.is_valid())))
        current, known = named.copy(), np.ones(len(named), np.bool_)
        for owner in path[1:-1]:
            current, found = _owners_of(plan, owner, current)
            known &= found
        return cls(column, named, current, known)

    def look_up(self, key: pa.ChunkedArray, named: NDArray[np.bool_]) -> tuple[Hashes, NDArray[np.bool_]]:
        """Hashes of the subjects of rows uint64[n], and bool[n]: whether the way to the subject is known."""
        hashes = key_hashes(decoded(key))
        if self._named is None:
            return hashes, named.copy()
        if not len(self._named):
            return hashes, np.zeros(len(hashes), np.bool_)
        place = np.minimum(np.searchsorted(self._named, hashes), len(self._named) - 1)
        return self._subject[place], named & (self._named[place] == hashes) & self._known[place]


def _owners_of(plan: Plan, table: Table, keys: Hashes) -> tuple[Hashes, NDArray[np.bool_]]:
    """Of rows of a table by the hashes of their keys: the hashes of their owners' keys, and whether they are there."""
    assert plan.tables is not None and table.key is not None and table.owner_column is not None
    source = plan.tables.table(table.name)
    wanted, back = np.unique(keys, return_inverse=True)
    owner, found = np.zeros(len(wanted), np.uint64), np.zeros(len(wanted), np.bool_)
    for shard in shards_of(plan, source):
        for batch in read_batches(shard, source.schema, names=[table.key, table.owner_column]):
            signals.check(0)
            key, owners = decoded(batch.column(table.key)), decoded(batch.column(table.owner_column))
            there = np.asarray(key.is_valid().to_numpy(zero_copy_only=False), np.bool_)
            there &= np.asarray(owners.is_valid().to_numpy(zero_copy_only=False), np.bool_)
            hashes = key_hashes(key)
            if not len(wanted):
                continue
            place = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
            hit = there & (wanted[place] == hashes)
            owner[place[hit]], found[place[hit]] = key_hashes(owners)[hit], True
    return owner[back], found[back]
