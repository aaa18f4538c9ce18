"""Iceberg tables: the files of the present snapshot, by the table's own metadata (https://iceberg.apache.org/spec/).

The folder has files of all times. What needs more than a list of files is refused: rows deleted within a file, and
columns that were renamed, added or dropped since a file was written.
"""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data.avro import AvroError, read_avro
from shardsynth.errors import ShardError

_METADATA = re.compile(r"(?:v(\d+)|(\d+)-.*)(?:\.gz)?\.metadata\.json(?:\.gz)?$")
_DELETED = 2
_PLAIN = "write its rows as plain Parquet first, such as by pyiceberg: table.scan().to_arrow()"


def is_iceberg(folder: Path) -> bool:
    """Whether a folder is an Iceberg table."""
    metadata = folder / "metadata"
    return metadata.is_dir() and any(_METADATA.fullmatch(path.name) for path in metadata.iterdir())


def iceberg_files(folder: Path) -> list[Path]:
    """Files that hold the rows of the present snapshot, in their order.

    Raises:
        ShardError: The table needs a reader of its own, or its metadata are damaged.
    """
    try:
        table = _metadata(folder)
        snapshots = {snapshot["snapshot-id"]: snapshot for snapshot in table.get("snapshots") or ()}
        present = snapshots.get(table.get("current-snapshot-id"))
        if present is None:
            raise ShardError(f"{folder}: the Iceberg table has no rows")
        location = str(table["location"])
        if "manifest-list" in present:
            manifests = read_avro(_here(folder, location, present["manifest-list"]))
        else:
            manifests = [{"manifest_path": path} for path in present["manifests"]]
        files = []
        for manifest in manifests:
            for entry in read_avro(_here(folder, location, manifest["manifest_path"])):
                if entry["status"] == _DELETED:
                    continue
                data = entry["data_file"]
                if data.get("content", 0) or manifest.get("content", 0):
                    raise ShardError(f"{folder}: the Iceberg table has rows deleted within files; {_PLAIN}")
                if str(data["file_format"]).upper() != "PARQUET":
                    raise ShardError(f"{folder}: the Iceberg table has files that are not Parquet; {_PLAIN}")
                files.append(_here(folder, location, data["file_path"]))
        names = _names(table)
    except (AvroError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ShardError(f"{folder}: metadata of the Iceberg table cannot be read ({error}); {_PLAIN}") from None
    if not files:
        raise ShardError(f"{folder}: the Iceberg table has no rows")
    for path in files:
        _check_columns(folder, path, names)
    return sorted(files)


def _metadata(folder: Path) -> dict[str, Any]:
    """The newest metadata of the table."""
    found: list[tuple[int, int, dict[str, Any]]] = []
    paths = [(path, _METADATA.fullmatch(path.name)) for path in sorted((folder / "metadata").iterdir())]
    newest = max(int(match[1] or match[2]) for _, match in paths if match)
    for path, match in paths:
        if match and int(match[1] or match[2]) == newest:
            raw = path.read_bytes()
            data = json.loads(gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw)
            found.append((newest, int(data.get("last-updated-ms", 0)), data))
    if len(found) > 1:
        raise ShardError(f"{folder}: the Iceberg table has {len(found)} newest metadata files; {_PLAIN}")
    return found[0][2]


def _here(folder: Path, location: str, written: str) -> Path:
    """The place of a file in the folder, which may have been moved."""
    start, path = (unquote(urlparse(text).path).rstrip("/") for text in (location, written))
    if not path.startswith(f"{start}/"):
        raise ShardError(f"{folder}: the Iceberg table has files in other places; {_PLAIN}")
    return folder / path[len(start) + 1 :]


def _names(table: dict[str, Any]) -> dict[int, str]:
    """Columns of the present schema, by their id."""
    schemas = table.get("schemas") or [table["schema"]]
    present = table.get("current-schema-id", schemas[0].get("schema-id", 0))
    schema = next(schema for schema in schemas if schema.get("schema-id", 0) == present)
    return {int(field["id"]): str(field["name"]) for field in schema["fields"]}


def _check_columns(folder: Path, path: Path, names: dict[int, str]) -> None:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError):
        raise ShardError(f"{path}: a file of the Iceberg table is not there, or is damaged") from None
    ids = {field.name: (field.metadata or {}).get(b"PARQUET:field_id") for field in schema}
    found = {int(key) if key is not None else None: name for name, key in ids.items()}
    if None not in found and found != names or set(schema.names) != set(names.values()):
        raise ShardError(
            f"{folder}: columns of the Iceberg table were renamed, added or dropped after files were written; {_PLAIN}"
        )
