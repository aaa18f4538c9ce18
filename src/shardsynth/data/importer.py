"""From CSV, TSV, Excel and Feather to Parquet shards: read in batches, with one type per column of the whole file."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data.column_looks import ColumnLook
from shardsynth.data.foreign import ForeignTable, open_foreign
from shardsynth.data.text_types import (
    NULL_TEXTS,
    Guess,
    Misfit,
    TargetType,
    convert,
    guess_trimmed,
    parquet_type,
    parse_type,
    trimmed,
)
from shardsynth.data.writer import NO_SPACE
from shardsynth.errors import InputError, ShardError, SpaceError, cell, did_you_mean, no_folder_there
from shardsynth.standalone.files import replacing

_GROUP_ROWS, _GROUP_BYTES = 1 << 17, 64 << 20  # a row group ends at the limit that it reaches first


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
    looks: list[ColumnLook] | None = None,
) -> list[Path]:
    """Turn one file into Parquet shards ``part-00000.parquet`` ... in a new folder.

    Text (CSV, TSV, Excel) is read twice: first to find the narrowest type that can hold all values of each column
    (empty, bool, int64, float64, date, timestamp, clock time, else string), then to convert. Numbers with leading zeros
    and integers that int64 cannot hold stay strings. An empty field, or one of ``null_values``, is missing. In a
    column of strings, a quoted empty field (``""``) is an empty string. Blank lines are skipped. Feather and Arrow
    files keep their types.

    Args:
        source: ``.csv``, ``.tsv``, ``.tab`` or ``.txt`` (also with ``.gz``, ``.bz2``, ``.zst`` or ``.lz4`` behind it),
            ``.xlsx`` or ``.xlsm``, ``.feather``, ``.arrow``, ``.arrows`` or ``.ipc``.
        destination: Folder to make; it can exist if it is empty. It has all shards, or is not made.
        types: Column name to Arrow type (see ``text_types.parse_type``), for columns whose type is not to be guessed.
        rows_per_shard: Rows in every shard but the last.
        delimiter: One character. The default is a tab for ``.tsv`` and ``.tab``, else the one of ``,``, ``;``, tab and
            ``|`` that the header uses most.
        sheet: Name of the Excel sheet; can be left out when the workbook has only one.
        null_values: Texts that mean missing, instead of ``text_types.NULL_TEXTS``.
        encoding: Encoding of a text file. If it is the default, a byte order mark in the file wins.
        show_values: Whether an error quotes the value at fault, which can be personal.
        max_unpacked: Most bytes that a packed file may unpack to (default: 100 times its size, and at least 1 GB; of a
            workbook at least 256 MB).
        skip_rows: Lines above the header of a text file that are left out. Lines of comments (``##``, or two or more
            with ``#``) and Excel's ``sep=;`` are found.
        looks: Gets what each column of a text file looks like.

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
    table = open_foreign(source, delimiter, sheet, nulls, encoding, max_unpacked, skip_rows)
    _check_names(source, table.fields.names, targets)
    written_bytes = 0
    try:
        with _whole_or_nothing(destination) as folder:
            schema = _shard_schema(source, table, targets, nulls, looks)
            parts: list[str] = []
            with closing(_converted(source, table, schema, targets, nulls, show_values)) as batches:
                for shard in _shards(batches, schema, rows_per_shard):
                    part = folder / f"part-{len(parts):05d}.parquet"
                    parts.append(part.name)
                    with part.open("wb") as file:
                        with pq.ParquetWriter(file, schema) as writer:
                            for group in shard:
                                writer.write_table(group.unify_dictionaries())
                                written_bytes = sum(path.stat().st_size for path in folder.iterdir())
                        os.fsync(file.fileno())
    except (FileExistsError, NotADirectoryError):
        raise InputError(no_folder_there(destination.parent)) from None
    except OSError as error:
        if error.errno in NO_SPACE:
            raise SpaceError(
                f"{destination}: the disk or the quota is full after {written_bytes:,} bytes of shards from a source "
                f"of {source.stat().st_size:,} bytes; nothing was kept: make room and run the import again"
            ) from None
        raise InputError(f"{destination}: cannot be written: {error.strerror or error}") from None
    return [destination / name for name in parts]


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


def _shard_schema(
    source: Path,
    table: ForeignTable,
    targets: dict[str, TargetType],
    nulls: tuple[str, ...],
    looks: list[ColumnLook] | None,
) -> pa.Schema:
    """The schema of the shards; for text, the whole file is read to guess it."""
    if not table.is_text:
        fields = []
        for field in table.fields:
            type_ = targets[field.name].type if field.name in targets else parquet_type(field.type)
            if type_ is None:
                raise ShardError(
                    f"{source}: column {field.name!r}: Parquet cannot hold {field.type}: give another type"
                )
            fields.append(field.with_type(type_))
        return pa.schema(fields, metadata=table.fields.metadata)
    guesses = [Guess("string") if name in targets else Guess() for name in table.fields.names]
    seen = [ColumnLook(name) for name in table.fields.names]
    with closing(table.batches()) as batches:
        for arrays in batches:
            for column, array in enumerate(arrays):
                texts = trimmed(array, nulls)
                seen[column].update(texts)
                if guesses[column].family != "string":
                    guesses[column] = guesses[column].join(guess_trimmed(texts))
    types = [targets[name].type if name in targets else g.type for name, g in zip(table.fields.names, guesses)]
    if looks is not None:
        looks += [look.of_type(type_) for look, type_ in zip(seen, types)]
    return pa.schema(list(zip(table.fields.names, types)))


def _converted(
    source: Path,
    table: ForeignTable,
    schema: pa.Schema,
    targets: dict[str, TargetType],
    nulls: tuple[str, ...],
    show_values: bool,
) -> Generator[pa.RecordBatch, None, None]:
    targets_in_order = [targets.get(field.name, TargetType(field.type)) for field in schema]
    with closing(table.batches()) as batches:
        yield from _converted_batches(source, batches, schema, targets_in_order, nulls, show_values)


def _converted_batches(
    source: Path,
    batches: Iterator[list[pa.Array]],
    schema: pa.Schema,
    targets_in_order: list[TargetType],
    nulls: tuple[str, ...],
    show_values: bool,
) -> Iterator[pa.RecordBatch]:
    first_row = 0
    for arrays in batches:
        columns = []
        for target, field, array in zip(targets_in_order, schema, arrays):
            try:
                columns.append(convert(array, target, nulls))
            except Misfit as misfit:
                value = cell(array[misfit.row].as_py(), shown=show_values)
                raise ShardError(
                    f"{source}: column {field.name!r}, row {first_row + misfit.row + 1} (the header not counted): "
                    f"the value {value} does not fit {target}; "
                    "correct it or give the column another type, such as string"
                ) from None
        first_row += len(arrays[0])
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


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
