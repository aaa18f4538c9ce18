"""From Arrow tables to the pandas frames that SDV's synthesizers learn best, and back to the exact Arrow schema.

SDV wants text as object, no pandas ``category``, integers with missing values as float, decimals as float, dates and
timestamps with a time zone as ``datetime64[ns]`` in UTC without a zone, times and durations as counts of their unit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.codec import to_array as to_storage_array
from shardsynth.data.columns import Column
from shardsynth.data.grid import shortest
from shardsynth.data.layouts import layout_from, layout_of
from shardsynth.data.values import column_native, datetime_unit, decimals_of, decoded, needs_parsing
from shardsynth.errors import ModelError

if TYPE_CHECKING:
    import pandas as pd

_NANOSECONDS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_NAT = np.iinfo(np.int64).min
_LARGEST_WHOLE = 2**53


def to_pandas(table: pa.Table | pa.RecordBatch, columns: Iterable[Column] | None = None) -> pd.DataFrame:
    """Frame with the table's columns, in SDV's dtypes.

    Dates and timestamps that nanoseconds in 64 bits cannot hold (before 1677, after 2262) become counts of their own
    unit; so do dates of role ``category``. float32 values become the shortest decimal that means the same float32 (0.2,
    not 0.20000000298), so that SDV learns their number of digits.

    Args:
        table: The rows.
        columns: The columns' roles and options; without them only the Arrow types count.

    Raises:
        MetadataError: Text does not follow its column's ``datetime_format``.
    """
    import pandas as pd

    by_name = {column.name: column for column in columns or ()}
    data: dict[str, Any] = {}
    for field, array in zip(table.schema, table.columns):
        data[field.name] = _to_series(by_name.get(field.name), array)
    return pd.DataFrame(data, index=pd.RangeIndex(table.num_rows))


def _to_series(column: Column | None, array: pa.Array | pa.ChunkedArray) -> Any:
    array = decoded(array)
    type_, role = array.type, column.role if column else None
    missing = array.null_count > 0
    if pa.types.is_null(type_):
        return np.full(len(array), None, dtype=object)
    if pa.types.is_boolean(type_):
        return array.to_numpy(zero_copy_only=False)
    if pa.types.is_integer(type_):
        return _parse(column, array) if column is not None and needs_parsing(column) else _numbers(array, missing)
    if pa.types.is_decimal(type_):
        values = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return np.round(values, type_.scale) if 0 <= type_.scale <= 22 else values
    if pa.types.is_floating(type_):
        values = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return values if pa.types.is_float64(type_) else shortest(array.type, values)
    if pa.types.is_temporal(type_):
        counts = array.view(_storage(type_))
        dates = pa.types.is_timestamp(type_) or pa.types.is_date(type_)
        return _datetimes(counts, type_) if dates and role != "category" else _numbers(counts, missing)
    if column is not None and needs_parsing(column):
        return _parse(column, array)
    return np.array(array.to_pylist(), dtype=object)


def _numbers(array: pa.Array, missing: bool) -> np.ndarray[Any, Any]:
    if not missing and not pa.types.is_uint64(array.type):
        return np.asarray(array.to_numpy(zero_copy_only=False)).astype(np.int64)
    if not missing and len(array) and pc.max(array).as_py() < 2**63:
        return np.asarray(array.to_numpy(zero_copy_only=False)).astype(np.int64)
    return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def _storage(type_: pa.DataType) -> pa.DataType:
    return pa.int32() if type_.bit_width == 32 else pa.int64()


def _factor(type_: pa.DataType) -> int:
    """Nanoseconds of one count of a date or timestamp type."""
    return _DAY["ns"] if pa.types.is_date32(type_) else _NANOSECONDS[datetime_unit(type_)]


def nanoseconds_of(column: Column) -> int:
    """Nanoseconds of one unit of a datetime column's axis; for text, that of its layout."""
    type_ = column.value_type
    text = layout_of(column)
    if needs_parsing(column) and text is not None:
        return layout_from(text).nanoseconds
    return _factor(type_) if pa.types.is_timestamp(type_) or pa.types.is_date(type_) else 1


def _datetimes(counts: pa.Array, type_: pa.DataType) -> np.ndarray[Any, Any]:
    factor = _factor(type_)
    if counts.null_count < len(counts):
        low, high = pc.min_max(counts).as_py().values()
        if low * factor <= _NAT or high * factor > np.iinfo(np.int64).max:
            return _numbers(counts, counts.null_count > 0)
    present = np.asarray(counts.is_valid().to_numpy(zero_copy_only=False))
    values = np.asarray(counts.cast(pa.int64()).fill_null(0).to_numpy()) * factor
    return np.where(present, values, _NAT).view("datetime64[ns]")


