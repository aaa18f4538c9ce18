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

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data.shards import Dataset, open_shards, read_batches
from shardsynth.errors import InputError
from shardsynth.models.base import NativeModel
from shardsynth.models.columns.known import UnknownCategory
from shardsynth.sampling.streams import chunk_seed
from shardsynth.sources.sources import Source
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


class KnownSource(Source):
    """Rows of known columns, completed.

    Args:
        model: One that completes rows.
        seed: Names the stream of the completions.
        known: From ``open_known``.
        digest: Its checksum, likewise.

    Raises:
        ConditionError: The model cannot complete rows.
        InputError: A column is not the model's, or not of its type; or all columns of the model are known.
    """

    def __init__(self, model: NativeModel, seed: int, known: Dataset, digest: str) -> None:
        if set(model.schema.names) <= set(known.schema.names):
            raise InputError("--remaining-columns: every column of the model is known already")
        # Other known rows have other completions: the stream hangs on what is completed.
        self.model, self.seed, self.known = model, chunk_seed(seed, f"known {digest}", 0), known
        self.schema: pa.Schema = model.schema
        # Complete one empty row, so that a wrong column is one error, before any task starts.
        null_columns = [pa.nulls(1, field.type) for field in known.schema]
        model.complete(pa.table(null_columns, known.schema.names), seed, 0)

    def batches(self, rows: range) -> Iterator[pa.RecordBatch]:
        """See ``sources.Source``."""
        for first, batch in self._known_batches(rows):
            table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", UnknownCategory)
                completed = self.model.complete(table, self.seed, first)
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
