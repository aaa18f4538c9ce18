"""Open a folder, glob, list or single file of Parquet shards; check that they have one schema; stream batches.

Where the types of a column differ between shards, they agree on one that holds all their values (``agreed_types``), or
the error names the file, the column and both types.
"""

from __future__ import annotations

import errno
import glob as globbing
import os
import re
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data.agreed_types import agreed_type
from shardsynth.data.dictionary_index import differ_by_index, in_type, open_wide, with_room, with_widest
from shardsynth.data.footers import NULL_PARTITION, Footer, int96_columns, read_footer, without_repeated
from shardsynth.data.stored_types import as_type, plain_schema
from shardsynth.data.table_folders import table_files
from shardsynth.data.values import kind_of
from shardsynth.errors import ShardError
from shardsynth.standalone.regular import refuse_special

BATCH_ROWS = 65_536
_PARTITION = re.compile(r"^([^=/]+)=(.*)$")


@dataclass(frozen=True)
class Shard:
    """One input Parquet file, frozen as it was when the run was planned.

    Attributes:
        path: Absolute path.
        size: Bytes.
        mtime_ns: Modification time, nanoseconds.
        group_rows: Rows of each row group.
        partition: Key and value, as text, of each ``key=value`` folder above it.
    """

    path: str
    size: int
    mtime_ns: int
    group_rows: tuple[int, ...]
    partition: tuple[tuple[str, str], ...] = ()

    @property
    def rows(self) -> int:
        """Rows of the whole file."""
        return sum(self.group_rows)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the plan."""
        return {
            "path": self.path,
            "size": self.size,
            "mtime_ns": self.mtime_ns,
            "group_rows": list(self.group_rows),
            "partition": [list(item) for item in self.partition],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Shard:
        """The shard that ``to_json`` gave."""
        return cls(
            data["path"],
            data["size"],
            data["mtime_ns"],
            tuple(data["group_rows"]),
            tuple((key, value) for key, value in data["partition"]),
        )

    def check_unchanged(self) -> None:
        """Check that the file is as it was when the run was planned.

        Raises:
            ShardError: The file is gone, or its size or modification time is another.
        """
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise ShardError(
                f"{self.path}: the shard was there when the run was planned and is not now: {error}"
            ) from None
        if (status.st_size, status.st_mtime_ns) != (self.size, self.mtime_ns):
            raise ShardError(
                f"{self.path}: the shard changed since the run was planned "
                f"({self.size} bytes then, {status.st_size} now); plan a new run in another output folder"
            )


@dataclass(frozen=True)
class Dataset:
    """Shards in natural name order, and the one Arrow schema that they share.

    Attributes:
        shards: The shards.
        schema: Their schema, without the key-value metadata that are data of the real files.
        notes: What the schema leaves out of these (see ``schema_metadata.notes_of``).
        wider: Dictionary columns whose index is wider than in the files, which it would not hold all together.
        agreed: Columns that the shards write in several types, each as a phrase with the type on which they agree.
    """

    shards: tuple[Shard, ...]
    schema: pa.Schema
    notes: tuple[str, ...] = ()
    wider: tuple[str, ...] = ()
    agreed: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of all shards, from the Parquet footers."""
        return sum(shard.rows for shard in self.shards)


def natural_key(text: str) -> list[Any]:
    """Sort key that puts part-2 before part-10."""
    return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in re.split(r"(\d+)", text) if piece]


def find_shards(source: str | list[str]) -> list[tuple[Path, tuple[tuple[str, str], ...]]]:
    """Paths of the shards in a folder, glob, file or list of these, each with its partition keys and values.

    Files and folders whose name starts with ``_`` or ``.`` are ignored.

    Raises:
        ShardError: There are no shards.
    """
    partition_of: dict[Path, tuple[tuple[str, str], ...]] = {}
    for item in [source] if isinstance(source, str) else source:
        path = Path(item)
        _check_name(path)
        refuse_special(path)
        if path.is_dir() and (table := table_files(path)) is not None:
            partition_of.update({file.absolute(): partition for file, partition in table})
        elif path.is_dir():
            files = [p for p in _files_under(path) if _visible(p.relative_to(path))]
            parquet = [p for p in files if p.suffix in (".parquet", ".pq")]
            if not parquet:
                other = (
                    f"; it holds {len(files)} other files: `shardsynth import` turns CSV, Excel or Feather into shards"
                )
                raise ShardError(f"{item}: the folder holds no .parquet file{other if files else ''}")
            for p in parquet:
                partition_of[p.absolute()] = _partition(p.relative_to(path))
        elif path.is_file():
            partition_of[path.absolute()] = ()
        elif globbing.has_magic(item):
            matches = [
                Path(m)
                for m in globbing.glob(item, recursive=True)
                if not Path(m).is_dir() and _visible(Path(Path(m).name))
            ]
            if not matches:
                raise ShardError(f"{item}: no file matches the pattern")
            partition_of.update({m.absolute(): () for m in matches})
        else:
            raise ShardError(_broken_link(path) or f"{item}: no such file or folder")
    for path in partition_of:
        refuse_special(path)
    return sorted(partition_of.items(), key=lambda entry: natural_key(str(entry[0])))


