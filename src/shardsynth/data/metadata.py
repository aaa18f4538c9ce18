"""SDV's Metadata V2 for the shards: detected by SDV on the row sample and corrected by exact counts, read, published.

Only ``detect`` and ``read`` import sdv; ``columns`` and ``public`` are plain dictionary code.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from shardsynth.data.columns import Column, role_of_sdtype
from shardsynth.data.values import axis_of_native, kind_of
from shardsynth.errors import MetadataError, did_you_mean

if TYPE_CHECKING:
    from shardsynth.data.tallies import TableTallies

TABLE = "table"
#: Kinds of Arrow values (``values.kind_of``) that each sdtype can be; a personal sdtype is text.
KINDS = {
    "numerical": {"integer", "float", "decimal", "temporal"},
    "datetime": {"temporal", "text", "integer"},
    "boolean": {"boolean"},
    "categorical": {"text", "boolean", "integer", "float", "decimal", "temporal"},
    "ordinal": {"text", "boolean", "integer", "float", "decimal", "temporal"},
    "id": {"text", "integer", "float"},
    "unknown": {"text", "integer"},
}
#: Personal sdtypes whose made-up values can also be numbers.
NUMERIC_PII = {"latitude", "longitude", "postcode", "zipcode"}


def columns(metadata: dict[str, Any], schema: pa.Schema, empty: Collection[str] = ()) -> list[Column]:
    """One ``Column`` per field of the schema, in its order.

    Args:
        metadata: SDV V2 metadata of one table.
        schema: The shards' schema.
        empty: Columns known to hold nothing but missing values (``detect`` marks its own).

    Raises:
        MetadataError: A field has no column in the metadata.
    """
    described = table_of(metadata)["columns"]
    found = []
    for field in schema:
        if field.name not in described:
            raise MetadataError(f"the metadata lack the column {field.name!r}{_nearest(field.name, described)}")
        options = dict(described[field.name])
        sdtype = options.pop("sdtype")
        nothing = pa.types.is_null(field.type) or field.name in empty or _is_empty(sdtype, options)
        found.append(Column(field.name, field.type, sdtype, "empty" if nothing else role_of_sdtype(sdtype), options))
    return found


def table_of(metadata: dict[str, Any]) -> dict[str, Any]:
    """The one table's part of SDV V2 metadata: its columns and keys."""
    (table,) = metadata["tables"].values()
    return dict(table)


def keys_of(metadata: dict[str, Any]) -> list[str]:
    """Columns whose values never repeat: the primary key (of a composite one see ``composite_key``), alternate keys."""
    table = table_of(metadata)
    primary = table.get("primary_key")
    if isinstance(primary, list) and len(primary) == 1:
        (primary,) = primary
    keys = [primary, *table.get("alternate_keys", [])]
    return [key for key in keys if isinstance(key, str)]


def composite_key(metadata: dict[str, Any]) -> list[str]:
    """Columns of a primary key of several columns, which repeat but not together; none where there is no such key."""
    primary = table_of(metadata).get("primary_key")
    return [str(name) for name in primary] if isinstance(primary, list) and len(primary) > 1 else []


def check_composite(metadata: dict[str, Any]) -> None:
    """MetadataError where no column of a composite key is made from the row number, which is what makes rows unique."""
    key = composite_key(metadata)
    described = table_of(metadata)["columns"]
    for name in key:
        if name not in described:
            raise MetadataError(f"primary_key: no column is called {name!r}{_nearest(name, described)}")
    if key and not any(role_of_sdtype(described[name]["sdtype"]) in ("id", "pii") for name in key):
        raise MetadataError(
            f"primary_key {key}: its columns are all learned, so that rows would repeat; SDV wants each to be 'id' or "
            "personal: make at least one of them 'id' in the metadata"
        )


def _is_empty(sdtype: str, options: dict[str, Any]) -> bool:
    """``detect`` marks a column without any value by the sdtype that SDV does not model, not personal."""
    return sdtype == "unknown" and options.get("pii") is False


def public(metadata: dict[str, Any], profile: TableTallies | None = None, min_count: int = 5) -> dict[str, Any]:
    """The same metadata with nothing that can identify a person; SDV still loads them.

    Gone are ``range_min`` and ``range_max`` (one person's value each) and every category seen fewer than ``min_count``
    times; without a profile, every category.
    """
    shown = copy.deepcopy(metadata)
    for name, options in table_of(shown)["columns"].items():
        options.pop("range_min", None)
        options.pop("range_max", None)
        listed = options.pop("range_values", None)
        if not listed or profile is None or name not in profile.schema.names:
            continue
        counted = profile[name].value_counts()
        if counted is None:
            continue
        values = plain_values(profile[name])
        common = {value for value, count in zip(values, counted[1].tolist()) if count >= min_count}
        kept = [value for value in listed if value in common]
        if kept:
            options["range_values"] = kept
    return shown


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def plain_values(tally: Any) -> list[Any]:
    """Distinct values in canonical order, as JSON has them."""
    counted = tally.value_counts()
    assert counted is not None
    if isinstance(counted[0], pa.Array):
        return list(counted[0].to_pylist())
    if pa.types.is_boolean(tally.type):
        return [bool(value) for value in counted[0]]
    if pa.types.is_decimal(tally.type):
        return list(axis_of_native(counted[0], tally.type).tolist())
    if pa.types.is_floating(tally.type):
        digits = tally.grid.digits if tally.grid.kind == "decimal" else None
        return [shown_value(value, digits) for value in counted[0].tolist()]
    return list(counted[0].tolist())


