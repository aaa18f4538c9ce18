"""Tables in files that are not Parquet: the reader for each ending. All read in batches."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, Protocol, cast

import pyarrow as pa

from shardsynth.data import databases, json_lines
from shardsynth.data.delimited import Delimited
from shardsynth.data.json_lines import JsonLines
from shardsynth.data.r_tables import READERS as R_READERS
from shardsynth.data.r_tables import RFile
from shardsynth.data.sheets import Sheet
from shardsynth.data.statistics_files import READERS, StatisticsFile
from shardsynth.data.unpacking import LEAST_TEXT, Unpacked, check_zip
from shardsynth.errors import InputError, ShardError
from shardsynth.standalone.regular import refuse_special

_BATCH_ROWS = 1 << 17
_COMPRESSIONS = (".gz", ".bz2", ".zst", ".lz4")


class ForeignTable(Protocol):
    """A table that can be read more than once.

    Attributes:
        is_text: Whether every column comes as text, so that its type must be guessed.
        fields: Names and types of the columns as they are in the file; the names are not checked.
    """

    is_text: bool
    fields: pa.Schema

    def batches(self) -> Generator[list[pa.Array], None, None]:
        """Batches of columns, in the order of ``fields``; each is at most about ten megabytes of the file.

        Raises:
            ShardError: A row cannot be read, or the file is damaged.
        """


def open_foreign(
    path: Path,
    delimiter: str | None,
    sheet: str | None,
    nulls: tuple[str, ...],
    encoding: str,
    max_unpacked: int | None = None,
    skip_rows: int = 0,
    query: str | None = None,
    catalog: Path | None = None,
) -> ForeignTable:
    """Open a file with the reader for the ending of its name.

    Args:
        path: The file.
        delimiter: See ``importer.import_table``.
        sheet: See ``importer.import_table``.
        nulls: Texts that mean missing.
        encoding: See ``importer.import_table``.
        max_unpacked: See ``importer.import_table``.
        skip_rows: See ``importer.import_table``.
        query: See ``importer.import_table``.
        catalog: See ``importer.import_table``.

    Raises:
        InputError: There is no such file, no such sheet, or no reader for the ending.
        ShardError: The file is empty or damaged.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    refuse_special(path)
    if not path.is_file():
        raise InputError(f"{path}: is not a file; import one file at a time")
    if query is not None and path.suffix.lower() not in databases.ENDINGS:
        raise InputError(f"{path}: --sql is for files of DuckDB and SQLite: {', '.join(databases.ENDINGS)}")
    if catalog is not None and path.suffix.lower() != ".sas7bdat":
        raise InputError(f"{path}: --catalog is for .sas7bdat files")
    if catalog is not None and not catalog.is_file():
        raise InputError(f"{catalog}: there is no such file")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: cannot be read: permission denied")
    kind = Path(path.stem).suffix if path.suffix.lower() in _COMPRESSIONS else path.suffix
    kind = kind.lower()
    if kind in (".csv", ".tsv", ".tab", ".txt"):
        return Delimited(
            path, delimiter or ("\t" if kind in (".tsv", ".tab") else None), encoding, nulls, max_unpacked, skip_rows
        )
    if path.stat().st_size == 0:
        raise ShardError(f"{path}: the file is empty")
    if kind in (".xlsx", ".xlsm"):
        check_zip(path, max_unpacked)
        return Sheet(path, sheet, nulls, skip_rows)
    if path.suffix.lower() in READERS:
        return StatisticsFile(path, catalog)
    if path.suffix.lower() in databases.ENDINGS:
        return cast(ForeignTable, databases.open_database(path, query))
    if kind in json_lines.ENDINGS:
        return JsonLines(path, max_unpacked)
    if path.suffix.lower() in R_READERS:
        return RFile(path, sheet, max_unpacked)
    if kind in (".feather", ".arrow", ".arrows", ".ipc"):
        return _Ipc(path, max_unpacked)
    known = (
        ".csv, .tsv, .txt, .jsonl (also .gz, .bz2, .zst), .xlsx, .feather, .sav, .zsav, .por, .dta, .sas7bdat, .xpt, "
        ".rds, .RData, .duckdb and .sqlite"
    )
    hints = {
        ".parquet": "it is Parquet already: name it as the job's input; --unnest makes nested columns flat",
        ".xls": "save it as .xlsx",
        ".ods": "save it as .xlsx",
        ".zip": "unpack it first",
    }
    raise InputError(f"{path}: {hints.get(kind, f'this ending is not known; known are {known}')}")


def _own_bytes(batch: pa.RecordBatch, dictionaries: dict[int, pa.Array]) -> int:
    """Bytes of a batch; a dictionary counts where it is not that of the batch before, which ``dictionaries`` keeps."""
    count = 0
    for number, column in enumerate(batch.columns):
        if not pa.types.is_dictionary(column.type):
            count += column.nbytes
            continue
        count += column.indices.nbytes
        last = dictionaries.get(number)
        if last is None or not last.equals(column.dictionary):
            count += column.dictionary.nbytes
            dictionaries[number] = column.dictionary
    return count


class _Ipc:
    is_text = False

    def __init__(self, path: Path, max_unpacked: int | None = None) -> None:
        self._path, self._most = path, max_unpacked
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"FEA1":
            raise ShardError(f"{path}: is Feather version 1, which is no longer read: write it again as version 2")
        self.fields = self._reader().schema

    def _reader(self) -> Any:
        for opener in (pa.ipc.open_file, pa.ipc.open_stream):
            try:
                # Not mapped: a file that is cut meanwhile would end the process.
                return opener(pa.OSFile(str(self._path)))
            except (pa.ArrowException, OSError, MemoryError):
                continue
        raise ShardError(f"{self._path}: is not a Feather or Arrow file, or is cut short")

    def batches(self) -> Generator[list[pa.Array], None, None]:
        reader = self._reader()
        try:
            if hasattr(reader, "get_batch"):
                stored: Iterable[pa.RecordBatch] = (reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                stored = reader
            unpacked = Unpacked.of(self._path, self._most, LEAST_TEXT)
            dictionaries: dict[int, pa.Array] = {}
            for batch in stored:
                unpacked.add(_own_bytes(batch, dictionaries))
                batch.validate(full=True)  # offsets of a damaged file can point anywhere
                for start in range(0, len(batch), _BATCH_ROWS):
                    yield batch.slice(start, _BATCH_ROWS).columns
        except (pa.ArrowException, OSError, MemoryError, IndexError):
            raise ShardError(f"{self._path}: is cut short or damaged") from None
