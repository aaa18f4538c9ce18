"""Arrow tables to the pandas frames that SDV's synthesizers accept and learn best, and back to the exact Arrow schema.

What SDV wants: text as object, no pandas ``category``, whole numbers with gaps as float, decimals as float, dates and
zoned timestamps as naive UTC ``datetime64[ns]``, times and durations as counts of their unit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.columns import Column
from shardsynth.data.grid import grid_for
from shardsynth.data.values import decimals_of, needs_parsing
from shardsynth.errors import MetadataError, ModelError

if TYPE_CHECKING:
    import pandas as pd

_NANOSECONDS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_NAT = np.iinfo(np.int64).min
_LARGEST_WHOLE = 2**53


def to_pandas(table: pa.Table | pa.RecordBatch, columns: Iterable[Column] | None = None) -> pd.DataFrame:
    """Frame with the table's columns, in SDV's dtypes.

    Dates and timestamps that pandas' nanoseconds cannot hold (before 1677, after 2262) come as float counts of their
    own unit; so do dates of role ``category``. float32 values come as the shortest decimal that means the same float32
    (0.2, not 0.20000000298), so that SDV learns their digits.

    Args:
        table: Rows; only its own columns are converted.
        columns: What the columns are; without it, every column is taken for what its Arrow type says.

    Raises:
        MetadataError: Text that does not follow its column's ``datetime_format``.
    """
    import pandas as pd

    known = {column.name: column for column in columns or ()}
    data: dict[str, Any] = {}
    for field, array in zip(table.schema, table.columns):
        chunk = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        data[field.name] = _to_series(known.get(field.name), field.name, chunk)
    return pd.DataFrame(data, index=pd.RangeIndex(table.num_rows))


def _to_series(column: Column | None, name: str, array: pa.Array) -> Any:
    import pandas as pd

    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind, role = array.type, column.role if column else None
    missing = array.null_count > 0
    if pa.types.is_null(kind):
        return np.full(len(array), None, dtype=object)
    if pa.types.is_boolean(kind):
        return array.to_numpy(zero_copy_only=False)
    if pa.types.is_integer(kind):
        if column is not None and needs_parsing(column):
            return _parse(column, np.array(array.cast(pa.string()).to_pylist(), dtype=object), pd)
        return _numbers(array, missing)
    if pa.types.is_decimal(kind):
        values = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return np.round(values, kind.scale) if 0 <= kind.scale <= 22 else values
    if pa.types.is_floating(kind):
        values = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return values if pa.types.is_float64(kind) else shortest(array.type, values)
    if pa.types.is_temporal(kind):
        counts = array.view(_storage(kind))
        dates = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
        return _datetimes(counts, kind) if dates and role != "category" else _numbers(counts, missing)
    text = np.array(array.to_pylist(), dtype=object)
    if column is not None and role == "datetime":
        return _parse(column, text, pd)
    return text


def _numbers(array: pa.Array, missing: bool) -> np.ndarray[Any, Any]:
    if not missing and not pa.types.is_uint64(array.type):
        return np.asarray(array.to_numpy(zero_copy_only=False)).astype(np.int64)
    if not missing and len(array) and pc.max(array).as_py() < 2**63:
        return np.asarray(array.to_numpy(zero_copy_only=False)).astype(np.int64)
    return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def shortest(kind: pa.DataType, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Values of a narrow float type, in float64, as the shortest decimals that mean them; all of them or none."""
    grid = grid_for(kind).extended(values[np.isfinite(values)])
    return np.round(values, grid.digits) if grid.kind == "decimal" else values


def _storage(kind: pa.DataType) -> pa.DataType:
    return pa.int32() if kind.bit_width == 32 else pa.int64()


def _unit(kind: pa.DataType) -> str:
    if pa.types.is_date32(kind):
        return "D"
    return "ms" if pa.types.is_date64(kind) else str(kind.unit)