def _parse(column: Column, array: pa.Array) -> Any:
    """Text or whole numbers in the column's layout: dates as ``datetime64[ns]``, or as counts beyond its years."""
    values, missing = column_native(column, array)
    absent = np.zeros(len(values), np.bool_) if missing is None else missing
    if column.role != "datetime":
        return np.where(absent, np.nan, values)
    factor = nanoseconds_of(column)
    present = values[~absent]
    if len(present) and (int(present.min()) * factor <= _NAT or int(present.max()) * factor > np.iinfo(np.int64).max):
        return np.where(absent, np.nan, values.astype(np.float64)) if absent.any() else values
    return np.where(absent, _NAT, values * factor).view("datetime64[ns]")


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
        frame: Values in the dtypes of ``to_pandas``. Columns of ``ready`` and of role ``empty`` can be left out.
        schema: The input's schema.
        columns: One per field, in order. SDV's ``range_min``, ``range_max`` and ``range_values`` are in ``options``.
        ready: Columns that are finished (identifiers, constants), of the field's type.
        categories: Dictionary of each dictionary column, so that the bytes do not depend on the batch. Without it:
            ``range_values``, in their order.
        nan: Names of floating columns whose missing values are NaN, not null.
        clip: Whether to clip numbers and dates to ``range_min`` and ``range_max``.

    Raises:
        ModelError: A column's values do not fit its type, or values are missing in a field that is not nullable.
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
    type_ = column.value_type
    missing = series.isna().to_numpy()
    dates = series.dtype.kind == "M"
    low, high = _bounds(column) if clip and column.role in ("number", "datetime") else (None, None)
    if pa.types.is_boolean(type_):
        values = series.to_numpy(dtype=object, na_value=False) if missing.any() else series.to_numpy()
        return pa.array(values.astype(bool), type_, mask=missing)
    if needs_parsing(column):
        return _format(series, column, clip)
    if pa.types.is_integer(type_):
        dtype = type_.to_pandas_dtype()
        return pa.array(_to_integers(_to_numbers(series), missing, dtype, low, high), type_, mask=missing)
    if pa.types.is_decimal(type_):
        return _to_decimal(_clipped(_to_numbers(series).astype(np.float64), low, high), missing, type_)
    if pa.types.is_floating(type_):
        values = _clipped(_to_numbers(series).astype(np.float64), low, high)
        return pa.array(values.astype(type_.to_pandas_dtype()), type_, mask=None if nan else missing)
    if pa.types.is_temporal(type_):
        return _to_temporal(_counts(series, type_) if dates else _to_numbers(series), missing, type_, low, high)
    values = series.to_numpy(dtype=object)
    return pa.array(values, type_, mask=missing)


def _to_numbers(series: pd.Series[Any]) -> np.ndarray[Any, Any]:
    import pandas as pd

    if series.dtype.kind not in "iuf":
        series = pd.to_numeric(series.astype(object).where(~series.isna(), None))
    return np.asarray(series.to_numpy(dtype=np.float64) if series.dtype.kind not in "iuf" else series.to_numpy())


def _clipped(values: np.ndarray[Any, Any], low: Any, high: Any) -> np.ndarray[Any, Any]:
    return values if low is None and high is None else np.clip(values, low, high)


def _to_integers(
    values: np.ndarray[Any, Any], missing: np.ndarray[Any, Any], dtype: Any, low: Any, high: Any
) -> np.ndarray[Any, Any]:
    """Values rounded and clipped to the integer type and to [low, high]; missing ones become any valid number."""
    info = np.iinfo(dtype)
    least = info.min if low is None else max(info.min, int(np.ceil(low)))
    most = info.max if high is None else min(info.max, int(np.floor(high)))
    if values.dtype.kind == "f":
        filled = np.rint(np.where(missing, least, values))
        fits = np.abs(filled) < _LARGEST_WHOLE
        if fits.all():
            values = filled.astype(np.int64)
        else:
            values = np.array([int(v) for v in np.clip(filled, -(2.0**64), 2.0**64)], dtype=object)
    if values.dtype != object and least >= -(2**63) and most < 2**63:
        return np.asarray(np.clip(values, least, most), dtype=dtype)
    return np.array([min(max(int(v), least), most) for v in values], dtype=dtype)


