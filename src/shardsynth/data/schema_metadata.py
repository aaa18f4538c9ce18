"""Key-value metadata of Parquet files: what a synthetic file may have of them, and what is left out.

Whoever writes a file can put anything there: pandas its ``attrs`` and a range index, GeoParquet a bounding box, others
their notes. It is data of the real file, so it is in no plan, no model and no sample. Only keys whose values have a
form of their own go on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

#: Key of a field -> form of its value: Arrow's own keys that say nothing but what the field is, and the codebook that
#: ``import`` reads from files of statistics programs (``codebook``).
_KEPT_OF_FIELDS = {
    b"PARQUET:field_id": re.compile(rb"-?\d{1,10}"),
    b"shardsynth.label": re.compile(rb".{1,4000}", re.DOTALL),
    b"shardsynth.value_labels": re.compile(rb"\{.*\}", re.DOTALL),
    b"shardsynth.missing": re.compile(rb"\[.*\]", re.DOTALL),
    b"shardsynth.format": re.compile(rb"[%\w.$: -]{1,60}"),
    b"shardsynth.width": re.compile(rb"\d{1,4}"),
    b"shardsynth.measure": re.compile(rb"nominal|ordinal|scale"),
    b"shardsynth.kinds_of": re.compile(rb".{1,4000}", re.DOTALL),
    b"shardsynth.source": re.compile(rb"\w{1,12}"),
}


def without_notes(schema: pa.Schema) -> pa.Schema:
    """The schema without metadata, its own and its fields', that are not Arrow's: names, types and order stay."""
    fields = [(field.remove_metadata(), _kept(field.metadata)) for field in schema]
    return pa.schema([field.with_metadata(kept) if kept else field for field, kept in fields])


def notes_of(schema: pa.Schema, footer: Mapping[bytes, bytes] | None = None) -> list[str]:
    """What ``without_notes`` leaves out, as phrases for the terminal: keys and where they stand, never a value.

    Args:
        schema: Of a real file.
        footer: Key-value metadata of its Parquet footer, of which Arrow does not read all into the schema.
    """
    metadata = schema.metadata or {}
    keys = dict.fromkeys([*metadata, *(key for key in footer or {} if key != b"ARROW:schema")])
    notes = [f"of the file: {_shown(key)}" for key in keys]
    notes += [f"the index {_shown(name)} of pandas, which is no column" for name in _range_indexes(metadata)]
    for field in schema:
        dropped = [key for key in field.metadata or {} if key not in _kept(field.metadata)]
        notes += [f"of column {field.name!r}: {_shown(key)}" for key in dropped]
    return notes


def _kept(metadata: Mapping[bytes, bytes] | None) -> dict[bytes, bytes]:
    return {
        key: value
        for key, value in (metadata or {}).items()
        if key in _KEPT_OF_FIELDS and _KEPT_OF_FIELDS[key].fullmatch(value)
    }


def _range_indexes(metadata: Mapping[bytes, bytes]) -> list[str]:
    """Names of the ranges that pandas keeps as a table's index."""
    try:
        indexes: Any = json.loads(metadata.get(b"pandas", b"{}")).get("index_columns", [])
        return [str(index["name"]) for index in indexes if isinstance(index, dict) and index.get("name") is not None]
    except (ValueError, AttributeError, TypeError):
        return []


def _shown(key: bytes | str) -> str:
    text = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
    return repr(text if len(text) <= 60 else text[:60] + "...")