def _factor(kind: pa.DataType) -> int:
    """Nanoseconds of one count of a date or timestamp type."""
    return _DAY["ns"] if pa.types.is_date32(kind) else _NANOSECONDS[_unit(kind)]


def nanoseconds_of(column: Column) -> int:
    """Nanoseconds of one unit of a datetime column's axis; text is parsed to nanoseconds."""
    kind = column.value_type
    return _factor(kind) if pa.types.is_timestamp(kind) or pa.types.is_date(kind) else 1


def _datetimes(counts: pa.Array, kind: pa.DataType) -> np.ndarray[Any, Any]:
    factor = _factor(kind)
    if counts.null_count < len(counts):
        low, high = pc.min_max(counts).as_py().values()
        if low * factor <= _NAT or high * factor > np.iinfo(np.int64).max:
            return _numbers(counts, counts.null_count > 0)
    present = np.asarray(counts.is_valid().to_numpy(zero_copy_only=False))
    values = np.asarray(counts.cast(pa.int64()).fill_null(0).to_numpy()) * factor
    return np.where(present, values, _NAT).view("datetime64[ns]")


def _parse(column: Column, text: np.ndarray[Any, Any], pd: Any) -> Any:
    layout = _pandas_format(column)
    parsed = pd.Series(pd.to_datetime(pd.Series(text, dtype=object), format=layout, errors="coerce", utc=True))
    wrong = np.flatnonzero(parsed.isna().to_numpy() & ~pd.isna(text))
    if len(wrong):
        raise MetadataError(
            f"column {column.name!r}: {len(wrong)} of {len(text)} values are no dates of the datetime_format "
            f"{column.options.get('datetime_format')!r} (the first one in row {wrong[0]} of the sample)"
        )
    return parsed.dt.tz_localize(None).to_numpy().astype("datetime64[ns]")


def _pandas_format(column: Column) -> str | None:
    layout = column.options.get("datetime_format")
    return None if layout is None else str(layout).replace("%-", "%").replace("%#", "%")


def to_arrow(
    frame: pd.DataFrame,
    schema: pa.Schema,
    columns: Iterable[Column],
    *,
    ready: Mapping[str, pa.Array] | None = None,
    categories: Mapping[str, pa.Array] | None = None,
    nan: Collection[str] = (),
    clip: bool = True,
) -> pa.RecordBatch:
    """Record batch whose schema equals ``schema`` exactly, field and schema metadata included.

    Args:
        frame: Values in the dtypes of ``to_pandas``; may lack the columns of ``ready`` and of role ``empty``.
        schema: The input's schema.
        columns: One per field, in order; ``options`` carry SDV's ``range_min``, ``range_max``, ``range_values``.
        ready: Finished columns (identifiers, constants), of the field's type.
        categories: The dictionary of a dictionary column, so that bytes do not depend on the batch; default:
            ``range_values``, in their order.
        nan: Floating columns whose missing values are NaN rather than null.
        clip: Clip numbers and dates to ``range_min`` and ``range_max``.

    Raises:
        ModelError: A column's values do not fit its type, or are missing where the field forbids it.
    """
    arrays = []
    for field, column in zip(schema, columns):
        try:
            if ready and column.name in ready:
                array = ready[column.name]
            elif column.role == "empty" or pa.types.is_null(field.type):
                array = pa.nulls(len(frame), field.type)
            else:
                array = _to_array(frame[column.name], column, column.name in nan, clip)
                if pa.types.is_dictionary(field.type):
                    array = _to_dictionary(array, column, (categories or {}).get(column.name))
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise ModelError(
                f"column {column.name!r} of type {field.type}: the drawn values do not fit the type "
                f"({type(error).__name__}); check the column's sdtype ({column.sdtype}) in the metadata"
            ) from error
        if array.null_count and not field.nullable:
            if not pa.types.is_floating(field.type):
                raise ModelError(
                    f"column {column.name!r} of type {field.type} is not nullable, but missing values were drawn for it"
                )
            array = array.fill_null(float("nan"))
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _to_array(series: pd.Series[Any], column: Column, nan: bool, clip: bool) -> pa.Array:
    kind = column.value_type
    missing = series.isna().to_numpy()
    dates = series.dtype.kind == "M"
    low, high = _bounds(column) if clip and column.role in ("number", "datetime") else (None, None)
    if pa.types.is_boolean(kind):
        values = series.to_numpy(dtype=object, na_value=False) if missing.any() else series.to_numpy()
        return pa.array(values.astype(bool), kind, mask=missing)
    if pa.types.is_integer(kind) and dates:
        return _format(series, column, pa.string(), clip).cast(kind)
    if pa.types.is_integer(kind):
        dtype = kind.to_pandas_dtype()
        return pa.array(_whole(_plain(series), missing, dtype, low, high), kind, mask=missing)
    if pa.types.is_decimal(kind):
        return _to_decimal(_clipped(_plain(series).astype(np.float64), low, high), missing, kind)
    if pa.types.is_floating(kind):
        values = _clipped(_plain(series).astype(np.float64), low, high)
        return pa.array(values.astype(kind.to_pandas_dtype()), kind, mask=None if nan else missing)
    if pa.types.is_temporal(kind):
        return _to_temporal(_counts(series, kind) if dates else _plain(series), missing, kind, low, high)
    if dates:
        return _format(series, column, kind, clip)
    values = series.to_numpy(dtype=object)
    return pa.array(values, kind, mask=missing)