def shown_value(value: float, digits: int | None) -> float:
    """A float as ``frames`` shows it to SDV: with the decimals of its column, None: as it is."""
    return value if digits is None else float(np.round(value, digits))


def read(path: str | Path, schema: pa.Schema, *, validate: bool = True) -> dict[str, Any]:
    """A user's SDV metadata, as V2 of one table called "table", its columns in the schema's order.

    Older forms that SDV itself upgrades are upgraded: multi-table ``V1``, ``SINGLE_TABLE_V1``, and the ``fields`` form
    of SDV 0.x.

    Args:
        path: JSON file.
        schema: The shards' schema.
        validate: Whether SDV itself validates V2 metadata; without, sdv is not imported for them.

    Raises:
        MetadataError: Not JSON, not one table, a column missing or too many (with the nearest name), an sdtype that
            the column's Arrow type cannot be, or whatever SDV's own validation refuses.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MetadataError(f"{path}: the metadata cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise MetadataError(f"{path}: not a JSON file: {error}") from None
    if not isinstance(data, dict):
        raise MetadataError(f"{path}: wanted SDV metadata, a JSON object; found {type(data).__name__}")
    tables = data.get("tables", {TABLE: data})
    if not isinstance(tables, dict) or len(tables) != 1:
        raise MetadataError(f"{path}: wanted metadata of one table, found {len(tables)}")
    name = next(iter(tables))
    plain = not validate and data.get("METADATA_SPEC_VERSION") == "V2" and _is_plain(tables[name])
    table = dict(tables[name]) if plain else table_of(_loaded(path, data, name))
    _check_columns(path, table["columns"], schema)
    table["columns"] = {name: table["columns"][name] for name in schema.names}
    return {"tables": {TABLE: table}, "relationships": [], "METADATA_SPEC_VERSION": "V2"}


def _is_plain(table: Any) -> bool:
    """Whether a table's V2 metadata have the form that the rest of this module reads."""
    described = table.get("columns") if isinstance(table, dict) else None
    return isinstance(described, dict) and all(
        isinstance(options, dict) and isinstance(options.get("sdtype"), str) for options in described.values()
    )


def _loaded(path: Path, data: dict[str, Any], name: str) -> dict[str, Any]:
    with _quiet():
        from sdv.metadata import Metadata
        from sdv.metadata.errors import InvalidMetadataError

        try:
            if "tables" not in data and "fields" in data:
                data = {"tables": {TABLE: data}}
            old = any(isinstance(table, dict) and "fields" in table for table in data.get("tables", {}).values())
            metadata = _upgraded(data) if old else Metadata.load_from_dict(data, None if "tables" in data else name)
            metadata.validate()
        except (InvalidMetadataError, ValueError, TypeError, KeyError, AttributeError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            why = "; ".join(lines[1:4] or lines) or type(error).__name__
            raise MetadataError(f"{path}: SDV refuses the metadata: {why}{_nearest_sdtype(why)}") from None
        return dict(metadata.to_dict())


def _upgraded(data: dict[str, Any]) -> Any:
    """Metadata of SDV 0.x; SDV upgrades only files."""
    import tempfile

    from sdv.metadata import Metadata

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "metadata.json")
        file.write_text(json.dumps(data), encoding="utf-8")
        return Metadata.upgrade_metadata(str(file))


def _check_columns(path: Path, described: dict[str, Any], schema: pa.Schema) -> None:
    for name in schema.names:
        if name not in described:
            raise MetadataError(
                f"{path}: the column {name!r} of the shards is not in the metadata{_nearest(name, described)}"
            )
    for name, options in described.items():
        if name not in schema.names:
            raise MetadataError(
                f"{path}: the column {name!r} of the metadata is not in the shards{_nearest(name, schema.names)}"
            )
        _check_type(path, name, options, schema.field(name).type)


def _check_type(path: Path, name: str, options: dict[str, Any], kind: pa.DataType) -> None:
    sdtype, nature = options["sdtype"], kind_of(kind)
    if nature == "null" or _is_empty(sdtype, options):
        return
    allowed = KINDS.get(sdtype, {"text", "integer", "float", "decimal"} if sdtype in NUMERIC_PII else {"text"})
    if nature not in allowed:
        fitting = [other for other, kinds in KINDS.items() if nature in kinds and other != "unknown"]
        raise MetadataError(
            f"{path}: the column {name!r} is of type {kind}, which cannot be of sdtype {sdtype!r}; "
            f"possible: {', '.join(fitting) or 'none, leave the column out'}"
        )
    clock = pa.types.is_time(kind) or pa.types.is_duration(kind)
    if sdtype == "datetime" and (clock or (nature != "temporal" and not options.get("datetime_format"))):
        hint = "write 'numerical'" if clock else "add its datetime_format, such as '%Y-%m-%d'"
        raise MetadataError(f"{path}: the column {name!r} of type {kind} cannot be read as sdtype 'datetime'; {hint}")


def _nearest(name: str, names: Collection[str]) -> str:
    return did_you_mean(name, names, 0.6)


def _nearest_sdtype(message: str) -> str:
    found = re.search(r"[Ii]nvalid sdtype:? '([^']*)'", message)
    return _nearest(found.group(1), list(KINDS)) if found else ""
