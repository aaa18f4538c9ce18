"""SDV's Metadata V2 of the shards: read and checked, as columns, as keys, and without what is personal.

Only ``read`` imports sdv.
"""

from __future__ import annotations

import copy
import json
import re
import tempfile
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.columns import Column, role_of_sdtype
from shardsynth.data.distinct_persons import persons_per_code
from shardsynth.data.layouts import LAYOUT
from shardsynth.data.values import axis_of_native, kind_of
from shardsynth.errors import MetadataError, did_you_mean
from shardsynth.standalone.files import read_json

if TYPE_CHECKING:
    from shardsynth.data.tallies import TableTallies

TABLE = "table"
#: Kinds of Arrow values (``values.kind_of``) that a column of each sdtype can have; of a personal sdtype: text.
KINDS = {
    "numerical": {"integer", "float", "decimal", "temporal", "text"},
    "datetime": {"temporal", "text", "integer"},
    "boolean": {"boolean"},
    "categorical": {"text", "boolean", "integer", "float", "decimal", "temporal"},
    "ordinal": {"text", "boolean", "integer", "float", "decimal", "temporal"},
    "id": {"text", "integer", "float"},
    "unknown": {"text", "integer"},
}
#: Personal sdtypes whose values can also be numbers.
_NUMERIC_PII = {"latitude", "longitude", "postcode", "zipcode"}


_NO_FORM = (
    "is no SDV metadata of one table; wanted columns: a mapping of each column to its options, which have an sdtype"
)


def columns(metadata: dict[str, Any], schema: pa.Schema, empty: Collection[str] = ()) -> list[Column]:
    """One ``Column`` per field of the schema, in its order.

    Args:
        metadata: SDV V2 metadata of one table.
        schema: The shards' schema.
        empty: Columns without any value. Those that ``detection.detect`` marked as empty need not be named.

    Raises:
        MetadataError: A field has no column in the metadata.
    """
    described = table_of(metadata)["columns"]
    result = []
    for field in schema:
        if field.name not in described:
            raise MetadataError(f"the metadata lack the column {field.name!r}{_nearest(field.name, described)}")
        options = dict(described[field.name])
        sdtype = options.pop("sdtype")
        no_values = pa.types.is_null(field.type) or field.name in empty or _is_empty(sdtype, options)
        role = "empty" if no_values else role_of_sdtype(sdtype)
        result.append(Column(field.name, field.type, sdtype, role, options))
    return result


def table_of(metadata: dict[str, Any]) -> dict[str, Any]:
    """Description of the only table in SDV V2 metadata: its columns and keys."""
    (table,) = metadata["tables"].values()
    return dict(table)


def for_sdv(metadata: dict[str, Any]) -> dict[str, Any]:
    """A copy of the metadata without what SDV does not know."""
    known = copy.deepcopy(metadata)
    for options in table_of(known)["columns"].values():
        options.pop(LAYOUT, None)
    return known


def keys_of(metadata: dict[str, Any]) -> list[str]:
    """Columns whose values never repeat: the primary key and alternate keys; no part of a composite key."""
    table = table_of(metadata)
    primary = table.get("primary_key")
    if isinstance(primary, list) and len(primary) == 1:
        (primary,) = primary
    keys = [primary, *table.get("alternate_keys", [])]
    return [key for key in keys if isinstance(key, str)]


def composite_key(metadata: dict[str, Any]) -> list[str]:
    """Columns of a primary key of several columns; empty without one. Each can repeat, all together cannot."""
    primary = table_of(metadata).get("primary_key")
    return [str(name) for name in primary] if isinstance(primary, list) and len(primary) > 1 else []


def check_composite(metadata: dict[str, Any]) -> None:
    """Check that at least one column of a composite key is not learned: only such a column makes rows unique.

    Raises:
        MetadataError: All columns of the key are learned, or one of them does not exist.
    """
    key = composite_key(metadata)
    described = table_of(metadata)["columns"]
    for name in key:
        if name not in described:
            raise MetadataError(f"primary_key: no column is called {name!r}{_nearest(name, described)}")
    if key and not any(role_of_sdtype(described[name]["sdtype"]) in ("id", "pii") for name in key):
        raise MetadataError(
            f"primary_key {key}: all its columns are learned, so rows would repeat; SDV wants each to be 'id' or "
            "personal: make at least one of them 'id' in the metadata"
        )