def _to_decimal(values: np.ndarray[Any, Any], missing: np.ndarray[Any, Any], type_: pa.DataType) -> pa.Array:
    scaled = np.where(missing, 0.0, values) * 10.0**type_.scale
    limit = 10.0**type_.precision - 1
    scaled = np.rint(np.clip(scaled, -limit, limit))
    if np.all(np.abs(scaled) < _LARGEST_WHOLE):
        halves = np.empty((len(scaled), 2), dtype=np.int64)
        halves[:, 0] = scaled.astype(np.int64)
        halves[:, 1] = halves[:, 0] >> 63
        full_type = pa.decimal128(38, type_.scale)
        array = pa.Array.from_buffers(full_type, len(scaled), [None, pa.py_buffer(halves.tobytes())])
        return pc.if_else(pa.array(missing), pa.scalar(None, full_type), array).cast(type_)
    return pc.if_else(pa.array(missing), pa.scalar(None, type_), decimals_of(np.where(missing, 0.0, values), type_))


def _counts(series: pd.Series[Any], type_: pa.DataType) -> np.ndarray[Any, Any]:
    values = series.to_numpy()
    return np.asarray(values.astype("datetime64[ns]").view(np.int64) // _factor(type_))


def _to_temporal(
    counts: np.ndarray[Any, Any], missing: np.ndarray[Any, Any], type_: pa.DataType, low: Any, high: Any
) -> pa.Array:
    if pa.types.is_time(type_):
        low, high = max(low or 0, 0), min(_DAY[type_.unit] - 1, _DAY[type_.unit] - 1 if high is None else high)
    storage = _storage(type_)
    integers = _to_integers(counts, missing, storage.to_pandas_dtype(), low, high)
    if pa.types.is_date64(type_):
        integers -= integers % _DAY["ms"]
    return pa.array(integers, storage, mask=missing).view(type_)


def _format(series: pd.Series[Any], column: Column, clip: bool) -> pa.Array:
    """Values of the axis as text or whole numbers in the column's layout, within the metadata's range."""
    text = str(layout_of(column))
    layout, missing = layout_from(text), series.isna().to_numpy()
    if series.dtype.kind == "M":
        values: Any = series.to_numpy().astype("datetime64[ns]").view(np.int64) // nanoseconds_of(column)
    else:
        values = _to_numbers(series)
    if clip:
        ends = [None if column.options.get(key) is None else _end(column, key) for key in ("range_min", "range_max")]
        values = np.where(layout.apart(values), values, _clipped(values, *ends))
    values = np.where(missing, 0, values).astype(layout.dtype)
    return to_storage_array(column.value_type, values, missing if missing.any() else None, datetime_format=text)


def _end(column: Column, key: str) -> float | int | None:
    """An end of the metadata's range on the axis of a column's layout; None where it is no value."""
    try:
        return layout_from(str(layout_of(column))).instant(str(column.options[key]))
    except (ValueError, OverflowError):
        return None


def _bounds(column: Column) -> tuple[Any, Any]:
    """The metadata's range as numbers, or as counts of a date or timestamp type's unit; None: no bound."""
    import pandas as pd

    low, high = column.options.get("range_min"), column.options.get("range_max")
    type_ = column.value_type
    if column.role == "number":
        return (None, None) if needs_parsing(column) else (low, high)
    if not pa.types.is_timestamp(type_) and not pa.types.is_date(type_):
        return None, None
    bounds: list[int | None] = []
    for bound in (low, high):
        if bound is None:
            bounds.append(None)
            continue
        try:
            instant = pd.Timestamp(bound)
            instant = instant.tz_convert("UTC").tz_localize(None) if instant.tz is not None else instant
            bounds.append(int(instant.to_datetime64().astype(f"datetime64[{datetime_unit(type_)}]").astype(np.int64)))
        except (ValueError, OverflowError):
            bounds.append(None)
    return bounds[0], bounds[1]


def _to_dictionary(array: pa.Array, column: Column, categories: pa.Array | None) -> pa.Array:
    type_ = column.type
    if categories is None and column.role == "category" and column.options.get("range_values"):
        categories = pa.array(column.options["range_values"], type_.value_type)
    indices = None
    if categories is not None and len(categories) - 1 <= _index_limit(type_):
        indices = pc.index_in(array, value_set=categories)
        if indices.null_count > array.null_count:
            indices = None  # a value is not among the categories: the dictionary is made from this batch
    if indices is None:
        encoded = array.dictionary_encode()
        order = pc.sort_indices(encoded.dictionary)
        categories = encoded.dictionary.take(order)
        indices = pc.index_in(array, value_set=categories)
    if categories is not None and len(categories) - 1 > _index_limit(type_):
        raise ModelError(
            f"column {column.name!r} of type {type_}: {len(categories)} distinct values in one batch, "
            f"but the index type holds {_index_limit(type_) + 1}"
        )
    return pa.DictionaryArray.from_arrays(indices.cast(type_.index_type), categories, ordered=type_.ordered)


def _index_limit(type_: pa.DataType) -> int:
    return int(np.iinfo(type_.index_type.to_pandas_dtype()).max)
