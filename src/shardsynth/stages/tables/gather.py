"""Gather the dealt rows: a bucket has the rows of some subjects, all of them, sorted by subject, owner and time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from shardsynth.data.layout import LayoutFacts, OwnedRows, to_numbers
from shardsynth.data.relations import SUBJECT, Table
from shardsynth.data.values import decoded
from shardsynth.errors import InputError
from shardsynth.planning.plan import Plan, Task
from shardsynth.planning.tables import key_hashes
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress, RunDir
from shardsynth.stages.tables.partition import ROW, buckets_file, part_file
from shardsynth.standalone import signals
from shardsynth.standalone.files import read_json

#: Column of a gathered row: the place of its owner in the owner's gathered rows.
OWNER = "(owner)"


def gathered_file(run: RunDir, table: str, bucket: int) -> Path:
    """The gathered rows of a table in one bucket."""
    return run.private / "gathered" / table / f"{bucket}.parquet"


def facts_file(run: RunDir, index: int) -> Path:
    """What a task found out about the tables."""
    return run.private / "gathered" / f"{index}.json"


def layout_file(run: RunDir) -> Path:
    """The layout of every table, and the rows of every bucket."""
    return run.private / "summary" / "tables.json"


def gather(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Gather some buckets."""
    plan, run = artifacts.plan, artifacts.run
    assert plan.tables is not None
    tree = plan.tables.tree
    places = _row_groups(plan, run)
    facts = {table.name: LayoutFacts() for table in tree.files}
    lost = {table.name: 0 for table in tree.files}
    repeated = {table.name: 0 for table in tree.files}
    counts: dict[str, list[int]] = {table.name: [] for table in tree.tables}
    rows = 0
    for bucket in range(*task.parts):
        keys: dict[str, NDArray[np.uint64]] = {}  # hashes of the gathered rows' keys
        if tree.root.implied:
            (child,) = tree.children(tree.root.name)
            dealt = _dealt(plan, run, child, places, bucket)
            keys[tree.root.name] = np.unique(_hashes(dealt, child.owner_column))
            counts[tree.root.name].append(len(keys[tree.root.name]))
        for table in tree.files:
            signals.check(0)
            own, missing = _gathered(_dealt(plan, run, table, places, bucket), table, keys)
            lost[table.name] += missing
            if table.key is not None:
                keys[table.name] = _hashes(own.rows, table.key)
                valid = decoded(own.rows.column(table.key)).drop_null()
                repeated[table.name] += len(own) - len(pc.unique(valid))
            facts[table.name].update(table, OwnedRows(own.rows.drop_columns([SUBJECT]), own.owner))
            written = own.rows.append_column(OWNER, pa.array(own.owner))
            path = gathered_file(run, table.name, bucket)
            pq.write_table(written, attempt.output(path), compression="zstd", row_group_size=1 << 17)
            counts[table.name].append(len(own))
            rows += len(own)
            progress(rows)
    found = {
        "facts": {name: each.to_json() for name, each in facts.items()},
        "lost": lost,
        "repeated": repeated,
        "counts": counts,
    }
    attempt.write_json(facts_file(run, task.index), found)
    return attempt.commit(rows=rows)