def _is_empty(sdtype: str, options: dict[str, Any]) -> bool:
    """Whether ``detection`` marked the column as one without any value."""
    return sdtype == "unknown" and options.get("pii") is False


def public(
    metadata: dict[str, Any],
    profile: TableTallies | None = None,
    min_count: int = 5,
    persons: np.ndarray[Any, np.dtype[np.uint64]] | None = None,
) -> dict[str, Any]:
    """A copy of the metadata without what can identify a person; SDV can still load it.

    It lacks ``range_min`` and ``range_max``, each of which is the value of one person, and rare categories.

    Args:
        metadata: SDV V2 metadata of one table.
        profile: Exact counts over all training rows; None removes every category.
        min_count: Categories with fewer rows are removed.
        persons: uint64[rows of the sample], hashes of the persons of the row sample, where persons are counted:
            categories that fewer than ``min_count`` of them have are removed, too.
    """
    published = copy.deepcopy(metadata)
    for name, options in table_of(published)["columns"].items():
        options.pop("range_min", None)
        options.pop("range_max", None)
        options.pop(LAYOUT, None)
        categories = options.pop("range_values", None)
        if not categories or profile is None or name not in profile.schema.names:
            continue
        counted = profile[name].value_counts()
        if counted is None:
            continue
        values = plain_values(profile[name])
        common = {value for value, count in zip(values, counted[1].tolist()) if count >= min_count}
        if persons is not None:
            common &= of_enough_persons(profile, name, values, persons, min_count)
        common_categories = [value for value in categories if value in common]
        if common_categories:
            options["range_values"] = common_categories
    return published


def of_enough_persons(
    profile: TableTallies, name: str, values: list[Any], persons: np.ndarray[Any, np.dtype[np.uint64]], least: int
) -> set[Any]:
    """The categories that at least ``least`` persons of the row sample have.

    Args:
        profile: Exact counts, in which the column's values were counted.
        name: The column.
        values: Its ``plain_values``.
        persons: uint64[rows of the sample], hashes of the persons of the row sample.
        least: Fewest persons.
    """
    distinct = profile[name].values_as_arrow()
    column = profile.sample.column(name)
    place = pc.index_in(column.cast(distinct.type), value_set=distinct)
    codes = place.combine_chunks().fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.int64)
    counts = persons_per_code(codes, persons, len(values) + 1)
    return {value for value, count in zip(values, counts.tolist()) if count >= least}


def plain_values(tally: Any) -> list[Any]:
    """Distinct values of a column in canonical order, as JSON can hold them; they must have been counted."""
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
    """A float as SDV gets it from ``frames``: rounded to ``digits``, the decimals of its column; None: as it is."""
    return value if digits is None else float(np.round(value, digits))


