"""Pass 1: ``Profile``, exact counts of every column and the row sample, from one reading of the shards.

A commutative monoid: its file has the same bytes for any split of the rows into batches and parts, and for any order of
merging. Its memory does not grow with the rows: it has a fixed number of distinct values per column, and the sample.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data import archive
from shardsynth.data.columns import schema_from_text, schema_to_text
from shardsynth.data.values import decoded, plain_type, without_views
from shardsynth.errors import MergeError, ShardError
from shardsynth.summaries.rows import hash_row_numbers, hash_rows, sample_threshold
from shardsynth.summaries.tally import NumberTally, tally_for
from shardsynth.summaries.text import TextTally

Tally = Union[NumberTally, TextTally]


@dataclass(frozen=True)
class ProfileOptions:
    """Options of a profile; all its parts have the same.

    Attributes:
        seed: The job's seed, which chooses the sample.
        total_rows: Rows that are candidates for the sample: the expected number of training rows.
        sample_rows: Rows of the sample.
        distinct: Most distinct values of a column that are counted.
        extremes: How many of the smallest and of the largest distinct values of a column are kept.
        salt: Text that makes samples of one seed differ (training and holdout).
    """

    seed: int = 0
    total_rows: int = 0
    sample_rows: int = 200_000
    distinct: int = 10_000
    extremes: int = 5
    salt: str = "sample"

    @property
    def threshold(self) -> int:
        """Largest hash of a row that a part keeps for the sample."""
        return sample_threshold(self.sample_rows, self.total_rows)


class Profile:
    """Counts of every column of a table, and a uniform sample of its rows.

    Attributes:
        schema: The Arrow schema of the batches.
        options: The profile's options.
        rows: Number of rows counted.
        columns: One ``NumberTally`` or ``TextTally`` per column, in schema order.
    """

    def __init__(self, schema: pa.Schema, options: ProfileOptions) -> None:
        self.schema = schema
        self.options = options
        self.rows = 0
        self.columns: list[Tally] = [tally_for(f.type, options.distinct, options.extremes) for f in schema]
        self._sample: list[pa.Table] = []
        self._numbers: list[npt.NDArray[np.uint64]] = []

    @classmethod
    def empty(cls, schema: pa.Schema, options: ProfileOptions | None = None) -> Profile:
        """A profile of no rows."""
        return cls(schema, options or ProfileOptions())

    def __getitem__(self, name: str) -> Tally:
        """The tally of a column by name."""
        return self.columns[list(self.schema.names).index(name)]

    def update(self, batch: pa.RecordBatch, row_offset: int, keep: npt.NDArray[np.bool_] | None = None) -> Profile:
        """Count a batch.

        Args:
            batch: Rows, of the profile's schema.
            row_offset: Global row number of the batch's first row.
            keep: bool[n], the rows of the batch that belong to this profile (training or holdout); all of them if None.

        Returns:
            This profile.
        """
        batch = without_views(batch)
        hashes = hash_rows(self.options.seed, self.options.salt, row_offset, batch.num_rows)
        rows = np.arange(row_offset, row_offset + batch.num_rows, dtype=np.uint64)
        if keep is not None and not keep.all():
            batch = batch.filter(pa.array(keep))
            hashes, rows = hashes[keep], rows[keep]
        if batch.num_rows == 0:
            return self
        self.rows += batch.num_rows
        for tally, array in zip(self.columns, batch.columns):
            tally.update(array, rows)
        chosen = np.flatnonzero(hashes <= np.uint64(self.options.threshold))
        if len(chosen):
            picked = batch if len(chosen) == batch.num_rows else batch.take(pa.array(chosen))
            self._sample.append(_plain_table(picked))
            self._numbers.append(rows[chosen])
        return self

    def merge(self, other: Profile) -> Profile:
        """Add another part of the same table, and return this profile.

        Raises:
            MergeError: The parts have different options or schemas.
        """
        if other.options != self.options or not other.schema.equals(self.schema):
            raise MergeError("two parts of a profile were taken with different options or schemas: profile again")
        self.rows += other.rows
        for tally, other_tally in zip(self.columns, other.columns):
            tally.merge(other_tally)  # type: ignore[arg-type]
        self._sample += other._sample
        self._numbers += other._numbers
        return self

    def cut(self, k: int | None = None) -> Profile:
        """Keep only the ``k`` rows of smallest hash in the sample, and return this profile.

        Args:
            k: Number of rows to keep; ``options.sample_rows`` if None. A sample of fewer rows stays as it is.
        """
        k = self.options.sample_rows if k is None else k
        table, numbers = self._settled()
        if len(numbers) > k:
            hashes = hash_row_numbers(self.options.seed, self.options.salt, numbers)
            chosen = np.sort(np.argpartition(hashes, k - 1)[:k]) if k else np.zeros(0, np.int64)
            self._sample, self._numbers = [table.take(pa.array(chosen)).combine_chunks()], [numbers[chosen]]
        return self

    def _settled(self) -> tuple[pa.Table, npt.NDArray[np.uint64]]:
        """The sample as one table in row order."""
        if len(self._sample) != 1:
            table = pa.concat_tables(self._sample) if self._sample else _plain_schema(self.schema).empty_table()
            self._sample = [table.combine_chunks()]
            self._numbers = [np.concatenate([np.zeros(0, np.uint64), *self._numbers])]
        table, numbers = self._sample[0], self._numbers[0]
        if (np.diff(numbers.view(np.int64)) < 0).any():
            order = np.argsort(numbers)
            table, numbers = table.take(pa.array(order)).combine_chunks(), numbers[order]
            self._sample, self._numbers = [table], [numbers]
        return table, numbers

    @property
    def sample(self) -> pa.Table:
        """The sample in row order, dictionaries decoded."""
        return self._settled()[0]

    @property
    def sample_row_numbers(self) -> npt.NDArray[np.uint64]:
        """Global row number of each row of the sample."""
        return self._settled()[1]

    def check_finite(self, columns: Sequence[str] | None = None) -> None:
        """Refuse infinite values.

        Args:
            columns: Names to check; every column if None.

        Raises:
            ShardError: Names the column and the global number of the first row with an infinite value.
        """
        for name, tally in zip(self.schema.names, self.columns):
            if tally.first_infinite is not None and (columns is None or name in columns):
                raise ShardError(
                    f"column {name!r}: {tally.infinite} infinite value(s), the first in row {tally.first_infinite} "
                    "(counted from 0 over all shards); replace them by a number or null"
                )

    def save(self, path: str | Path) -> None:
        """Write one file; its bytes depend on the rows and the options alone."""
        table, numbers = self._settled()
        out = io.BytesIO()
        # Arrow's own file format would keep the arbitrary bytes of null values; Parquet does not.
        pq.write_table(table, out, compression="zstd", use_dictionary=False, write_statistics=False)
        members: dict[str, archive.Member] = {"sample.parquet": out.getvalue(), "rows": numbers}
        heads: list[dict[str, Any]] = []
        for i, tally in enumerate(self.columns):
            head, arrays = tally.to_members()
            heads.append(head)
            members.update({f"{i}.{name}": array for name, array in arrays.items()})
        members["head"] = {
            "version": 1,
            "schema": schema_to_text(self.schema),
            "options": dict(self.options.__dict__),
            "rows": self.rows,
            "columns": heads,
        }
        archive.write(path, members)

    @classmethod
    def load(cls, path: str | Path) -> Profile:
        """The profile that ``save`` wrote.

        Raises:
            RunError: The file cannot be read.
        """
        members = archive.read(path)
        head = members["head"]
        profile = cls(schema_from_text(head["schema"]), ProfileOptions(**head["options"]))
        profile.rows = head["rows"]
        arrays: dict[int, dict[str, Any]] = {}
        for name, array in members.items():
            column, _, part = name.partition(".")
            if column.isdigit():
                arrays.setdefault(int(column), {})[part] = array
        for i, (tally, column_head) in enumerate(zip(profile.columns, head["columns"])):
            tally.from_members(column_head, arrays.get(i, {}))
        table = pq.read_table(io.BytesIO(members["sample.parquet"]))
        profile._sample = [table.cast(_plain_schema(profile.schema)).combine_chunks()]
        profile._numbers = [members["rows"]]
        return profile


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(f.name, plain_type(f.type), True) for f in schema])


def _plain_table(batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_arrays([decoded(a) for a in batch.columns], schema=_plain_schema(batch.schema))
