"""From files that are not Parquet to Parquet shards: read in batches, with one type per column of the whole file."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Optional

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data.codebook import Codebook, said_of
from shardsynth.data.column_looks import ColumnLook
from shardsynth.data.foreign import ForeignTable, open_foreign
from shardsynth.data.nested_parquet import NestedParquet
from shardsynth.data.r_tables import frame_names
from shardsynth.data.redcap import read_dictionary, split_export
from shardsynth.data.selected import Selected
from shardsynth.data.sheets import EmptySheet, sheet_names
from shardsynth.data.text_columns import TextColumn
from shardsynth.data.text_types import NULL_TEXTS, Misfit, TargetType, parquet_type, parse_type
from shardsynth.data.writer import NO_SPACE
from shardsynth.errors import InputError, ShardError, SpaceError, cell, did_you_mean, no_folder_there
from shardsynth.standalone.files import replacing

_GROUP_ROWS, _GROUP_BYTES = 1 << 17, 64 << 20  # a row group ends at the limit that it reaches first
_FIRST_BATCHES = 8  # kept in memory until their types are known, about 16 MB of text
#: Columns of a batch as they are in the file; and the values of those that were read by the way.
_Read = tuple[list[pa.Array], list[Optional[pa.Array]]]


def import_table(
    source: Path,
    destination: Path,
    *,
    types: dict[str, str] | None = None,
    rows_per_shard: int = 1_000_000,
    delimiter: str | None = None,
    sheet: str | None = None,
    null_values: list[str] | None = None,
    encoding: str = "utf-8",
    show_values: bool = False,
    max_unpacked: int | None = None,
    skip_rows: int = 0,
    query: str | None = None,
    catalog: Path | None = None,
    leave_out: Iterable[str] = (),
    unnest: bool = False,
    looks: list[ColumnLook] | None = None,
) -> list[Path]:
    """Turn one file into Parquet shards ``part-00000.parquet`` ... in a new folder.

    A column of text (CSV, TSV, Excel) gets the narrowest type that can hold all its values (empty, bool, int64,
    float64, date, timestamp, clock time, else string). The file is read once; a second time where later rows need
    other types than the first ones. Numbers with leading zeros and integers that int64 cannot hold stay strings. An
    empty field, or one of ``null_values``, is missing. In a column of strings, a quoted empty field (``""``) is an
    empty string. Blank lines are skipped. Feather and Arrow files keep their types.

    Args:
        source: ``.csv``, ``.tsv``, ``.tab`` or ``.txt`` (also with ``.gz``, ``.bz2``, ``.zst`` or ``.lz4`` behind it),
            ``.jsonl`` or ``.ndjson``, ``.xlsx`` or ``.xlsm``, ``.feather``, ``.arrow``, ``.arrows`` or ``.ipc``,
            ``.sav``, ``.zsav``, ``.por``, ``.dta``, ``.sas7bdat``, ``.xpt``, ``.rds``, ``.RData``, ``.duckdb``,
            ``.sqlite``.
        destination: Folder to make; it can exist if it is empty. It has all shards, or is not made.
        types: Column name to Arrow type (see ``text_types.parse_type``), for columns whose type is not to be guessed.
        rows_per_shard: Rows in every shard but the last.
        delimiter: One character. The default is a tab for ``.tsv`` and ``.tab``, else the one of ``,``, ``;``, tab and
            ``|`` that the header uses most.
        sheet: Name of the Excel sheet, or of the data frame in ``.RData``; can be left out when there is only one.
        null_values: Texts that mean missing, instead of ``text_types.NULL_TEXTS``.
        encoding: Encoding of a text file. If it is the default, a byte order mark in the file wins.
        show_values: Whether an error quotes the value at fault, which can be personal.
        max_unpacked: Most bytes that a packed file may unpack to (default: 100 times its size, and at least 1 GB; of a
            workbook at least 256 MB).
        skip_rows: Lines above the header of a text file, or rows of a sheet, that are left out. Lines of comments
            (``##``, or two or more with ``#``) and Excel's ``sep=;`` are found.
        query: SQL that gives the rows of a file of DuckDB or SQLite.
        catalog: ``.sas7bdat`` files have their value labels in a file of their own, ``formats.sas7bcat``.
        leave_out: Columns that are left out.
        unnest: Whether ``source`` is Parquet, a file or a folder, whose structs become columns.
        looks: Gets what each column looks like.

    Returns:
        The shards, in order; at least one, even if it has no rows.

    Raises:
        InputError: The source or an option cannot be used, or the destination is not empty.
        ShardError: The content of the file is wrong. The message has the column, the row and the type.
        SpaceError: The disk or the quota is full. No shards are left.
    """
    source, destination = Path(source), Path(destination)
    if rows_per_shard < 1:
        raise InputError(f"rows_per_shard is {rows_per_shard}: it must be 1 or more")
    nulls = tuple(NULL_TEXTS if null_values is None else null_values)
    targets = {name: parse_type(text) for name, text in (types or {}).items()}
    left_out = tuple(leave_out)
    found = (
        NestedParquet(source, left_out)
        if unnest
        else open_foreign(source, delimiter, sheet, nulls, encoding, max_unpacked, skip_rows, query, catalog)
    )
    table: ForeignTable = Selected(source, found, left_out)
    _check_names(source, table.fields.names, targets)
    text = dict.fromkeys(getattr(table, "texts", ()), TargetType(pa.string()))
    columns = [TextColumn(ColumnLook(f.name), nulls, {**text, **targets}.get(f.name), f.metadata) for f in table.fields]
    written: list[_ShardWriter] = []
    try:
        with _whole_or_nothing(destination) as folder:
            written.append(_ShardWriter(folder, rows_per_shard))
            if table.is_text:
                _write_text(source, table, columns, show_values, written[0])
            else:
                schema = _shard_schema(source, table, targets)
                _write_known(source, _Counting(table, columns), columns, schema, show_values, written[0])
    except (FileExistsError, NotADirectoryError):
        raise InputError(no_folder_there(destination.parent)) from None
    except OSError as error:
        if error.errno in NO_SPACE:
            bytes_written = written[0].written_bytes if written else 0
            raise SpaceError(
                f"{destination}: the disk or the quota is full after {bytes_written:,} bytes of shards from a source "
                f"of {source.stat().st_size:,} bytes; nothing was kept: make room and run the import again"
            ) from None
        raise InputError(f"{destination}: cannot be written: {error.strerror or error}") from None
    if looks is not None:
        found_types = [column.type for column in columns] if table.is_text else schema.types
        looks += [column.look.of_type(type_) for column, type_ in zip(columns, found_types)]
    return [destination / name for name in written[0].parts]


def import_sheets(source: Path, destination: Path, **options: Any) -> dict[str, list[Path]]:
    """Turn every sheet of a workbook, or every data frame of an ``.RData`` file, into a folder of shards.

    Args:
        source: ``.xlsx``, ``.xlsm`` or ``.RData``.
        destination: Folder to make; it gets a folder per sheet, under the sheet's name.
        **options: As ``import_table``.

    Returns:
        The shards of each sheet; a sheet without a row is left out.

    Raises:
        InputError, ShardError, SpaceError: As ``import_table``.
    """
    names = sheet_names(source) or frame_names(source)
    if not names:
        raise InputError(f"{source}: --all-sheets is for .xlsx, .xlsm and .RData files")
    shards: dict[str, list[Path]] = {}
    with _whole_or_nothing(Path(destination)) as folder:
        for name in names:
            try:
                shards[name] = import_table(source, folder / name, sheet=name, **options)
            except EmptySheet:
                continue
        if not shards:
            raise ShardError(f"{source}: every sheet is empty")
    return {name: [Path(destination) / name / path.name for path in paths] for name, paths in shards.items()}


def import_redcap(source: Path, dictionary: Path, destination: Path, **options: Any) -> list[tuple[str, int]]:
    """Turn a raw export of REDCap into shards with the labels of its data dictionary.

    Args:
        source: The export, ``.csv``.
        dictionary: The data dictionary of the project, ``.csv``.
        destination: Folder to make; if instruments repeat, it gets a folder per table.
        **options: As ``import_table``.

    Returns:
        Name of each table and its rows.

    Raises:
        InputError, ShardError, SpaceError: As ``import_table``.
    """
    fields = read_dictionary(dictionary)
    with _whole_or_nothing(Path(destination)) as folder:
        shards = import_table(source, folder / ".export", **options)
        tables = split_export(shards, fields, folder, source)
        shutil.rmtree(folder / ".export")
    return tables


def _check_names(source: Path, names: list[str], typed: Iterable[str]) -> None:
    positions: dict[str, int] = {}
    for position, name in enumerate(names, 1):
        if not name.strip():
            raise ShardError(
                f"{source}: column {position} of {len(names)} has no name: give it one in the header "
                "(a nameless first column is often a row index that another program wrote)"
            )
        if name in positions:
            raise ShardError(f"{source}: columns {positions[name]} and {position} are both named {name!r}: rename one")
        positions[name] = position
    for name in typed:
        if name not in positions:
            hint = did_you_mean(name, names, 0.6)
            raise InputError(f"{source}: a type is given for {name!r}, but there is no such column{hint}")


def _shard_schema(source: Path, table: ForeignTable, targets: dict[str, TargetType]) -> pa.Schema:
    """The schema of the shards of a file that has types."""
    fields = []
    for column in table.fields:
        type_ = targets[column.name].type if column.name in targets else parquet_type(column.type)
        if type_ is None:
            raise ShardError(f"{source}: column {column.name!r}: Parquet cannot hold {column.type}: give another type")
        fields.append(column.with_type(type_))
    return pa.schema(fields, metadata=table.fields.metadata)


@dataclass
class _Counting:
    """A table of which rows and missing values are counted by the way; its columns say what their codebook says."""

    table: ForeignTable
    columns: list[TextColumn]
    is_text: bool = False
    fields: pa.Schema = field(init=False)

    def __post_init__(self) -> None:
        self.fields = self.table.fields

    def batches(self) -> Generator[list[pa.Array], None, None]:
        """Those of the table."""
        for column, arrow_field in zip(self.columns, self.table.fields):
            column.look.note = said_of(Codebook.of(arrow_field))
        with closing(self.table.batches()) as batches:
            for arrays in batches:
                for column, array in zip(self.columns, arrays):
                    column.look.count(len(array), array.null_count, 0)
                yield arrays


class _OtherTypes(Exception):
    """A batch of texts does not fit the types of those before it."""


def _schema_of(columns: list[TextColumn]) -> pa.Schema:
    return pa.schema([pa.field(column.look.name, column.type, metadata=column.metadata) for column in columns])


def _write_text(
    source: Path, table: ForeignTable, columns: list[TextColumn], show_values: bool, writer: _ShardWriter
) -> None:
    """Write a table of texts in one reading; in two where the first batches do not tell the types of all."""
    with closing(table.batches()) as batches:
        looked = ((arrays, [column.read(array) for column, array in zip(columns, arrays)]) for arrays in batches)
        first = deque(islice(looked, _FIRST_BATCHES))
        schema = _schema_of(columns)
        writer.repeating = [column.look.name for column in columns if column.look.repeats]

        def fitting() -> Iterator[_Read]:
            while first:
                yield first.popleft()
            for arrays, read in looked:
                if _schema_of(columns) != schema:
                    raise _OtherTypes
                yield arrays, read

        try:
            writer.write(_converted(source, fitting(), columns, schema, show_values), schema)
            return
        except _OtherTypes:
            writer.clear()
        for _ in looked:
            pass
    _write_known(source, table, columns, _schema_of(columns), show_values, writer)


def _write_known(
    source: Path,
    table: ForeignTable,
    columns: list[TextColumn],
    schema: pa.Schema,
    show_values: bool,
    writer: _ShardWriter,
) -> None:
    """Write a table of which the types are known."""
    with closing(table.batches()) as batches:
        unread: Iterator[_Read] = ((arrays, [None] * len(arrays)) for arrays in batches)
        writer.write(_converted(source, unread, columns, schema, show_values), schema)


def _converted(
    source: Path, batches: Iterator[_Read], columns: list[TextColumn], schema: pa.Schema, show_values: bool
) -> Iterator[pa.RecordBatch]:
    first_row = 0
    for arrays, read in batches:
        converted = []
        for column, type_, array, values in zip(columns, schema.types, arrays, read):
            try:
                converted.append(column.values(array, values, type_))
            except Misfit as misfit:
                value = cell(array[misfit.row].as_py(), shown=show_values)
                row = first_row + misfit.row + 1
                raise ShardError(
                    f"{source}: column {column.look.name!r}, row {row} (the header not counted): "
                    f"the value {value} does not fit {column.target or type_}; "
                    "correct it or give the column another type, such as string"
                ) from None
        first_row += len(arrays[0])
        yield pa.RecordBatch.from_arrays(converted, schema=schema)


@dataclass
class _ShardWriter:
    """Writes shards into a folder.

    Attributes:
        folder: The folder.
        rows: Of every shard but the last.
        repeating: Columns whose values repeat; None: all. Only these get a dictionary in the file.
        parts: Names of the shards.
        written_bytes: Of all shards.
    """

    folder: Path
    rows: int
    repeating: list[str] | None = None
    parts: list[str] = field(default_factory=list)
    written_bytes: int = 0

    def write(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> None:
        """Write all batches."""
        for shard in _shards(batches, schema, self.rows):
            part = self.folder / f"part-{len(self.parts):05d}.parquet"
            self.parts.append(part.name)
            before = self.written_bytes
            dictionary = True if self.repeating is None else self.repeating
            with part.open("wb") as file:
                with pq.ParquetWriter(file, schema, use_dictionary=dictionary) as writer:
                    for group in shard:
                        writer.write_table(group.unify_dictionaries())
                        self.written_bytes = before + file.tell()
                os.fsync(file.fileno())

    def clear(self) -> None:
        """Delete what was written."""
        for name in self.parts:
            (self.folder / name).unlink()
        self.parts.clear()


def _shards(batches: Iterator[pa.RecordBatch], schema: pa.Schema, rows: int) -> Iterator[Iterator[pa.Table]]:
    """Shards of ``rows`` rows. Each is an iterator of row groups, which must be used up before the next shard."""
    filled = (batch for batch in batches if len(batch))
    rest: pa.RecordBatch | None = next(filled, None)

    def groups() -> Iterator[pa.Table]:
        nonlocal rest
        room = rows
        while rest is not None and room:
            pending: list[pa.RecordBatch] = []
            group_rows = group_bytes = 0
            while rest is not None and room and group_rows < _GROUP_ROWS and group_bytes < _GROUP_BYTES:
                head = rest.slice(0, min(room, _GROUP_ROWS - group_rows))
                pending.append(head)
                group_rows, room, group_bytes = group_rows + len(head), room - len(head), group_bytes + head.nbytes
                rest = rest.slice(len(head)) if len(head) < len(rest) else next(filled, None)
            yield pa.Table.from_batches(pending, schema)

    yield groups()
    while rest is not None:
        yield groups()


@contextmanager
def _whole_or_nothing(destination: Path) -> Iterator[Path]:
    """A temporary folder beside ``destination``: renamed to it when the block ends, deleted when the block fails."""
    destination = destination.resolve()
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise InputError(f"{destination}: exists and is not an empty folder; choose another")
    destination.parent.mkdir(parents=True, exist_ok=True)
    with replacing(destination) as folder:
        folder.mkdir()
        yield folder
