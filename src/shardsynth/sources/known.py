"""`shardsynth sample --remaining-columns`: rows with some known columns, completed by a model, in their order.

The known rows are Parquet shards that are read as a stream. Any range of them can be completed separately, so that any
number of tasks can share the work.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data.gaps import has_gap
from shardsynth.data.shards import Dataset, open_shards, read_batches
from shardsynth.data.values import decoded
from shardsynth.errors import InputError
from shardsynth.models.base import NativeModel
from shardsynth.models.columns.known import UnknownCategory
from shardsynth.run.row_ledger import next_known, reserve_known
from shardsynth.sampling.constraints.known import broken_by
from shardsynth.sampling.constraints.table import TableConstraints
from shardsynth.sampling.streams import chunk_seed
from shardsynth.sources.completion import arrays_of, broken_text, complete, with_keys
from shardsynth.sources.sources import Source, model_card
from shardsynth.standalone.files import sha256_of

_BATCH_ROWS = 16_384


def open_known(source: str) -> tuple[Dataset, str]:
    """Shards of known rows, and a checksum that changes when they change.

    Raises:
        ShardError: There is no shard, or one cannot be read.
    """
    dataset = open_shards(source)
    sums = "".join(sha256_of(Path(shard.path)) for shard in dataset.shards)
    return dataset, hashlib.sha256(sums.encode("utf-8")).hexdigest()


def complete_table(
    model: NativeModel, under: TableConstraints | None, folder: Path, rows: pa.Table, seed: int, first_row: int | None
) -> pa.Table:
    """Known rows of a table, completed.

    Args:
        model: One that completes rows.
        under: The constraints that it was fitted under.
        folder: Its folder.
        rows: The known columns.
        seed: Any integer.
        first_row: Global number of the first row; None: other known rows have another stream, and numbers of their own.

    Raises:
        ConditionError: The model cannot complete rows.
        InputError: A column is not the model's, or not of its type; or known values break a constraint.
    """
    digest = ""
    if first_row is None:
        digest = _digest_of(rows)
        seed_of_rows = chunk_seed(seed, f"known {digest}", 0)
    else:
        seed_of_rows = seed
    start = 0 if first_row is None else first_row
    if under is None:
        completed = model.complete(rows, seed_of_rows, start)
    else:
        completed = complete(model, under, rows, seed_of_rows, start)
    made = any(name not in rows.column_names or has_gap(rows[name]) for name in model.generators)
    if first_row is not None or not made:
        return completed
    number = (folder, rows.num_rows, seed, digest, model_card(folder))
    try:
        numbered = reserve_known(*number)
    except OSError:  # another user's folder
        numbered = next_known(*number)[0]
    return with_keys(model, completed, rows, numbered)


def _digest_of(rows: pa.Table) -> str:
    """SHA-256 of the rows, whatever their chunks."""
    sink = hashlib.sha256()
    for field, array in zip(rows.schema, arrays_of(rows).values()):
        plain = decoded(array)
        sink.update(f"{field.name}:{field.type}:{len(plain)}".encode())
        with pa.BufferOutputStream() as stream:
            table = pa.table([pa.concat_arrays([plain])], ["values"])
            with pa.ipc.new_stream(stream, table.schema) as writer:
                writer.write_table(table)
            sink.update(stream.getvalue())
    return sink.hexdigest()


class KnownSource(Source):
    """Rows of known columns, completed.

    Args:
        model: One that completes rows.
        seed: Names the stream of the completions.
        known: From ``open_known``.
        digest: Its checksum, likewise.
        under: The constraints that the model was fitted under.

    Attributes:
        first_row: Number of the first known row, from which ids are made; the other values do not depend on it.

    Raises:
        ConditionError: The model cannot complete rows.
        InputError: A column is not the model's, or not of its type; or all columns of the model are known.
    """

    def __init__(
        self, model: NativeModel, seed: int, known: Dataset, digest: str, *, under: TableConstraints | None = None
    ) -> None:
        self.schema: pa.Schema = model.schema if under is None else under.schema
        if set(self.schema.names) <= set(known.schema.names):
            raise InputError("--remaining-columns: every column of the model is known already")
        # Other known rows have other completions: the stream hangs on what is completed.
        self.model, self.seed, self.known = model, chunk_seed(seed, f"known {digest}", 0), known
        self.under, self.first_row = under, 0
        self.known_columns = frozenset(known.schema.names)
        # Complete one empty row, so that a wrong column is one error, before any task starts.
        null_columns = [pa.nulls(1, field.type) for field in known.schema]
        self._completed(pa.table(null_columns, known.schema.names), 0)

    def check(self) -> None:
        """Look at all known rows under the constraints, before any task starts.

        Raises:
            InputError: Known values break a constraint; names the files, the rows and the constraint.
        """
        if self.under is None:
            return
        for shard in self.known.shards:
            broken: dict[str, list[int]] = {}
            row = 0
            for batch in read_batches(shard, self.known.schema, range(len(shard.group_rows)), _BATCH_ROWS):
                table = pa.Table.from_batches([batch])
                for what, mask in broken_by(self.under, arrays_of(table), batch.num_rows):
                    broken.setdefault(what, []).extend((row + np.flatnonzero(mask)).tolist())
                row += batch.num_rows
            if broken:
                found = [(what, np.array(rows, np.int64)) for what, rows in broken.items()]
                raise InputError(f"{shard.path}: {broken_text(found)}")

    def _completed(self, rows: pa.Table, first: int) -> pa.Table:
        if self.under is not None:
            return complete(self.model, self.under, rows, self.seed, first)
        return self.model.complete(rows, self.seed, first)

    def batches(self, rows: range) -> Iterator[pa.RecordBatch]:
        """See ``sources.Source``."""
        for first, batch in self._known_batches(range(rows.start - self.first_row, rows.stop - self.first_row)):
            table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", UnknownCategory)
                completed = with_keys(self.model, self._completed(table, first), table, self.first_row + first)
            for warning in told:
                print(f"shardsynth: rows from {first:,}: {warning.message}", file=sys.stderr, flush=True)
            yield from completed.combine_chunks().to_batches()

    def acceptance(self) -> None:
        """None: proposals of completions are not counted."""

    def _known_batches(self, rows: range) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Batches of the known rows of a range, each with its first row's number; other row groups are not read."""
        start = 0  # of the row group
        for shard in self.known.shards:
            if start + shard.rows <= rows.start or start >= rows.stop:
                start += shard.rows
                continue
            metadata = pq.read_metadata(shard.path)
            for group in range(metadata.num_row_groups):
                stop = start + metadata.row_group(group).num_rows
                if start < rows.stop and stop > rows.start:
                    row = start
                    for batch in read_batches(shard, self.known.schema, range(group, group + 1), _BATCH_ROWS):
                        first, last = max(row, rows.start), min(row + batch.num_rows, rows.stop)
                        if first < last:
                            yield first, batch.slice(first - row, last - first)
                        row += batch.num_rows
                start = stop
