"""A user's own constraint: a class derived from SDV's ProgrammableConstraint, run by SDV's code on pandas frames.

It is fitted on the row sample and applied batch by batch. So what it does to a row must depend on that row alone.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data import frames
from shardsynth.data.columns import Column
from shardsynth.data.metadata import columns as columns_of
from shardsynth.errors import JobError, ModelError
from shardsynth.sampling.constraints.classes import find_class
from shardsynth.sampling.constraints.declared import describe
from shardsynth.sampling.constraints.sdv_constraints import build, sdv_metadata
from shardsynth.sampling.constraints.step import Mask


@dataclass(frozen=True)
class Programmed:
    """A fitted constraint of a user's class.

    Attributes:
        declared: Class (by import path) and parameters.
        harness: SDV's harness around the user's object, fitted.
        schema: Schema of the table before ``transform``.
        inner: Schema of the table after ``transform``.
        columns: One per field of ``schema``.
        inner_columns: One per field of ``inner``.
        metadata: SDV metadata of the table after ``transform``.
        untouched: Columns that ``transform`` does not change.
    """

    declared: dict[str, Any]
    harness: Any
    schema: pa.Schema
    inner: pa.Schema
    columns: tuple[Column, ...]
    inner_columns: tuple[Column, ...]
    metadata: dict[str, Any]
    untouched: frozenset[str]

    def transform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows as a model sees them."""
        frame = self._run("transform", frames.to_pandas(batch, self.columns))
        if len(frame) != batch.num_rows:
            raise JobError(f"{self.declared['class_name']}: transform must keep every row, in order")
        return self._arrow(frame.reset_index(drop=True), batch, self.inner, self.inner_columns)

    def restore(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Mask]:
        """Rows as they are written, and bool[n]: rows that could not be restored."""
        frame = self._run("reverse_transform", frames.to_pandas(batch, self.inner_columns))
        broken = np.ones(batch.num_rows, np.bool_)
        broken[frame.index.to_numpy()] = False
        if broken.all():
            raise ModelError(f"{self.declared['class_name']}: reverse_transform leaves none of {len(broken)} rows")
        if broken.any():  # these rows are drawn again: until then they are copies of another row
            frame = frame.reindex(np.where(broken, frame.index[0], np.arange(len(broken))))
        return self._arrow(frame.reset_index(drop=True), batch, self.schema, self.columns), broken

    def valid(self, batch: pa.RecordBatch) -> Mask:
        """bool[n]: rows that the user's ``is_valid`` accepts."""
        return np.asarray(self._run("is_valid", frames.to_pandas(batch, self.columns)), dtype=np.bool_)

    def _run(self, method: str, frame: Any) -> Any:
        try:
            return getattr(self.harness, method)(frame)
        except Exception as error:
            raise ModelError(
                f"{self.declared['class_name']}: its {method} failed on {len(frame)} rows ({type(error).__name__})"
            ) from error

    def _arrow(self, frame: Any, batch: pa.RecordBatch, schema: pa.Schema, columns: Sequence[Column]) -> pa.RecordBatch:
        ready = {name: batch.column(name) for name in self.untouched if name in batch.schema.names}
        return frames.to_arrow(frame, schema, columns, ready=ready, clip=False)


def save_programs(programs: Sequence[Programmed]) -> bytes:
    """A pickle: it may hold values of real rows, and opening it runs code."""
    return pickle.dumps([(p.declared["class_name"], pickle.dumps(p)) for p in programs])


def load_programs(data: bytes, sha256: str | None) -> tuple[Programmed, ...]:
    """Inverse of ``save_programs``; imports the classes first.

    Args:
        data: The pickle.
        sha256: Its checksum, of a pickle that may be opened; None: it may not.

    Raises:
        ModelError: The checksum differs, or the pickle cannot be opened here.
    """
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(
            "the job's own constraints lie as a pickle, which runs code when it is opened, and this one is not signed "
            "by you; fit again, or give --trust-pickle if you know where it comes from"
        )
    programs = []
    for name, inner in pickle.loads(data):
        find_class(name)
        try:
            programs.append(pickle.loads(inner))
        except Exception as error:
            raise ModelError(f"constraint {name!r}: its pickle cannot be opened ({type(error).__name__})") from error
    return tuple(programs)


def fit_program(
    declared: Mapping[str, Any],
    number: int,
    sample: pa.Table,
    schema: pa.Schema,
    columns: Sequence[Column],
    metadata: dict[str, Any],
) -> Programmed:
    """Fit a user's constraint on the row sample, by SDV's code.

    Args:
        declared: Class (by import path) and parameters.
        number: Its place in the job.
        sample: The row sample, after the constraints before this one.
        schema: Arrow schema of the sample.
        columns: One per field of ``schema``.
        metadata: SDV metadata of the sample.

    Raises:
        JobError: Its own validation refuses the metadata or the rows, or it fails.
    """
    where = describe(declared, number)
    harness = build(declared, number)
    frame = frames.to_pandas(sample, columns)
    try:
        sdv_object = sdv_metadata(metadata)
        harness.fit(frame, sdv_object)
        updated = harness.get_updated_metadata(sdv_object).to_dict()
        transformed = harness.transform(frame)
    except Exception as error:
        raise JobError(f"{where}: its class refuses the table or fails on it ({type(error).__name__})") from error
    if len(transformed) != len(frame):
        raise JobError(f"{where}: transform must keep every row, in order")
    (table,) = updated["tables"].values()
    if set(transformed.columns) != set(table["columns"]):
        raise JobError(f"{where}: get_updated_metadata and transform give different columns")
    before = {column.name: column for column in columns}
    untouched = {
        name
        for name in transformed.columns
        if name in frame
        and table["columns"][name].get("sdtype") == before[name].sdtype
        and transformed[name].equals(frame[name])
    }
    fields = []
    for name in transformed.columns:
        if name in untouched:
            fields.append(schema.field(name))
        else:
            fields.append(pa.field(name, pa.Array.from_pandas(transformed[name]).type))
    inner = pa.schema(fields)
    inner_metadata = {**updated, "tables": {next(iter(updated["tables"])): table}}
    return Programmed(
        dict(declared),
        harness,
        schema,
        inner,
        tuple(columns),
        tuple(columns_of(inner_metadata, inner)),
        inner_metadata,
        frozenset(untouched),
    )
