"""The tables of a run, each as the run of one table that the summaries, the figures and the report know.

A table in files has an *outer* view: its rows as they are, on which everything is scored. Every table of the tree has
an *inner* one: the rows that a model learns (see ``data.layout``). Both have the column ``SUBJECT``, their person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.layout import Layout, OwnedRows, inner_metadata, inner_schemas, inner_tables
from shardsynth.data.relations import SUBJECT, TableTree
from shardsynth.planning.plan import Plan
from shardsynth.planning.tables import metadata_of, schemas_of
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Progress, RunDir
from shardsynth.stages.tables.gather import layout_file, load_bucket
from shardsynth.standalone import signals
from shardsynth.standalone.files import read_json
from shardsynth.summaries.persons import Hashes, hash_persons
from shardsynth.summaries.rows import holdout_mask


@dataclass(frozen=True)
class ViewRun(RunDir):
    """Paths of one view in the run directory.

    Attributes:
        table: The table.
        kind: ``outer`` or ``inner``.
    """

    table: str = ""
    kind: str = "outer"

    @property
    def private(self) -> Path:
        """Folder of what derives from the view's rows."""
        return self.root / "private" / "tables" / self.kind / self.table

    def samples(self, name: str) -> Path:
        """Folder of a model's synthetic rows of the table."""
        return super().samples(name) / self.table

    def metrics(self, name: str) -> Path:
        """Figures of a model on the table, as JSON."""
        return self.root / "metrics" / name / f"{self.table}.json"


class View(Artifacts):
    """One view; what the stages of one table read stands in it.

    Args:
        base: Of the run.
        table: The table.
        kind: ``outer`` or ``inner``.
        schema: Of its rows, without ``SUBJECT``.
        described: SDV V2 metadata of its columns as the user says them.
        counts: Rows of the table in each bucket.
    """

    def __init__(
        self,
        base: Artifacts,
        table: str,
        kind: str,
        schema: pa.Schema,
        described: Mapping[str, Any],
        counts: list[int],
    ) -> None:
        self.table, self.kind, self.counts_of_buckets = table, kind, counts
        self.own_schema = schema
        (name,) = described["tables"]
        options = described["tables"][name]
        columns = {**options["columns"], SUBJECT: {"sdtype": "id"}}
        self.described = {**described, "tables": {name: {**options, "columns": columns}}}
        job = base.plan.job.model_copy(update={"person": SUBJECT, "metadata": None, "tables": {}})
        self.plan = Plan(
            job,
            (),
            schema.append(pa.field(SUBJECT, pa.int64())),
            0,  # `with_rows` says how many a model has made
            base.plan.chunk_rows,
            base.plan.tasks,
        )
        self.run = ViewRun(base.run.root, table=table, kind=kind)
        self._cache: dict[str, Any] = {}

    @property
    def real_rows(self) -> int:
        """Number of all rows."""
        return sum(self.counts_of_buckets)

    def first_row(self, bucket: int) -> int:
        """Number of the first row of a bucket."""
        return sum(self.counts_of_buckets[:bucket])


