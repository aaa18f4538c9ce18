"""Folders that are tables of Delta Lake or Iceberg: their own metadata say which files hold the rows of now.

A Delta table is read by its log (https://github.com/delta-io/delta/blob/master/PROTOCOL.md), an Iceberg table by its
metadata: all files of the folder together would be rows of every time.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data.footers import NULL_PARTITION
from shardsynth.data.iceberg import iceberg_files, is_iceberg
from shardsynth.errors import ShardError

#: Features of a Delta table that a reader must know, of those that do not change which rows a file has.
_HARMLESS = {"timestampNtz", "vacuumProtocolCheck", "variantType", "typeWidening", "v2Checkpoint"}
_Files = list[tuple[Path, tuple[tuple[str, str], ...]]]


def table_files(folder: Path) -> _Files | None:
    """Files of such a table that hold its rows, each with its partition keys and values; None for a plain folder.

    Raises:
        ShardError: It is such a table, and needs a reader of its own.
    """
    if (folder / "_delta_log").is_dir():
        return _delta_files(folder)
    if is_iceberg(folder):
        return [(path, ()) for path in iceberg_files(folder)]
    return None


def _delta_files(folder: Path) -> _Files:
    files: dict[str, dict[str, Any]] = {}
    log = folder / "_delta_log"
    names = sorted(path.name for path in log.iterdir())
    start, parts = _last_checkpoint(folder, names)
    try:
        for part in parts:
            for action in pq.read_table(log / part).to_pylist():
                _apply(folder, action, files)
        for name in names:
            match = re.fullmatch(r"(\d{20})\.json", name)
            if match and int(match[1]) > start:
                for line in (log / name).read_text("utf-8").splitlines():
                    if line.strip():
                        _apply(folder, json.loads(line), files)
    except (ValueError, TypeError, KeyError, AttributeError, pa.ArrowException, OSError):
        raise ShardError(f"{log}: the log of the Delta table cannot be read; write the rows as plain Parquet") from None
    if not files:
        raise ShardError(f"{folder}: the Delta table has no file")
    return [(folder / unquote(path), _partition(add)) for path, add in files.items()]


def _last_checkpoint(folder: Path, names: list[str]) -> tuple[int, list[str]]:
    """Version of the last checkpoint, and its files; -1 and none without one."""
    found: dict[int, list[str]] = {}
    for name in names:
        match = re.fullmatch(r"(\d{20})\.checkpoint(?:\.\d{10}\.(\d{10}))?\.parquet", name)
        if match:
            found.setdefault(int(match[1]), []).append(name)
        elif re.fullmatch(r"\d{20}\.checkpoint\..*", name):
            raise ShardError(f"{folder}: the Delta table has a checkpoint of a newer kind; {_PLAIN}")
    if not found:
        if "00000000000000000000.json" not in names:
            raise ShardError(f"{folder}: the log of the Delta table has no beginning; {_PLAIN}")
        return -1, []
    version = max(found)
    return version, sorted(found[version])


_PLAIN = "write its rows as plain Parquet first, such as by deltalake: DeltaTable(folder).to_pyarrow_table()"


def _apply(folder: Path, action: dict[str, Any], files: dict[str, dict[str, Any]]) -> None:
    add, remove, protocol, metadata = (action.get(key) for key in ("add", "remove", "protocol", "metaData"))
    if protocol:
        unknown = set(protocol.get("readerFeatures") or ()) - _HARMLESS
        if (protocol.get("minReaderVersion") or 1) == 2:
            unknown.add("columnMapping")
        used = {"columnMapping", "deletionVectors"} & unknown
        if unknown - used:
            raise ShardError(f"{folder}: the Delta table needs {', '.join(sorted(unknown - used))}; {_PLAIN}")
    if metadata:
        configuration = dict(metadata.get("configuration") or {})
        if configuration.get("delta.columnMapping.mode", "none") != "none":
            raise ShardError(f"{folder}: the Delta table maps column names; {_PLAIN}")
    if remove:
        files.pop(remove["path"], None)
    if add:
        if add.get("deletionVector"):
            raise ShardError(f"{folder}: the Delta table has deletion vectors; {_PLAIN}")
        if re.match(r"\w+:", add["path"]):
            raise ShardError(f"{folder}: the Delta table has files in other places; {_PLAIN}")
        files[add["path"]] = add


def _partition(add: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    values = dict(add.get("partitionValues") or {})
    return tuple((key, NULL_PARTITION if value is None else str(value)) for key, value in values.items())