def read(path: str | Path, schema: pa.Schema, *, validate: bool = True) -> dict[str, Any]:
    """A user's SDV metadata as V2 of one table called "table", with its columns in the schema's order.

    Older forms are upgraded by SDV: ``V1`` of several tables, ``SINGLE_TABLE_V1``, and the ``fields`` form of SDV 0.x.

    Args:
        path: JSON file.
        schema: The shards' schema.
        validate: Whether SDV also validates V2 metadata. If not, sdv is not imported for them.

    Raises:
        MetadataError: The file is not JSON or does not describe one table; a column is missing or too many (the message
            has the nearest name); a column's Arrow type cannot hold its sdtype; or SDV's own validation fails.
    """
    path = Path(path)
    try:
        data = read_json(path)
    except OSError as error:
        raise MetadataError(f"{path}: the metadata cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise MetadataError(f"{path}: not a JSON file: {error}") from None
    except RecursionError:
        raise MetadataError(f"{path}: is nested too deeply; wanted SDV metadata of one table") from None
    if not isinstance(data, dict):
        raise MetadataError(f"{path}: wanted SDV metadata, a JSON object; found {type(data).__name__}")
    tables = data.get("tables", {TABLE: data})
    if not isinstance(tables, dict) or len(tables) != 1:
        found = len(tables) if isinstance(tables, dict) else type(tables).__name__
        raise MetadataError(f"{path}: wanted metadata of one table, found {found}")
    name = next(iter(tables))
    without_sdv = not validate and data.get("METADATA_SPEC_VERSION") == "V2" and is_plain(tables[name])
    table = dict(tables[name]) if without_sdv else table_of(_loaded(path, data, name))
    check_columns(path, table["columns"], schema)
    table["columns"] = {name: table["columns"][name] for name in schema.names}
    return {"tables": {TABLE: table}, "relationships": [], "METADATA_SPEC_VERSION": "V2"}


def is_plain(table: Any) -> bool:
    """Whether a table of V2 metadata has the form that this module can read without SDV."""
    described = table.get("columns") if isinstance(table, dict) else None
    return isinstance(described, dict) and all(
        isinstance(options, dict) and isinstance(options.get("sdtype"), str) for options in described.values()
    )


def _loaded(path: Path, data: dict[str, Any], name: str) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sdv.metadata import Metadata
        from sdv.metadata.errors import InvalidMetadataError

        try:
            if "tables" not in data and "fields" in data:
                data = {"tables": {TABLE: data}}
            old = any(isinstance(table, dict) and "fields" in table for table in data.get("tables", {}).values())
            metadata = _upgraded(data) if old else Metadata.load_from_dict(data, None if "tables" in data else name)
            metadata.validate()
        except (TypeError, KeyError, AttributeError, RecursionError):  # SDV takes its form for granted
            raise MetadataError(f"{path}: {_NO_FORM}") from None
        except (InvalidMetadataError, ValueError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            why = "; ".join(lines[1:4] or lines) or type(error).__name__
            if re.search(r"\w\(\) (argument|missing|got)", why):
                raise MetadataError(f"{path}: {_NO_FORM}") from None
            raise MetadataError(f"{path}: SDV refuses the metadata: {why}{_nearest_sdtype(why)}") from None
        return dict(metadata.to_dict())


def _upgraded(data: dict[str, Any]) -> Any:
    """Upgraded metadata of SDV 0.x, through a temporary file: SDV upgrades only files."""
    from sdv.metadata import Metadata

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "metadata.json")
        file.write_text(json.dumps(data), encoding="utf-8")
        return Metadata.upgrade_metadata(str(file))


def check_columns(path: Path, described: dict[str, Any], schema: pa.Schema) -> None:
    """MetadataError where the columns of metadata are not those of the shards, or cannot have their sdtypes."""
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


def _check_type(path: Path, name: str, options: dict[str, Any], type_: pa.DataType) -> None:
    sdtype, kind = options["sdtype"], kind_of(type_)
    if kind == "null" or _is_empty(sdtype, options):
        return
    allowed = KINDS.get(sdtype, {"text", "integer", "float", "decimal"} if sdtype in _NUMERIC_PII else {"text"})
    if kind not in allowed:
        fitting = [other for other, kinds in KINDS.items() if kind in kinds and other != "unknown"]
        raise MetadataError(
            f"{path}: the column {name!r} is of type {type_}, which cannot be of sdtype {sdtype!r}; "
            f"possible: {', '.join(fitting) or 'none, leave the column out'}"
        )
    is_clock = pa.types.is_time(type_) or pa.types.is_duration(type_)
    if sdtype == "datetime" and (is_clock or (kind != "temporal" and not options.get("datetime_format"))):
        hint = "write 'numerical'" if is_clock else "add its datetime_format, such as '%Y-%m-%d'"
        raise MetadataError(f"{path}: the column {name!r} of type {type_} cannot be read as sdtype 'datetime'; {hint}")


def _nearest(name: str, names: Collection[str]) -> str:
    return did_you_mean(name, names, 0.6)


def _nearest_sdtype(message: str) -> str:
    match = re.search(r"[Ii]nvalid sdtype:? '([^']*)'", message)
    return _nearest(match.group(1), list(KINDS)) if match else ""