@dataclass(frozen=True)
class Tables:
    """The tables of a run once they are gathered.

    Attributes:
        base: Of the run.
        tree: The tables.
        layouts: Layout of each table that is in files.
        outer: View of each table that is in files.
        inner: View of what is learned of each table.
        left_out: By table: rows without an owner, that name ``unnamed`` or one that is ``unknown``.
    """

    base: Artifacts
    tree: TableTree
    layouts: dict[str, Layout]
    outer: dict[str, View]
    inner: dict[str, View]
    left_out: dict[str, dict[str, int]]

    @classmethod
    def of(cls, artifacts: Artifacts) -> Tables:
        """Those of a run; loaded once per process."""

        def load() -> Tables:
            plan = artifacts.plan
            assert plan.tables is not None
            tree = plan.tables.tree
            found = read_json(layout_file(artifacts.run))
            layouts = {data["name"]: Layout.from_json(data) for data in found["layouts"]}
            schemas, described, counts = schemas_of(plan), metadata_of(plan), found["counts"]
            inner_of = inner_schemas(tree, layouts, schemas)
            inner_described = inner_metadata(tree, layouts, schemas, described)
            outer = {n: View(artifacts, n, "outer", schemas[n], described[n], counts[n]) for n in schemas}
            inner = {n: View(artifacts, n, "inner", inner_of[n], inner_described[n], counts[n]) for n in inner_of}
            return cls(artifacts, tree, layouts, outer, inner, found["left_out"])

        tables: Tables = artifacts.cached("tables", load)
        return tables

    def loose(self) -> dict[str, float]:
        """By table: rows that name no owner, and are not dropped, for each row that has one."""
        rates = {}
        for table in self.tree.files:
            unnamed = self.left_out[table.name]["unnamed"]
            if unnamed and self.base.plan.job.tables[table.name].orphans == "error":
                rates[table.name] = unnamed / max(self.outer[table.name].real_rows, 1)
        return rates

    @property
    def views(self) -> list[View]:
        """All views."""
        return [*self.outer.values(), *self.inner.values()]

    def bucket(self, number: int) -> Bucket:
        """The rows of one bucket."""
        rows, subjects = load_bucket(self.base, number)
        return Bucket(self, number, rows, subjects, inner_tables(self.tree, self.layouts, rows))

    def rows(self, buckets: range) -> int:
        """Rows of the tables in files, in some buckets."""
        return sum(sum(view.counts_of_buckets[buckets.start : buckets.stop]) for view in self.outer.values())

    def batches(
        self, buckets: range, progress: Progress
    ) -> Iterator[tuple[View, pa.RecordBatch, int, NDArray[np.bool_], Hashes]]:
        """The rows of some buckets: each view, and what ``Bucket.batches`` gives of it; tells the rows so far."""
        for number in buckets:
            bucket = self.bucket(number)
            for view in self.views:
                signals.check(self.rows(range(buckets.start, number)))
                for batch, first, held_out, persons in bucket.batches(view):
                    yield view, batch, first, held_out, persons
            progress(self.rows(range(buckets.start, number + 1)))


@dataclass(frozen=True)
class Bucket:
    """The rows of some subjects in all tables.

    Attributes:
        tables: The tables.
        number: Its number.
        rows: By table, in the input's schema.
        subjects: By table int64[n], the number of each row's subject.
        inner: By table, what is learned.
    """

    tables: Tables
    number: int
    rows: dict[str, OwnedRows]
    subjects: dict[str, NDArray[np.int64]]
    inner: dict[str, pa.Table]

    def batches(self, view: View) -> Iterator[tuple[pa.RecordBatch, int, NDArray[np.bool_], Hashes]]:
        """Batches of a view, the number of their first row, which rows are held out, hashes of their persons."""
        own = self.rows[view.table].rows if view.kind == "outer" else self.inner[view.table]
        subjects = pa.array(self.subjects[view.table])
        table = pa.Table.from_arrays([*own.columns, subjects], schema=view.plan.schema)
        first, job = view.first_row(self.number), view.plan.job
        for batch in table.unify_dictionaries().combine_chunks().to_batches():
            key = batch.column(len(own.columns))
            held_out = holdout_mask(job.seed, job.evaluate.holdout, first, len(batch), key)
            numbers = np.arange(first, first + len(batch), dtype=np.uint64)
            yield batch, first, held_out, hash_persons(job.seed, key, numbers)
            first += len(batch)

    def held_out(self, table: str) -> NDArray[np.bool_]:
        """bool[n], which rows of a table are of held-out subjects."""
        job = self.tables.base.plan.job
        subjects = self.subjects[table]
        return holdout_mask(job.seed, job.evaluate.holdout, 0, len(subjects), pa.array(subjects))


def with_rows(view: View, rows: int) -> View:
    """The view, with its number of synthetic rows."""
    view.plan = replace(view.plan, rows=rows)
    return view