def _plain(series: pd.Series[Any]) -> np.ndarray[Any, Any]:
    import pandas as pd

    if series.dtype.kind not in "iuf":
        series = pd.to_numeric(series.astype(object).where(~series.isna(), None))
    return np.asarray(series.to_numpy(dtype=np.float64) if series.dtype.kind not in "iuf" else series.to_numpy())


def _clipped(values: np.ndarray[Any, Any], low: Any, high: Any) -> np.ndarray[Any, Any]:
    return values if low is None and high is None else np.clip(values, low, high)


def _whole(
    values: np.ndarray[Any, Any], missing: np.ndarray[Any, Any], dtype: Any, low: Any, high: Any
) -> np.ndarray[Any, Any]:
    """Values rounded and clipped to the integer type and to [low, high]; missing ones become some valid number."""
    info = np.iinfo(dtype)
    bottom = info.min if low is None else max(info.min, int(np.ceil(low)))
    top = info.max if high is None else min(info.max, int(np.floor(high)))
    if values.dtype.kind == "f":
        filled = np.rint(np.where(missing, bottom, values))
        fits = np.abs(filled) < _LARGEST_WHOLE
        if fits.all():
            values = filled.astype(np.int64)
        else:
            values = np.array([int(v) for v in np.clip(filled, -(2.0**64), 2.0**64)], dtype=object)
    if values.dtype != object and bottom >= -(2**63) and top < 2**63:
        return np.asarray(np.clip(values, bottom, top), dtype=dtype)
    return np.array([min(max(int(v), bottom), top) for v in values], dtype=dtype)


def _to_decimal(values: np.ndarray[Any, Any], missing: np.ndarray[Any, Any], kind: pa.DataType) -> pa.Array:
    scaled = np.where(missing, 0.0, values) * 10.0**kind.scale
    limit = 10.0**kind.precision - 1
    scaled = np.rint(np.clip(scaled, -limit, limit))
    if np.all(np.abs(scaled) < _LARGEST_WHOLE):
        halves = np.empty((len(scaled), 2), dtype=np.int64)
        halves[:, 0] = scaled.astype(np.int64)
        halves[:, 1] = halves[:, 0] >> 63
        wide = pa.decimal128(38, kind.scale)
        array = pa.Array.from_buffers(wide, len(scaled), [None, pa.py_buffer(halves.tobytes())])
        return pc.if_else(pa.array(missing), pa.scalar(None, wide), array).cast(kind)
    return pc.if_else(pa.array(missing), pa.scalar(None, kind), decimals_of(np.where(missing, 0.0, values), kind))


