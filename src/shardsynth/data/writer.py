"""Parts out: record batches to one Parquet file, compressed on a background thread while the next batch is made.

The bytes of a part depend on its rows alone: row groups have a fixed number of rows wherever batches begin and end,
nothing records a time, and the order of pages is that of the columns. (Another pyarrow version may write other bytes:
its name stands in the file, and in the commit record.)
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

from shardsynth.errors import SpaceError

#: Rows of a row group: about 10 MB of Adult in memory, and small enough to overlap drawing and writing.
ROWS_PER_GROUP = 1 << 17
_ENCODED_AT_ONCE = 1 << 16  # values that Parquet's encoder takes per call: 15 % faster than its default of 1,024
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the last: a limit on the size of files


@dataclass(frozen=True)
class Part:
    """What was written: rows, bytes on disk, SHA-256 of those bytes (hexadecimal)."""

    rows: int
    bytes: int
    sha256: str


class PartWriter:
    """Writes one Parquet part; a context manager that removes the file when the body fails.

    Args:
        path: File to create; its folder must exist. Renaming it into place is the caller's business.
        schema: Arrow schema of the part; stored in the file, so that it reads back as itself.
        drawn: Schema of the batches where it is not that of the part: text may come as dictionary arrays.
        dictionary_columns: Names of further columns worth a Parquet dictionary (few distinct values), beside those of
            an Arrow dictionary type, which keep theirs.
        rows_per_group: Rows of each row group but the last.
        compression: Parquet codec.
        statistics: Write minima and maxima per column chunk (costs a third of the writing time).
        background: Encode on a thread of its own; False encodes within ``write``.

    Raises:
        SpaceError: From any method: the disk or the quota is full.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        *,
        drawn: pa.Schema | None = None,
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
        # One name per leaf: pyarrow splits names at dots otherwise.
        chosen = set(dictionary_columns or ())
        dictionaries: Any = [f.name for f in schema if f.name in chosen or pa.types.is_dictionary(f.type)]
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"),
            drawn or schema,
            store_schema=False,
            use_dictionary=dictionaries or False,
            compression=compression,
            write_statistics=statistics,
            write_batch_size=_ENCODED_AT_ONCE,
        )
        # Parquet knows no dictionary type: the file is told the part's schema, whatever arrays it is filled from.
        told = {**(schema.metadata or {}), b"ARROW:schema": b64encode(schema.serialize().to_pybytes())}
        self._writer.add_key_value_metadata(told)
        self._queue: queue.Queue[pa.Table | None] = queue.Queue(maxsize=1)
        self._thread = threading.Thread(target=self._work, name="part-writer", daemon=True) if background else None
        if self._thread is not None:
            self._thread.start()

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows. Returns before they are on disk; an earlier batch's error is raised here."""
        self._raise()
        self.rows += batch.num_rows
        while batch.num_rows:
            head = batch.slice(0, self._rows_per_group - self._pending_rows)
            self._pending.append(head)
            self._pending_rows += head.num_rows
            batch = batch.slice(head.num_rows)
            if self._pending_rows == self._rows_per_group:
                self._flush()

    def close(self) -> Part:
        """Finish the file and force it to disk.

        Returns:
            Its rows, size and checksum.
        """
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
        """Stop and remove the file."""
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
            # Pages begin anew where a chunk does: one chunk per column, or batches would show in the bytes.
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
        if isinstance(error, OSError) and (error.errno in _NO_SPACE or self._sink.error_number in _NO_SPACE):
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
        """Nothing is buffered here."""

    def close(self) -> None:
        """For pyarrow, which closes its sink; the file stays open until ``finish`` or ``discard``."""

    def discard(self) -> None:
        self._file.close()

    def finish(self) -> tuple[int, str]:
        os.fsync(self._file.fileno())
        self._file.close()
        return self.size, self._hash.hexdigest()
