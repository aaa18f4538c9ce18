"""From values or codes to Arrow arrays of the exact input type, written straight into Arrow's buffers.

The inverse of ``data/values.py``. The values of every Arrow type that a column can have are stored in NumPy arrays of
one *storage* dtype. They are: the value itself for integers and floats; a count of the type's unit for dates, times,
timestamps and durations; the unscaled integer for decimals; for what the table writes as text, values of the axis of
its layout.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.layouts import layout_from
from shardsynth.data.values import INT64_DIGITS
from shardsynth.errors import ModelError

Array = NDArray[Any]
Mask = NDArray[np.bool_]

_DAY = 86_400_000  # milliseconds: date64 holds whole days


def is_text(type_: pa.DataType) -> bool:
    """Whether the values of a type are text."""
    types = pa.types
    return bool(types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_))


def decimal_width(type_: pa.DataType) -> int:
    """Bits of a decimal type, 0 for any other."""
    return int(type_.bit_width) if pa.types.is_decimal(type_) else 0


def is_formatted(type_: pa.DataType, datetime_format: str | None) -> bool:
    """Whether a column with an axis holds text, or integers such as 20240131, that follow its layout."""
    return is_text(type_) or (datetime_format is not None and bool(pa.types.is_integer(type_)))


def storage_dtype(type_: pa.DataType, datetime_format: str | None = None) -> np.dtype[Any]:
    """NumPy dtype that holds the values of an Arrow type (of a dictionary: of its value type).

    Args:
        type_: The column's type.
        datetime_format: Layout of a column of text or integers (see ``layouts``), which is stored as its axis.

    Raises:
        ModelError: The type has no axis (binary, nested, ...): a column of it can only be a category.
    """
    types = pa.types
    if types.is_dictionary(type_):
        return storage_dtype(type_.value_type, datetime_format)
    if is_formatted(type_, datetime_format):
        return np.dtype(np.int64) if datetime_format is None else layout_from(datetime_format).dtype
    if types.is_integer(type_) or types.is_floating(type_):
        dtype: np.dtype[Any] = np.dtype(type_.to_pandas_dtype())
        return dtype
    if types.is_boolean(type_):
        return np.dtype(np.bool_)
    if types.is_date32(type_) or types.is_time32(type_) or decimal_width(type_) == 32:
        return np.dtype(np.int32)
    if types.is_temporal(type_) or types.is_decimal(type_):
        return np.dtype(np.int64)
    raise ModelError(f"values of type {type_} have no axis: give the column the sdtype categorical, id or drop it")


def decimal_exponent(type_: pa.DataType, largest: float) -> int:
    """Exponent e of the unit 10^-e in which values of a decimal type are stored; 0 for every other type.

    Args:
        type_: The column's type.
        largest: Largest absolute value on the axis.

    Returns:
        The type's scale, where 64 bits can hold the values in its unit. Else the exponent of a coarser unit, which can
        be negative and keeps 17 or 18 digits, more than the axis has (Spark writes decimals of 38 digits).
    """
    value_type = type_.value_type if pa.types.is_dictionary(type_) else type_
    if not pa.types.is_decimal(value_type):
        return 0
    if value_type.precision <= INT64_DIGITS or largest <= 0:
        return int(value_type.scale)
    return int(min(value_type.scale, INT64_DIGITS - 1 - math.floor(math.log10(largest))))


def to_storage(axis: Array, dtype: np.dtype[Any]) -> Array:
    """Axis values [n] (finite float64 or int64, in storage units) as a storage dtype.

    Integers are rounded half to even and clipped to the dtype's range, so that a large value never wraps around.
    """
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(axis).astype(dtype)
    if dtype.kind == "b":
        return np.asarray(np.rint(axis) >= 1)
    limits = np.iinfo(dtype)
    axis = np.asarray(axis)
    if axis.dtype.kind in "iu":
        low = max(limits.min, int(np.iinfo(axis.dtype).min))
        high = min(limits.max, int(np.iinfo(axis.dtype).max))
        return np.clip(axis, low, high).astype(dtype)
    rounded = np.rint(axis)
    # float64 cannot hold the largest 64-bit integers exactly: they are set, not converted.
    top, bottom = rounded >= float(limits.max), rounded <= float(limits.min)
    values = np.where(top | bottom, 0.0, rounded).astype(dtype)
    values[top], values[bottom] = limits.max, limits.min
    return values


def validity(missing: Mask | None) -> tuple[pa.Buffer | None, int]:
    """Arrow validity bitmap (None: no nulls) and null count of a mask [n] that is true where a value is missing."""
    if missing is None:
        return None, 0
    nulls = int(np.count_nonzero(missing))
    return (pa.py_buffer(np.packbits(~missing, bitorder="little")), nulls) if nulls else (None, 0)


def to_array(
    type_: pa.DataType,
    values: Array,
    missing: Mask | None = None,
    *,
    emit_nan: bool = False,
    datetime_format: str | None = None,
    exponent: int | None = None,
) -> pa.Array:
    """Arrow array of ``type_`` from storage values; buffers are shared with ``values`` wherever Arrow allows.

    Args:
        type_: Type of the column, a dictionary type included.
        values: Storage values [n], C-contiguous, of ``storage_dtype(type_)``. The values where ``missing`` is
            true are not used.
        missing: True where the value is missing; None when nothing is.
        emit_nan: Write missing floats as NaN instead of null; ``values`` is changed in place.
        datetime_format: Layout of a column of text or integers (see ``layouts``).
        exponent: Exponent of a decimal's unit (see ``decimal_exponent``); None for the type's scale.

    Raises:
        ModelError: A datetime column of text has no format, or the index of a dictionary type is too narrow for the
            distinct values.
    """
    types = pa.types
    if types.is_dictionary(type_):
        plain = to_array(
            type_.value_type,
            values,
            missing,
            emit_nan=emit_nan,
            datetime_format=datetime_format,
            exponent=exponent,
        )
        return _with_dictionary_type(plain.dictionary_encode(), type_)
    if is_formatted(type_, datetime_format):
        return _formatted(type_, values, missing, datetime_format)
    if emit_nan and missing is not None and types.is_floating(type_):
        values[missing] = np.nan
        missing = None
    bitmap, nulls = validity(missing)
    if exponent is not None and types.is_decimal(type_) and exponent != type_.scale:
        return _rescaled(type_, values, missing, exponent)
    if types.is_date64(type_):
        values = values - values % _DAY
    if types.is_boolean(type_):
        data = pa.py_buffer(np.packbits(values, bitorder="little"))
    else:
        limbs = decimal_width(type_) // 64
        data = pa.py_buffer(_sign_extended(values, limbs) if limbs > 1 else values)
    return pa.Array.from_buffers(type_, len(values), [bitmap, data], nulls)


def from_codes(type_: pa.DataType, categories: pa.Array, codes: Array, missing: Mask | None = None) -> pa.Array:
    """Arrow array of ``type_`` from category codes.

    Args:
        type_: Type of the column, a dictionary type included.
        categories: Distinct values, of the column's value type, without nulls.
        codes: Index of each row's category [n], of any integer dtype. A negative code is missing. Where ``missing`` is
            true, any index in range will do. Codes of a dictionary column's index dtype are used without a copy.
        missing: True where the value is missing; None when nothing is.

    Raises:
        ModelError: The index of a dictionary type is too narrow for the categories.
    """
    if codes.size and codes.min() < 0:
        absent = codes < 0
        codes, missing = np.where(absent, 0, codes), absent if missing is None else missing | absent
    if not pa.types.is_dictionary(type_):
        rows = pa.array(codes, mask=missing)
        if pa.types.is_string_view(type_):  # Arrow has no ``take`` for views
            return categories.cast(pa.string()).take(rows).cast(type_)
        return categories.take(rows)
    index = np.dtype(type_.index_type.to_pandas_dtype())
    if len(categories) > np.iinfo(index).max + 1:
        raise ModelError(f"{len(categories)} categories do not fit the dictionary index {type_.index_type}")
    bitmap, nulls = validity(missing)
    codes = np.ascontiguousarray(codes, index)
    indices = pa.Array.from_buffers(type_.index_type, len(codes), [bitmap, pa.py_buffer(codes)], nulls)
    return pa.DictionaryArray.from_arrays(indices, categories, ordered=type_.ordered, safe=False)


def code_dtype(type_: pa.DataType, categories: int) -> np.dtype[Any]:
    """Integer dtype of codes that ``from_codes`` uses without a copy, or with the smallest one.

    Args:
        type_: Type of the column.
        categories: Number of categories.
    """
    if pa.types.is_dictionary(type_):
        dtype: np.dtype[Any] = np.dtype(type_.index_type.to_pandas_dtype())
        return dtype
    return np.dtype(np.int16) if categories <= 32_767 else np.dtype(np.int32)


def _with_dictionary_type(array: pa.DictionaryArray, type_: pa.DataType) -> pa.DictionaryArray:
    """Dictionary array with the index type and the order flag of ``type_``."""
    try:
        indices = array.indices.cast(type_.index_type)
    except pa.ArrowInvalid as error:
        raise ModelError(
            f"{len(array.dictionary)} distinct values do not fit the dictionary index {type_.index_type}: "
            "write the column without a dictionary, or give it the sdtype categorical"
        ) from error
    return pa.DictionaryArray.from_arrays(indices, array.dictionary, ordered=type_.ordered)


def _rescaled(type_: pa.DataType, values: Array, missing: Mask | None, exponent: int) -> pa.Array:
    """Decimals of a wide type from counts of 10^-exponent, a coarser unit than the type's own."""
    digits = min(type_.precision - (type_.scale - exponent), INT64_DIGITS)  # the type has no room for more
    largest = 10 ** max(digits, 0) - 1
    coarse_type = pa.decimal256(76, exponent) if decimal_width(type_) == 256 else pa.decimal128(38, exponent)
    return to_array(coarse_type, np.clip(values, -largest, largest), missing).cast(type_)


def _sign_extended(values: Array, limbs: int) -> Array:
    """Values as two's complement of ``limbs`` 64-bit words each, the lowest word first: int64[n, limbs]."""
    words = np.empty((len(values), limbs), np.int64)
    words[:, 0] = values
    words[:, 1:] = (words[:, 0] >> 63)[:, None]
    return words


def _formatted(type_: pa.DataType, values: Array, missing: Mask | None, datetime_format: str | None) -> pa.Array:
    """Values of an axis as text or integers in a layout; each distinct value is written once."""
    if datetime_format is None:
        raise ModelError("a datetime column of text needs its datetime_format in the metadata")
    if missing is not None and values.dtype.kind == "f":
        values = np.where(missing, 0.0, values)
    distinct, codes = np.unique(values, return_inverse=True)
    text = layout_from(datetime_format).write(distinct)
    categories = pc.cast(pa.array(text, pa.string()), type_)
    return from_codes(type_, categories, codes, missing)