def _counts(series: pd.Series[Any], kind: pa.DataType) -> np.ndarray[Any, Any]:
    values = series.to_numpy()
    return np.asarray(values.astype("datetime64[ns]").view(np.int64) // _factor(kind))


def _to_temporal(
    counts: np.ndarray[Any, Any], missing: np.ndarray[Any, Any], kind: pa.DataType, low: Any, high: Any
) -> pa.Array:
    if pa.types.is_time(kind):
        low, high = max(low or 0, 0), min(_DAY[kind.unit] - 1, _DAY[kind.unit] - 1 if high is None else high)
    storage = _storage(kind)
    whole = _whole(counts, missing, storage.to_pandas_dtype(), low, high)
    if pa.types.is_date64(kind):
        whole -= whole % _DAY["ms"]
    return pa.array(whole, storage, mask=missing).view(kind)


def _format(series: pd.Series[Any], column: Column, kind: pa.DataType, clip: bool) -> pa.Array:
    import pandas as pd

    layout = column.options.get("datetime_format")
    if clip:
        edges = pd.Series([column.options.get("range_min"), column.options.get("range_max")], dtype=object)
        parsed = pd.to_datetime(edges, format=_pandas_format(column), errors="coerce", utc=True).dt.tz_localize(None)
        low, high = parsed
        series = series.mask(series < low, low).mask(series > high, high)
    stamps = series.dt.tz_localize("UTC") if layout and "%z" in str(layout).lower() else series
    text = stamps.dt.strftime(str(layout).replace("%#", "%-")) if layout else stamps.astype(str)
    return pa.array(text.to_numpy(dtype=object), kind, mask=series.isna().to_numpy())


def _bounds(column: Column) -> tuple[Any, Any]:
    """Range of the metadata on the column's own axis: numbers, or counts of a temporal type's unit; None: open."""
    import pandas as pd

    low, high = column.options.get("range_min"), column.options.get("range_max")
    kind = column.value_type
    if column.role == "number":
        return low, high
    if not pa.types.is_timestamp(kind) and not pa.types.is_date(kind):
        return None, None
    edges: list[int | None] = []
    for edge in (low, high):
        if edge is None:
            edges.append(None)
            continue
        try:
            moment = pd.Timestamp(edge)
            moment = moment.tz_convert("UTC").tz_localize(None) if moment.tz is not None else moment
            edges.append(int(moment.to_datetime64().astype(f"datetime64[{_unit(kind)}]").astype(np.int64)))
        except (ValueError, OverflowError):
            edges.append(None)
    return edges[0], edges[1]


def _to_dictionary(array: pa.Array, column: Column, categories: pa.Array | None) -> pa.Array:
    kind = column.type
    if categories is None and column.role == "category" and column.options.get("range_values"):
        categories = pa.array(column.options["range_values"], kind.value_type)
    indices = None
    if categories is not None and len(categories) - 1 <= _index_limit(kind):
        indices = pc.index_in(array, value_set=categories)
        if indices.null_count > array.null_count:
            indices = None  # some value is no category: only a dictionary of this batch holds it
    if indices is None:
        encoded = array.dictionary_encode()
        order = pc.sort_indices(encoded.dictionary)
        categories = encoded.dictionary.take(order)
        indices = pc.index_in(array, value_set=categories)
    if categories is not None and len(categories) - 1 > _index_limit(kind):
        raise ModelError(
            f"column {column.name!r} of type {kind}: {len(categories)} distinct values in one batch, "
            f"but the index type holds {_index_limit(kind) + 1}"
        )
    return pa.DictionaryArray.from_arrays(indices.cast(kind.index_type), categories, ordered=kind.ordered)


def _index_limit(kind: pa.DataType) -> int:
    return int(np.iinfo(kind.index_type.to_pandas_dtype()).max)
