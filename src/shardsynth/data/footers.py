"""The footer of one Parquet file: its schema as the table takes it, whatever program wrote the file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shardsynth.data.schema_metadata import notes_of, without_notes
from shardsynth.errors import ShardError

#: Folder of the rows in which the key is missing, as Hive calls it.
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Footer:
    """What the footer of a file says.

    Attributes:
        schema: Its schema, without key-value metadata that are data of the file.
        group_rows: Rows of each row group.
        notes: What the schema leaves out of these metadata.
        far: Instants of Parquet's old type (INT96) that 64-bit nanoseconds cannot hold.
        int96: All columns of that type.
    """

    schema: pa.Schema
    group_rows: tuple[int, ...]
    notes: tuple[str, ...] = ()
    far: tuple[str, ...] = ()
    int96: tuple[str, ...] = ()

    def in_microseconds(self, far: Collection[str]) -> pa.Schema:
        """The schema with microseconds for the old instants, if those of any file need them: a file has one unit."""
        if not set(far) & set(self.int96):
            return self.schema
        return pa.schema([f.with_type(pa.timestamp("us")) if f.name in self.int96 else f for f in self.schema])


def read_footer(path: Path) -> Footer:
    """The footer of a file.

    Raises:
        pyarrow.ArrowInvalid, OSError: It is no Parquet file, or cannot be read.
        pyarrow.ArrowNotImplementedError: It has a column that Arrow cannot read.
    """
    with pq.ParquetFile(path) as file:
        footer = file.metadata
        groups = tuple(footer.row_group(i).num_rows for i in range(footer.num_row_groups))
        notes = notes_of(file.schema_arrow, footer.metadata)
        schema = _with_enums(without_notes(file.schema_arrow), file)
        int96 = tuple(int96_columns(file))
    far = int96 if int96 and _beyond_nanoseconds(path, int96) else ()
    return Footer(schema, groups, tuple(notes), far, int96)


def int96_columns(file: pq.ParquetFile) -> list[str]:
    """Columns of Parquet's old type of instants, which Spark writes by default."""
    columns = map(file.schema.column, range(len(file.schema.names)))
    return [column.name for column in columns if column.physical_type == "INT96" and column.path == column.name]


def without_repeated(
    path: Path, schema: pa.Schema, partition: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """The keys of the folders that are no columns of the file; a key that is both must have the same value in both.

    Raises:
        ShardError: It has other values.
    """
    for key, value in partition:
        if key not in schema.names:
            continue
        with pq.ParquetFile(path) as file:
            found = file.read(columns=[key]).column(0).unique().to_pylist()
        if [str(v) for v in found] not in ([value], []) and not (found == [None] and value == NULL_PARTITION):
            raise ShardError(
                f"{path}: {key!r} is both a column and a key=value folder, with other values; rename one of them"
            )
    return tuple((key, value) for key, value in partition if key not in schema.names)


def _with_enums(schema: pa.Schema, file: pq.ParquetFile) -> pa.Schema:
    """The schema with text for Parquet's ENUM, which is UTF-8 text by the format's definition."""
    columns = map(file.schema.column, range(len(file.schema.names)))
    enums = {c.name for c in columns if c.logical_type.type == "ENUM" and c.path == c.name}
    return pa.schema([f.with_type(pa.string()) if f.name in enums and f.type == pa.binary() else f for f in schema])


def _beyond_nanoseconds(path: Path, names: tuple[str, ...]) -> bool:
    """Whether an instant is beyond the years 1678 to 2261: as nanoseconds it would wrap around."""
    with pq.ParquetFile(path, coerce_int96_timestamp_unit="us") as file:
        for batch in file.iter_batches(columns=list(names), use_threads=False):
            for column in batch.columns:
                ends = pc.min_max(column.cast(pa.int64())).as_py()
                if ends["min"] is not None and (ends["min"] < -(2**63) // 1_000 or ends["max"] > (2**63 - 1) // 1_000):
                    return True
    return False