def gather_merge(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Decide the layout of every table.

    Raises:
        InputError: Rows have no owner and the job does not drop them, a key repeats, or a value is not in its list.
    """
    plan, run = artifacts.plan, artifacts.run
    assert plan.tables is not None
    tree = plan.tables.tree
    parts = [read_json(facts_file(run, each.index)) for each in plan.tasks["gather"]]
    dealt = [read_json(buckets_file(run, each.index)) for each in plan.tasks["partition"]]
    layouts, left_out = [], {}
    counts: dict[str, list[int]] = {table.name: [] for table in tree.tables}
    for part in parts:
        for name, own in part["counts"].items():
            counts[name] += own
    for table in tree.files:
        schema = plan.tables.table(table.name).schema
        repeated = sum(part["repeated"][table.name] for part in parts)
        if repeated:
            raise InputError(
                f"table {table.name}: the primary_key {table.key!r} repeats, or is missing, on {repeated:,} rows; "
                "wanted a value of its own on each row: correct the metadata or the table"
            )
        unnamed = sum(each["unnamed"] for each in dealt if each["table"] == table.name)
        unknown = sum(each["unknown"] for each in dealt if each["table"] == table.name)
        unknown += sum(part["lost"][table.name] for part in parts)
        of_subject = table.owner is None or tree.by_name[table.owner].implied
        if plan.job.tables[table.name].orphans == "error" and (unknown or (unnamed and of_subject)):
            raise InputError(
                f"table {table.name}: {unknown:,} rows have a {table.owner_column or table.key!r} that is not in "
                f"{table.owner or 'the table'} or leads to no subject, and {unnamed:,} have none; "
                f"`tables.{table.name}.orphans: drop` leaves them out"
            )
        for reference in plan.tables.references:
            lost = sum(each["unlisted"].get(reference.column, 0) for each in dealt if each["table"] == table.name)
            if reference.table == table.name and lost:
                raise InputError(
                    f"table {table.name}: {lost:,} rows have a {reference.column!r} that is not in {reference.named}; "
                    "complete the list, or take the relationship out of the metadata"
                )
        left_out[table.name] = {"unnamed": unnamed, "unknown": unknown}
        facts = LayoutFacts()
        for part in parts:
            facts.merge(LayoutFacts.from_json(part["facts"][table.name]))
        layouts.append(facts.layout(table, schema.names).to_json())
    attempt.write_json(layout_file(run), {"layouts": layouts, "counts": counts, "left_out": left_out})
    record = attempt.commit(rows=sum(sum(own) for own in counts.values()))
    for each in plan.tasks["partition"]:
        part_file(run, each.index).unlink(missing_ok=True)
        buckets_file(run, each.index).unlink(missing_ok=True)
    return record


def _row_groups(plan: Plan, run: RunDir) -> dict[tuple[str, int], list[tuple[Path, int]]]:
    """By table and bucket: the files and row groups that have its rows, in the order of the input."""
    places: dict[tuple[str, int], list[tuple[Path, int]]] = {}
    for task in plan.tasks["partition"]:
        dealt = read_json(buckets_file(run, task.index))
        for group, bucket in enumerate(dealt["buckets"]):
            places.setdefault((dealt["table"], bucket), []).append((part_file(run, task.index), group))
    return places


def _dealt(
    plan: Plan, run: RunDir, table: Table, places: dict[tuple[str, int], list[tuple[Path, int]]], bucket: int
) -> pa.Table:
    assert plan.tables is not None
    schema = plan.tables.table(table.name).schema
    schema = schema.append(pa.field(SUBJECT, pa.int64())).append(pa.field(ROW, pa.int64()))
    pieces = []
    for path, group in places.get((table.name, bucket), []):
        with pq.ParquetFile(path) as file:
            pieces.append(file.read_row_group(group, use_threads=False).cast(schema))
    return pa.concat_tables(pieces).unify_dictionaries().combine_chunks() if pieces else schema.empty_table()


def _hashes(rows: pa.Table, column: str | None) -> NDArray[np.uint64]:
    assert column is not None
    return key_hashes(decoded(rows.column(column)))


def _gathered(dealt: pa.Table, table: Table, keys: dict[str, NDArray[np.uint64]]) -> tuple[OwnedRows, int]:
    """Rows of a bucket sorted, without their numbers, and how many were left out, as their owner is not there."""
    if table.owner is None:
        order = np.lexsort((dealt.column(ROW).to_numpy(), dealt.column(SUBJECT).to_numpy()))
        return OwnedRows(dealt.take(pa.array(order)).drop_columns([ROW]), np.arange(len(order))), 0
    owners = keys[table.owner]
    wanted = _hashes(dealt, table.owner_column)
    by_hash = np.argsort(owners, kind="stable")
    place = np.minimum(np.searchsorted(owners[by_hash], wanted), max(len(owners) - 1, 0))
    found = owners[by_hash][place] == wanted if len(owners) else np.zeros(len(wanted), np.bool_)
    kept = np.flatnonzero(found)
    owner = by_hash[place[kept]] if len(owners) else np.zeros(0, np.int64)
    sort: list[Any] = [dealt.column(ROW).to_numpy()[kept]]
    if table.index is not None:
        values, absent = to_numbers(dealt.column(table.index))
        sort += [values[kept], ~absent[kept]]
    order = np.lexsort((*sort, owner))
    rows = dealt.take(pa.array(kept[order])).drop_columns([ROW])
    return OwnedRows(rows, owner[order].astype(np.int64)), len(wanted) - len(kept)


def load_bucket(artifacts: Artifacts, bucket: int) -> tuple[dict[str, OwnedRows], dict[str, NDArray[np.int64]]]:
    """The gathered rows of a bucket by table, and the number of each row's subject, int64[n]."""
    plan, run = artifacts.plan, artifacts.run
    assert plan.tables is not None
    tree = plan.tables.tree
    rows: dict[str, OwnedRows] = {}
    subjects: dict[str, NDArray[np.int64]] = {}
    for table in tree.files:
        read = pq.read_table(gathered_file(run, table.name, bucket), use_threads=False, partitioning=None)
        schema = plan.tables.table(table.name).schema
        owner = read.column(OWNER).to_numpy().astype(np.int64)
        subjects[table.name] = read.column(SUBJECT).to_numpy().astype(np.int64)
        rows[table.name] = OwnedRows(read.drop_columns([OWNER, SUBJECT]).cast(schema).combine_chunks(), owner)
    if tree.root.implied:
        (child,) = tree.children(tree.root.name)
        owner = rows[child.name].owner
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        rows[tree.root.name] = OwnedRows(pa.table({}), np.arange(len(starts)))
        subjects[tree.root.name] = subjects[child.name][starts]
    return rows, subjects
