"""CSV, TSV, Excel and Feather into Parquet shards: streamed, the types settled once for the whole file."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data.foreign import ForeignTable, open_foreign
from shardsynth.data.text_types import NULL_TEXTS, Guess, Misfit, Wanted, convert, guess, parquet_type, parse_type
from shardsynth.errors import InputError, ShardError, SpaceError, no_folder_there
from shardsynth.standalone.files import replacing

_GROUP_ROWS, _GROUP_BYTES = 1 << 17, 64 << 20  # a row group is closed at the first of the two
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
) -> list[Path]:
    """Turn one file into Parquet shards ``part-00000.parquet`` ... in a new folder.

    Text (CSV, TSV, Excel) is read twice: once to find, for every column, the narrowest type that holds all its values
    (empty, bool, int64, float64, date, timestamp, else string), once to convert. Numbers with leading zeros and
    integers that int64 cannot hold stay strings. Missing is an empty field or one of ``null_values``; a quoted one
    (``""``) is an empty string in a column of strings. Blank lines are skipped. Feather and Arrow files
    keep their types.

    Args:
        source: ``.csv``, ``.tsv``, ``.tab`` or ``.txt`` (also with ``.gz``, ``.bz2``, ``.zst`` or ``.lz4`` behind it),
            ``.xlsx`` or ``.xlsm``, ``.feather``, ``.arrow``, ``.arrows`` or ``.ipc``.
        destination: Folder to make; may exist if it is empty. It appears whole or not at all.
        types: Column name to Arrow type (see ``text_types.parse_type``), for columns whose type is not to be inferred.
        rows_per_shard: Rows in every shard but the last.
        delimiter: One character; by default a tab for ``.tsv`` and ``.tab``, else the one of ``,``, ``;``, tab and
            ``|`` that the header uses most.
        sheet: Excel sheet; may be left out when the workbook has only one.
        null_values: Texts that mean missing, instead of ``text_types.NULL_TEXTS``.
        encoding: Encoding of a text file; a byte order mark overrules the default.
        show_values: An error also quotes the value at fault: it may be a patient's.

    Returns:
        The shards, in order; at least one, even if it has no rows.

    Raises:
        InputError: The source or an option cannot be used, or the destination holds something.
        ShardError: The file's content is at fault: where, and the type wanted, and the value only with ``show_values``.
        SpaceError: The disk or the quota is full; nothing is left behind.
    """
    source, destination = Path(source), Path(destination)
    if rows_per_shard < 1:
        raise InputError(f"rows_per_shard is {rows_per_shard}: it must be 1 or more")
    nulls = tuple(NULL_TEXTS if null_values is None else null_values)
    wanted = {name: parse_type(text) for name, text in (types or {}).items()}
    table = open_foreign(source, delimiter, sheet, nulls, encoding)
    _check_names(source, table.fields.names, wanted)
    written = 0
    try:
        with _whole_or_nothing(destination) as folder:
            schema = _settle(source, table, wanted, nulls)
            batches = _converted(source, table, schema, wanted, nulls, show_values)
            parts: list[str] = []
            for shard in _shards(batches, schema, rows_per_shard):
                part = folder / f"part-{len(parts):05d}.parquet"
                parts.append(part.name)
                with part.open("wb") as file:
                    with pq.ParquetWriter(file, schema) as writer:
                        for group in shard:
                            writer.write_table(group.unify_dictionaries())
                            written = sum(each.stat().st_size for each in folder.iterdir())
                    os.fsync(file.fileno())
    except (FileExistsError, NotADirectoryError):
        raise InputError(no_folder_there(destination.parent)) from None
    except OSError as error:
        if error.errno in _FULL:
            raise SpaceError(
                f"{destination}: the disk or the quota is full after {written:,} bytes of shards from a source of "
                f"{source.stat().st_size:,} bytes; nothing was kept: make room and run the import again"
            ) from None
        raise InputError(f"{destination}: cannot be written: {error.strerror or error}") from None
    return [destination / name for name in parts]


def _check_names(source: Path, names: list[str], wanted: Iterable[str]) -> None:
    seen: dict[str, int] = {}
    for position, name in enumerate(names, 1):
        if not name.strip():
            raise ShardError(
                f"{source}: column {position} of {len(names)} has no name: give it one in the header "
                "(a nameless first column is often a row index that the program before wrote)"
            )
        if name in seen:
            raise ShardError(f"{source}: columns {seen[name]} and {position} are both named {name!r}: rename one")
        seen[name] = position
    for name in wanted:
        if name not in seen:
            near = difflib.get_close_matches(name, names, 1)
            raise InputError(
                f"{source}: a type is given for {name!r}, but there is no such column"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )


def _settle(source: Path, table: ForeignTable, wanted: dict[str, Wanted], nulls: tuple[str, ...]) -> pa.Schema:
    """The schema of the shards; for text, from a pass over the whole file."""
    if not table.is_text:
        fields = []
        for each in table.fields:
            kind = wanted[each.name].type if each.name in wanted else parquet_type(each.type)
            if kind is None:
                raise ShardError(f"{source}: column {each.name!r}: Parquet cannot hold {each.type}: give another type")
            fields.append(each.with_type(kind))
        return pa.schema(fields, metadata=table.fields.metadata)
    guesses = [Guess("string") if name in wanted else Guess() for name in table.fields.names]
    for arrays in table.batches():
        for column, array in enumerate(arrays):
            if guesses[column].family != "string":
                guesses[column] = guesses[column].join(guess(array, nulls))
    return pa.schema(
        [
            (name, wanted[name].type if name in wanted else found.type)
            for name, found in zip(table.fields.names, guesses)
        ]
    )


def _converted(
    source: Path,
    table: ForeignTable,
    schema: pa.Schema,
    wanted: dict[str, Wanted],
    nulls: tuple[str, ...],
    show_values: bool,
) -> Iterator[pa.RecordBatch]:
    targets = [wanted.get(each.name, Wanted(each.type)) for each in schema]
    first = 0
    for arrays in table.batches():
        columns = []
        for target, each, array in zip(targets, schema, arrays):
            try:
                columns.append(convert(array, target, nulls))
            except Misfit as misfit:
                found = repr(array[misfit.row].as_py()) if show_values else "(--show-values quotes it)"
                raise ShardError(
                    f"{source}: column {each.name!r}, row {first + misfit.row + 1} (the header not counted): "
                    f"the value {found} does not fit {target}; "
                    "correct it or give the column another type, such as string"
                ) from None
        first += len(arrays[0])
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _shards(batches: Iterator[pa.RecordBatch], schema: pa.Schema, rows: int) -> Iterator[Iterator[pa.Table]]:
    """Shards of ``rows`` rows, each an iterator of row groups that is to be used up before the next one."""
    queue = (batch for batch in batches if len(batch))
    rest: pa.RecordBatch | None = next(queue, None)

    def groups() -> Iterator[pa.Table]:
        nonlocal rest
        room = rows
        while rest is not None and room:
            pending: list[pa.RecordBatch] = []
            held = size = 0
            while rest is not None and room and held < _GROUP_ROWS and size < _GROUP_BYTES:
                taken = rest.slice(0, min(room, _GROUP_ROWS - held))
                pending.append(taken)
                held, room, size = held + len(taken), room - len(taken), size + taken.nbytes
                rest = rest.slice(len(taken)) if len(taken) < len(rest) else next(queue, None)
            yield pa.Table.from_batches(pending, schema)

    yield groups()
    while rest is not None:
        yield groups()


@contextmanager
def _whole_or_nothing(destination: Path) -> Iterator[Path]:
    """A folder beside ``destination`` that takes its name when the block ends well, and vanishes otherwise."""
    destination = destination.resolve()
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise InputError(f"{destination}: exists and is not an empty folder; choose another")
    destination.parent.mkdir(parents=True, exist_ok=True)
    with replacing(destination) as folder:
        folder.mkdir()
        yield folder