def _check_name(path: Path) -> None:
    """ShardError for what can be no path."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise ShardError(f"{str(path)[:80]}: {error.strerror}") from None


def open_shards(source: str | list[str], *, widen: bool = False) -> Dataset:
    """Read every footer once, and find the schema of the table.

    Args:
        source: Folder, glob or file, or a list of these; a folder can be a Delta table.
        widen: Whether types of a column agree that can lose the last digits of a value.

    Raises:
        ShardError: There is no shard, one cannot be read, their schemas differ, or no model can hold a column.
    """
    paths = find_shards(source)
    with ThreadPoolExecutor(min(16, len(paths))) as threads:
        opened = list(threads.map(lambda entry: _open(*entry), paths))
    shards = tuple(shard for shard, _ in opened)
    far = {name for _, footer in opened for name in footer.far}
    schemas = [footer.in_microseconds(far) for _, footer in opened]
    schema = schemas[0]
    agreed: dict[str, str] = {}
    for shard, other in zip(shards[1:], schemas[1:]):
        schema = _agreed(shards[0], schema, shard, other, widen, agreed)
    schema = with_widest(schema, (other.field(name) for other in schemas[1:] for name in schema.names))
    schema = plain_schema(schema)
    schema = _with_partitions(schema, shards)
    _check_columns(shards[0], schema)
    schema, wider = _with_room(schema, shards)
    all_notes = dict.fromkeys(note for _, footer in opened for note in footer.notes)
    return Dataset(shards, schema, tuple(all_notes), tuple(wider), tuple(agreed.values()))


def read_batches(
    shard: Shard,
    schema: pa.Schema,
    groups: range | None = None,
    batch_rows: int = BATCH_ROWS,
    names: Collection[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Record batches of a shard in the dataset's schema, read one at a time.

    Args:
        shard: The shard.
        schema: The dataset's schema.
        groups: Row groups to read (default: all).
        batch_rows: Most rows of a batch.
        names: Columns to read (default: all); they come in the schema's order.

    Raises:
        ShardError: The shard changed since the run was planned, or cannot be read.
    """
    shard.check_unchanged()
    if names is not None:
        schema = pa.schema([field for field in schema if field.name in names])
    partition_keys = {key for key, _ in shard.partition}
    file_names = None if names is None else [name for name in schema.names if name not in partition_keys]
    try:
        with pq.ParquetFile(shard.path, pre_buffer=False, memory_map=False) as file:
            own = {field.name: field.type for field in file.schema_arrow}
            int96 = int96_columns(file)
        wider = [
            f.name for f in schema if f.name in own and f.type != own[f.name] and differ_by_index(f.type, own[f.name])
        ]
        types = [schema.field(name).type for name in int96 if name in schema.names]
        unit = next((type_.unit for type_ in types if pa.types.is_timestamp(type_)), None)
        names_read = [name for name in schema.names if name in own]
        file_names = names_read if file_names is None and names_read != list(own) else file_names
        with open_wide(shard.path, wider, unit) as file:
            batches = file.iter_batches(
                batch_size=batch_rows,
                row_groups=list(groups if groups is not None else range(file.num_row_groups)),
                columns=file_names,
                use_threads=False,
            )
            for batch in batches:
                yield _with_schema(batch if file_names is None else batch.select(file_names), shard, schema)
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(f"{shard.path}: the shard cannot be read: {_first_line(error)}") from None


def _with_schema(batch: pa.RecordBatch, shard: Shard, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with the columns of its ``key=value`` folders, in the dataset's schema."""
    types = {field.name: field.type for field in schema}
    arrays = {}
    for name, array in zip(batch.schema.names, batch.columns):
        try:
            arrays[name] = as_type(in_type(array, types[name]), types[name])
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise ShardError(
                f"{shard.path}: the column {name!r} of type {array.type} has a value that the type {types[name]}, on "
                "which the shards agree, cannot hold; write all shards with one type"
            ) from None
    for key, value in shard.partition:
        if key not in schema.names or key in arrays:
            continue
        field = schema.field(key)
        scalar = None if value == NULL_PARTITION else value
        rows = pa.array([0] * batch.num_rows, pa.int32())
        arrays[key] = pa.array([scalar], pa.string()).cast(field.type).take(rows)
    return pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)


def _files_under(folder: Path) -> Iterator[Path]:
    """All in a folder and its subfolders that is no folder. Links are followed; to open a broken one fails later."""

    def refuse(error: OSError) -> None:  # without an error, nobody would notice that its rows are missing
        raise ShardError(f"{error.filename}: the folder cannot be read ({error.strerror}); name the shards by a glob")

    visited: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        visited.add(os.path.realpath(root))
        folders[:] = [
            name
            for name in folders
            if _visible(Path(name)) and os.path.realpath(os.path.join(root, name)) not in visited
        ]
        yield from (Path(root, name) for name in names)


