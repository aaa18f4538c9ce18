"""Synthetic and real rows as families: how they hang together, what breaks, what each subject has in all tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.layout import OwnedRows, to_numbers
from shardsynth.data.relations import TableTree
from shardsynth.data.values import decoded
from shardsynth.metrics.features import Features
from shardsynth.metrics.sequences import Sequences
from shardsynth.metrics.subjects import SubjectTable, aggregates
from shardsynth.stages.tables.views import Tables

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Linked:
    """Rows of all tables of some subjects.

    Attributes:
        rows: By table that is in files.
        subject: By table int64[n], the subject of each row, from 0.
        owner: By table that has an owner int64[n], place of each row's owner in the owner's rows, never decreasing.
        subjects: Number of subjects.
        broken: By table, what is wrong: rows that name an owner who is not there (``orphans``), rows whose key is there
            before (``repeated``), steps back in the order of an owner's rows (``steps_back``), and the steps that there
            are.
    """

    rows: dict[str, pa.Table]
    subject: dict[str, Integers]
    owner: dict[str, Integers]
    subjects: int
    broken: dict[str, dict[str, int]]


def link(tree: TableTree, rows: dict[str, pa.Table]) -> Linked:
    """Find the owners of rows by their keys, as a user would."""
    keys: dict[str, pa.Array] = {}
    subject: dict[str, Integers] = {}
    owners_of: dict[str, Integers] = {}
    broken: dict[str, dict[str, int]] = {}
    kept: dict[str, pa.Table] = {}
    subjects = 0
    for table in tree.tables:
        if table.implied:
            (child,) = tree.children(table.name)
            column = decoded(rows[child.name].column(child.owner_column))
            keys[table.name] = pc.unique(column.drop_null())
            subjects = len(keys[table.name])
            subject[table.name] = np.arange(subjects)
            continue
        own, found = rows[table.name], {"orphans": 0, "repeated": 0, "steps_back": 0, "steps": 0}
        if table.key is not None:
            keys[table.name] = decoded(own.column(table.key))
            found["repeated"] = own.num_rows - len(pc.unique(keys[table.name].drop_null()))
        if table.owner is None:
            subjects = own.num_rows
            owner = np.arange(subjects)
            subject[table.name] = owner
        else:
            owners = keys[table.owner]
            wanted = decoded(own.column(table.owner_column))
            wanted = wanted if wanted.type == owners.type else wanted.cast(owners.type)
            place = pc.index_in(wanted, value_set=owners).fill_null(-1).to_numpy(zero_copy_only=False)
            there = place >= 0
            found["orphans"] = int((~there).sum()) - wanted.null_count
            if not there.all():
                own, place = own.filter(pa.array(there)), place[there]
                if table.key is not None:
                    keys[table.name] = decoded(own.column(table.key))
            owner = place.astype(np.int64)
            owners_of[table.name] = owner
            subject[table.name] = subject[table.owner][owner]
        if table.index is not None:
            steps, back = _steps(own, table.index, owner)
            found["steps"], found["steps_back"] = steps, back
        broken[table.name], kept[table.name] = found, own
    return Linked(kept, subject, owners_of, subjects, broken)


def _steps(rows: pa.Table, index: str, owner: Integers) -> tuple[int, int]:
    """Neighbouring rows of an owner whose index is known, and how often it falls."""
    values, absent = to_numbers(rows.column(index))
    known = np.flatnonzero(~absent)
    together = owner[known[1:]] == owner[known[:-1]]
    return int(together.sum()), int((together & (values[known[1:]] < values[known[:-1]])).sum())


@dataclass(frozen=True)
class SeenSubjects:
    """Some subjects as the figures see them.

    Attributes:
        table: Each as one row of numbers.
        sequences: By table that has an owner, its rows one after the other.
    """

    table: SubjectTable
    sequences: dict[str, Sequences]


def seen(tables: Tables, linked: Linked, chosen: NDArray[np.bool_]) -> SeenSubjects:
    """Some of the subjects.

    Args:
        tables: The tables.
        linked: Their rows.
        chosen: bool[subjects].
    """
    parts, sequences = [], {}
    for table in tables.tree.files:
        features: Any = Features.of(tables.outer[table.name].coder())
        rows = linked.rows[table.name]
        values = features.encode(rows, others_missing=table.owner is None)  # what is rare is a value, too
        if table.owner is None:
            parts.append(SubjectTable(tuple(features.names), features.categorical, values))
            continue
        subject = linked.subject[table.name]
        parts.append(aggregates(table.name, features.names, features.categorical, values, subject, linked.subjects))
        own = chosen[subject]
        of_chosen = chosen[linked.subject[table.owner]]
        place = np.cumsum(of_chosen) - 1
        order = np.argsort(linked.owner[table.name][own], kind="stable")
        index = None
        if table.index is not None:
            numbers, absent = to_numbers(rows.column(table.index))
            index = np.where(absent, np.nan, numbers.astype(np.float64))[own][order]
        sequences[table.name] = Sequences.of(
            features.names,
            features.categorical,
            values[own][order],
            place[linked.owner[table.name][own]][order],
            int(of_chosen.sum()),
            index,
        )
    return SeenSubjects(SubjectTable.beside(parts).take(np.flatnonzero(chosen)), sequences)


def of_owned(rows: dict[str, OwnedRows], tree: TableTree) -> Linked:
    """Gathered real rows, whose owners are known."""
    subject: dict[str, Integers] = {}
    for table in tree.tables:
        own = rows[table.name].owner
        subject[table.name] = own if table.owner is None else subject[table.owner][own]
    owner = {table.name: rows[table.name].owner for table in tree.files if table.owner is not None}
    files = {table.name: rows[table.name].rows for table in tree.files}
    return Linked(files, subject, owner, len(rows[tree.root.name]), {})
