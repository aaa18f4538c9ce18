"""Write a part: record batches to one Parquet file, encoded on a thread of its own while the next batch is made.

The bytes of a part depend on its rows alone. Row groups have a fixed number of rows, which does not depend on the
batches; no time is recorded; pages are in the order of the columns. Another pyarrow version can write other bytes: its
number is in the file and in the commit record.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data.stored_types import has_stored_types, stored_batch, stored_schema, written_schema
from shardsynth.errors import SpaceError

#: Rows of a row group: about 10 MB of the Adult table in memory, few enough to draw rows and write them at a time.
ROWS_PER_GROUP = 1 << 17
_ENCODED_AT_ONCE = 1 << 16  # values that Parquet's encoder takes per call: 15 % faster than its default of 1,024
#: Error numbers of a full disk, a full quota and a limit on the size of files.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Part:
    """A written part: number of rows, size in bytes, SHA-256 of the bytes (hexadecimal)."""

    rows: int
    bytes: int
    sha256: str


class PartWriter:
    """Writes one Parquet part; a context manager that removes the file when the body fails.

    Args:
        path: File to create; its folder must exist. It is a temporary name, which the caller renames.
        schema: Arrow schema of the part. It is stored in the file, so that readers get exactly this schema.
        batch_schema: Schema of the batches where it is another: text can come as dictionary arrays.
        dictionary_columns: Names of columns that get a Parquet dictionary, because they have few distinct values.
            Columns of an Arrow dictionary type always get one.
        rows_per_group: Rows of each row group but the last.
        compression: Parquet codec.
        statistics: Whether to write minima and maxima per column chunk (a third of the writing time).
        background: Whether to encode on a thread of its own; if not, ``write`` encodes.

    Raises:
        SpaceError: The disk or the quota is full. Any method can raise it.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        *,
        batch_schema: pa.Schema | None = None,
        dictionary_columns: Sequence[str] | None = None,
        rows_per_group: int = ROWS_PER_GROUP,
        compression: str = "snappy",
        statistics: bool = False,
        background: bool = True,
    ) -> None:
        self.path = path
        self.schema = schema
        self.rows = 0
        self._rows_per_group = rows_per_group
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._error: BaseException | None = None
        self._sink = _HashedFile(path)
        self._stored = written_schema(schema, batch_schema or schema) if has_stored_types(schema) else None
        # Columns are flat: each name, also one with dots, is the path of one leaf.
        few_values = set(dictionary_columns or ())
        dictionaries: Any = [f.name for f in schema if f.name in few_values or pa.types.is_dictionary(f.type)]
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"),
            self._stored or batch_schema or schema,
            store_schema=False,
            use_dictionary=dictionaries or False,
            compression=compression,
            write_statistics=statistics,
            write_batch_size=_ENCODED_AT_ONCE,
        )
        # Parquet has no dictionary type. So the metadata keep the part's Arrow schema, whatever type the batches have.
        written = stored_schema(schema)
        metadata = {**(schema.metadata or {}), b"ARROW:schema": b64encode(written.serialize().to_pybytes())}
        self._writer.add_key_value_metadata(metadata)
        self._queue: queue.Queue[pa.Table | None] = queue.Queue(maxsize=1)
        self._thread = threading.Thread(target=self._work, name="part-writer", daemon=True) if background else None
        if self._thread is not None:
            self._thread.start()

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows of a batch. It returns before they are on disk, and raises the error of an earlier batch."""
        self._raise()
        self.rows += batch.num_rows
        if self._stored is not None:
            batch = stored_batch(batch, self._stored)
        while batch.num_rows:
            head = batch.slice(0, self._rows_per_group - self._pending_rows)
            self._pending.append(head)
            self._pending_rows += head.num_rows
            batch = batch.slice(head.num_rows)
            if self._pending_rows == self._rows_per_group:
                self._flush()

    def close(self) -> Part:
        """Finish the file and flush it to disk."""
        if self._pending_rows:
            self._flush()
        self._stop()
        self._raise()
        try:
            self._writer.close()
            return Part(self.rows, *self._sink.finish())
        except OSError as error:
            raise self._explained(error) from error

    def abort(self) -> None:
        """Stop writing and remove the file."""
        self._error = self._error or RuntimeError("aborted")  # the thread drops what is left in the queue
        self._stop()
        with contextlib.suppress(OSError, ValueError):
            self._writer.close()
        self._sink.discard()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None or not self._sink.closed:
            self.abort()

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._pending)
        self._pending, self._pending_rows = [], 0
        if self._thread is None:
            self._encode(table)
            self._raise()
        else:
            self._queue.put(table)

    def _work(self) -> None:
        while (table := self._queue.get()) is not None:
            if self._error is None:
                self._encode(table)

    def _encode(self, table: pa.Table) -> None:
        try:
            # A new chunk starts a new page. One chunk per column, so that the bytes do not depend on the batches.
            self._writer.write_table(table.combine_chunks(), row_group_size=self._rows_per_group)
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            self._error = error

    def _stop(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _raise(self) -> None:
        if self._error is not None:
            raise self._explained(self._error)

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, OSError) and (error.errno in NO_SPACE or self._sink.error_number in NO_SPACE):
            return SpaceError(
                f"{self.path}: no space left after {self._sink.size / 1e6:.0f} MB ({self.rows} rows): "
                "free some, or sample fewer rows per part"
            )
        return error


class _HashedFile:
    """A new file, hashed while it is written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=0)
        self._hash = sha256()
        self.size = 0
        self.error_number: int | None = None

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._hash.update(view)
        done = 0
        try:
            while done < len(view):
                done += self._file.write(view[done:])
        except OSError as error:
            self.error_number = error.errno
            raise
        self.size += len(view)
        return len(view)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """For pyarrow, which flushes its sink; nothing is buffered here."""

    def close(self) -> None:
        """For pyarrow, which closes its sink; the file stays open until ``finish`` or ``discard``."""

    def discard(self) -> None:
        self._file.close()

    def finish(self) -> tuple[int, str]:
        os.fsync(self._file.fileno())
        self._file.close()
        return self.size, self._hash.hexdigest()