def _broken_link(path: Path) -> str:
    """Error message for a broken link; empty for any other path."""
    if not path.is_symlink() or path.exists():
        return ""
    return (
        f"{path}: is a broken link: {os.readlink(path)} is not there; bring it back, or take the link out of the input"
    )


def _visible(relative: Path) -> bool:
    return not any(part.startswith(("_", ".")) for part in relative.parts)


def _partition(relative: Path) -> tuple[tuple[str, str], ...]:
    matches = [_PARTITION.match(part) for part in relative.parts[:-1]]
    return tuple((unquote(m.group(1)), unquote(m.group(2))) for m in matches if m)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _open(path: Path, partition: tuple[tuple[str, str], ...]) -> tuple[Shard, Footer]:
    try:
        status = path.stat()
        footer = read_footer(path)
        partition = without_repeated(path, footer.schema, partition)
    except PermissionError:
        raise ShardError(f"{path}: may not be read by this user; chmod u+r it, or take it out of the input") from None
    except pa.ArrowNotImplementedError as error:
        raise ShardError(
            f"{path}: has a column that Arrow cannot read ({_first_line(error)}): write columns of 128-bit integers as "
            "decimals or text, or leave them out"
        ) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(
            _broken_link(path)
            or f"{path}: not a whole Parquet file ({_first_line(error)}); write it again or take it out of the input"
        ) from None
    names = footer.schema.names
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise ShardError(f"{path}: the column name {repeated[0]!r} stands more than once; rename one of them")
    return Shard(str(path), status.st_size, status.st_mtime_ns, footer.group_rows, partition), footer


def _agreed(
    first: Shard, schema: pa.Schema, shard: Shard, other: pa.Schema, widen: bool, agreed: dict[str, str]
) -> pa.Schema:
    """The schema of the first shards and of one more; ``agreed`` gets a phrase for each column of several types."""
    for name in schema.names:
        if name not in other.names:
            raise ShardError(f"{shard.path}: the column {name!r} is missing; {first.path} has it")
    for name in other.names:
        if name not in schema.names:
            raise ShardError(f"{shard.path}: the column {name!r} is not in {first.path}")
    if [key for key, _ in first.partition] != [key for key, _ in shard.partition]:
        raise ShardError(f"{shard.path}: is in other key=value folders than {first.path}")
    fields = []
    for field in schema:
        found = other.field(field.name)
        type_ = (
            field.type if differ_by_index(field.type, found.type) else agreed_type(field.type, found.type, widen=widen)
        )
        if type_ is None:
            losing = agreed_type(field.type, found.type, widen=True)
            raise ShardError(
                f"{shard.path}: the column {field.name!r} is of type {found.type}, but {field.type} in {first.path}; "
                + (f"--widen reads it as {losing}, which can lose digits; or " if losing is not None else "")
                + "write all shards with one type"
            )
        if type_ != field.type or (type_ != found.type and not differ_by_index(type_, found.type)):
            agreed[field.name] = f"{field.name!r} is {type_}, which holds what the shards write in several types"
        fields.append(field.with_type(type_).with_nullable(field.nullable or found.nullable))
    return pa.schema(fields)


def _with_room(schema: pa.Schema, shards: tuple[Shard, ...]) -> tuple[pa.Schema, list[str]]:
    try:
        return with_room(schema, [shard.path for shard in shards])
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(f"the dictionary columns of the shards cannot be read: {_first_line(error)}") from None


def _with_partitions(schema: pa.Schema, shards: tuple[Shard, ...]) -> pa.Schema:
    for position, (key, _) in enumerate(shards[0].partition):
        values = [shard.partition[position][1] for shard in shards]
        all_integers = all(re.match(r"^-?(0|[1-9]\d{0,17})$", value) for value in values if value != NULL_PARTITION)
        schema = schema.append(pa.field(key, pa.int64() if all_integers else pa.string()))
    return schema


def _check_columns(shard: Shard, schema: pa.Schema) -> None:
    if not schema.names:
        raise ShardError(f"{shard.path}: the shard has no columns")
    nested, others = [], []
    for field in schema:
        type_ = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        phrase = f"{field.name!r} ({field.type if len(str(field.type)) < 60 else str(field.type)[:60] + '...'})"
        if pa.types.is_nested(type_):
            nested.append(phrase)
        elif kind_of(type_) in ("binary", "nested"):
            others.append(phrase)
    if nested:
        raise ShardError(
            f"{shard.path}: no model can hold lists and structs: {', '.join(nested)}; make a flat table: shardsynth "
            "import DATA -o NEW --unnest, with --leave-out COLUMN for each list"
        )
    if others:
        raise ShardError(
            f"{shard.path}: no model can hold bytes and intervals: {', '.join(others)}; cast them to text or numbers, "
            "or leave the columns out"
        )
