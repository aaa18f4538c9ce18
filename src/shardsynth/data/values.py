"""Arrow arrays as NumPy numbers, exactly; the one place where that is done.

A column of numbers has two views. *Native* values have the dtype that pandas would use, and nothing is rounded:
integers and floats keep their width, dates and times are counts of their own unit, decimals are unscaled integers.
*Axis* values are float64: bins, cuts and quantile functions use them. A value is missing when Arrow calls it null or
when it is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.columns import Column
from shardsynth.data.layouts import DateLayout, Layout, layout_from, layout_of, width_of
from shardsynth.errors import MetadataError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: The largest 64-bit integer as a float: other programs write it, or its negative, for a date without an end.
INFINITY = 2.0**63
#: Decimal digits that an int64 always holds: the largest precision whose unscaled integers always fit.
INT64_DIGITS = 18


@dataclass(frozen=True)
class Precision:
    """The grid of the values of a column.

    Attributes:
        kind: ``integer``: every value is ``origin + unit * k``. ``decimal``: every value is ``k * 10**-digits`` rounded
            to the column's own float type. ``float``: no grid.
        origin: Residue of the values modulo ``unit`` (0 for the other kinds). It does not reveal the minimum.
        unit: Greatest common divisor of the differences of the values (1 for the other kinds).
        digits: Decimal digits after the point (0 for the other kinds).
    """

    kind: str = "float"
    origin: int = 0
    unit: int = 1
    digits: int = 0

    def snap(self, values: Floats) -> Floats:
        """Axis values, float64[n], moved to the nearest point of the grid; NaN stays NaN."""
        if self.kind == "integer":
            snapped = np.rint((values - float(self.origin)) / float(self.unit)) * float(self.unit) + float(self.origin)
            snapped = np.where(np.abs(values) < INFINITY, snapped, values)
        elif self.kind == "decimal":
            scale = 10.0**self.digits
            snapped = np.rint(values * scale) / scale
        else:
            return values
        return np.asarray(snapped + 0.0, dtype=np.float64)  # no -0.0: no real value is one

    def integers(self, values: Floats, dtype: npt.DTypeLike = np.int64) -> Array:
        """Axis values snapped to the grid, in exact 64-bit integers (for the kind ``integer``).

        Args:
            values: float64[n], no NaN.
            dtype: ``int64`` or ``uint64``.

        Returns:
            Integers of ``dtype``, exact also where float64 cannot hold ``origin + unit * k``.
        """
        steps = np.rint((values - float(self.origin)) / float(self.unit))
        if np.dtype(dtype) == np.uint64:
            multiples = np.clip(steps, 0.0, np.nextafter(2.0**64, 0.0)).astype(np.uint64)
        else:
            multiples = np.clip(steps, -(2.0**63), np.nextafter(2.0**63, 0.0)).astype(np.int64).view(np.uint64)
        with np.errstate(over="ignore"):
            exact = multiples * np.uint64(self.unit) + np.uint64(self.origin % 2**64)
        integers: Array = exact.view(dtype)
        if np.dtype(dtype) != np.uint64 and self.unit > 1:
            integers = np.where(values >= INFINITY, 2**63 - 1, np.where(values <= -INFINITY, 1 - 2**63, integers))
        return integers

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"kind": self.kind, "origin": self.origin, "unit": self.unit, "digits": self.digits}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Precision:
        """Inverse of ``to_json``."""
        return cls(str(data["kind"]), int(data["origin"]), int(data["unit"]), int(data["digits"]))


def kind_of(type_: pa.DataType) -> str:
    """Kind of the values of an Arrow type; a dictionary type has the kind of its values.

    Returns:
        ``integer``, ``float``, ``decimal``, ``boolean``, ``temporal``, ``text``, ``binary``, ``null``, or ``nested``
        for types that shardsynth refuses.
    """
    types = pa.types
    if types.is_dictionary(type_):
        return kind_of(type_.value_type)
    if types.is_boolean(type_):
        return "boolean"
    if types.is_integer(type_):
        return "integer"
    if types.is_floating(type_):
        return "float"
    if types.is_decimal(type_):
        return "decimal"
    if types.is_temporal(type_) and not types.is_interval(type_):
        return "temporal"
    if types.is_string(type_) or types.is_large_string(type_) or str(type_) == "string_view":
        return "text"
    binary = types.is_binary(type_) or types.is_large_binary(type_) or types.is_fixed_size_binary(type_)
    if binary or str(type_) == "binary_view":
        return "binary"
    return "null" if types.is_null(type_) else "nested"


def decoded(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One plain array of the same values: chunks joined, dictionary and extension types decoded."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def plain_type(type_: pa.DataType) -> pa.DataType:
    """Type of a column's plain values: no dictionary, no extension type (its storage type instead), no view."""
    if pa.types.is_dictionary(type_):
        return plain_type(type_.value_type)
    if isinstance(type_, pa.BaseExtensionType):
        return type_.storage_type
    return {"string_view": pa.string(), "binary_view": pa.binary()}.get(str(type_), type_)


def without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with views of text and bytes cast to text and bytes: Arrow cannot take or filter views."""
    if not any(str(t).endswith("_view") for t in batch.schema.types):
        return batch
    arrays = [a.cast(plain_type(a.type)) if str(a.type).endswith("_view") else a for a in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def without_view(array: pa.Array) -> pa.Array:
    """The array; a view of text or bytes is cast to text or bytes: Arrow cannot look values up in views."""
    return array.cast(plain_type(array.type)) if str(array.type).endswith("_view") else array


def taken(array: pa.Array | pa.ChunkedArray, rows: pa.Array) -> pa.Array | pa.ChunkedArray:
    """The values at these places, in the type of the array: Arrow cannot take from views.

    A dictionary keeps all its entries, and its order flag.
    """
    if pa.types.is_dictionary(array.type) and isinstance(array, pa.Array):
        return pa.DictionaryArray.from_arrays(array.indices.take(rows), array.dictionary, ordered=array.type.ordered)
    if str(array.type).endswith("_view"):
        return array.cast(plain_type(array.type)).take(rows).cast(array.type)
    return array.take(rows)


def null_mask(array: pa.Array) -> Mask | None:
    """Arrow nulls of a plain array, bool[n]; None when there is none."""
    if not array.null_count:
        return None
    return np.asarray(array.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)


def native(array: pa.Array) -> tuple[Array, Mask | None]:
    """Values of a plain array of numbers, dates, times, decimals or booleans in their own NumPy dtype.

    Args:
        array: Neither dictionary nor text (see ``decoded``).

    Returns:
        ``(values, nulls)``: values[n], arbitrary where there is a null, and bool[n], None without nulls. NaN does not
        count as null. Decimals of at most 18 digits give unscaled int64, wider ones float64.

    Raises:
        TypeError: The array holds text, bytes or nested values.
    """
    nulls = null_mask(array)
    type_ = array.type
    if pa.types.is_boolean(type_):
        filled = pc.fill_null(array, False) if nulls is not None else array
        return filled.to_numpy(zero_copy_only=False).view(np.uint8), nulls
    if pa.types.is_decimal(type_):
        return _decimal_values(array), nulls
    if pa.types.is_floating(type_) or pa.types.is_integer(type_):
        dtype = np.dtype(type_.to_pandas_dtype())
    elif kind_of(type_) == "temporal":
        dtype = np.dtype(np.int32 if type_.bit_width == 32 else np.int64)
    else:
        raise TypeError(f"no numbers in an Arrow array of type {type_}")
    buffer = array.buffers()[1]
    if buffer is None or len(array) == 0:
        return np.zeros(len(array), dtype), nulls
    return np.frombuffer(buffer, dtype, count=array.offset + len(array))[array.offset :], nulls


def _decimal_values(array: pa.Array) -> Array:
    type_ = array.type
    if type_.precision > INT64_DIGITS:
        return np.asarray(array.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    buffer = array.buffers()[1]
    if buffer is None or len(array) == 0:
        return np.zeros(len(array), np.int64)
    if type_.bit_width == 32:
        return np.frombuffer(buffer, np.int32, count=array.offset + len(array))[array.offset :].astype(np.int64)
    words = type_.bit_width // 64  # the lowest first: little-endian
    return np.frombuffer(buffer, np.int64, count=words * (array.offset + len(array)))[::words][array.offset :]


def wide_dtype(type_: pa.DataType) -> np.dtype[Any]:
    """64-bit dtype that holds the native values of a type of numbers: float64, uint64 or int64."""
    if pa.types.is_floating(type_) or (pa.types.is_decimal(type_) and type_.precision > INT64_DIGITS):
        return np.dtype(np.float64)
    return np.dtype(np.uint64 if type_ == pa.uint64() else np.int64)


def datetime_unit(type_: pa.DataType) -> str:
    """NumPy's name of the unit that a date or timestamp type counts: ``D``, ``s``, ``ms``, ``us`` or ``ns``."""
    if pa.types.is_date32(type_):
        return "D"
    return "ms" if pa.types.is_date64(type_) else str(type_.unit)


def axis_of_native(values: Array, type_: pa.DataType) -> Floats:
    """Native values, as ``native`` gives them, on the axis: float64[n]."""
    floats = np.asarray(values, dtype=np.float64)
    if pa.types.is_decimal(type_) and values.dtype == np.int64:
        scale = float(10.0 ** abs(type_.scale))
        return floats / scale if type_.scale >= 0 else floats * scale
    return floats


def axis(column: Column, array: pa.Array | pa.ChunkedArray) -> tuple[Floats, Mask]:
    """A column of role ``number`` or ``datetime`` on its axis.

    Args:
        column: The column. Text and whole numbers of dates, and text of numbers, are read by its layout.
        array: The column's values, of its Arrow type or, for a dictionary column, of its value type.

    Returns:
        ``(values, missing)``: float64[n], NaN where missing, and bool[n]. Integers and decimals are their value. Dates,
        times and durations are counts of their own unit. Parsed text is as its layout says.

    Raises:
        MetadataError: The type has no axis, or a value does not follow the format.
    """
    values, nulls = column_native(column, array)
    floats = axis_of_native(values, column.value_type)
    missing = np.isnan(floats)
    if nulls is not None:
        missing |= nulls
        if floats is values or floats.base is not None:
            floats = floats.copy()
        floats[nulls] = np.nan
    return floats, missing


def column_native(column: Column, array: pa.Array | pa.ChunkedArray) -> tuple[Array, Mask | None]:
    """``native`` for a column of role ``number`` or ``datetime``: dictionaries are decoded, text is parsed.

    Raises:
        MetadataError: The type has no axis, or a value does not follow the format.
    """
    kind = kind_of(column.type)
    if needs_parsing(column):
        return _parsed(column, array)
    if kind in ("text", "binary", "null", "nested"):
        raise MetadataError(
            f"column {column.name!r}: Arrow type {column.type} cannot be of sdtype {column.sdtype!r}; "
            "call it 'categorical' in the metadata, or import it with a type of numbers"
        )
    return native(decoded(array))


def needs_parsing(column: Column) -> bool:
    """Whether a column holds text, or whole numbers such as 20240131, that a layout turns into values of an axis."""
    kind = kind_of(column.type)
    if column.role == "number":
        return kind == "text" and layout_of(column) is not None
    return column.role == "datetime" and (kind == "text" or (kind == "integer" and layout_of(column) is not None))


def distinct_texts(array: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """Text or whole numbers as text, each distinct value once."""
    encoded = without_view(decoded(array))
    if pa.types.is_dictionary(encoded.type) or encoded.type == pa.string():
        return encoded.dictionary_encode()
    distinct = encoded.dictionary_encode()  # whole numbers: cast the distinct ones alone
    return pa.DictionaryArray.from_arrays(distinct.indices, distinct.dictionary.cast(pa.string()))


def _parsed(column: Column, array: pa.Array | pa.ChunkedArray) -> tuple[Array, Mask]:
    """Values of the axis of a column that ``needs_parsing``; any where a value is missing."""
    encoded = distinct_texts(array)
    text = layout_of(column)
    if text is None:
        raise MetadataError(f"column {column.name!r}: text of dates needs its datetime_format in the metadata")
    layout = layout_from(text)
    texts = encoded.dictionary.to_pylist()
    if isinstance(layout, DateLayout) and kind_of(column.type) == "integer":
        texts = [written.zfill(width_of(layout.form)) for written in texts]
    values, good = layout.read(np.array(texts, dtype=object))
    nulls = null_mask(encoded.indices)
    codes, _ = native(encoded.indices)
    if nulls is None:
        nulls = np.zeros(len(codes), np.bool_)
    places = np.where(nulls, 0, codes)
    if not len(values):
        return np.zeros(len(codes), layout.dtype), nulls
    wrong = np.flatnonzero(~nulls & ~good[places])
    if len(wrong) and not layout.lenient:
        raise MetadataError(_no_value(column, layout, len(wrong), int(wrong[0]), len(codes)))
    return values[places], nulls | ~good[places]


def _no_value(column: Column, layout: Layout, wrong: int, first: int, rows: int) -> str:
    """The error of texts that are no values of a layout."""
    where = f"column {column.name!r}: {wrong:,} of {rows:,} values (the first one in row {first} of those read)"
    if layout.what != "date":
        return f"{where} are no numbers as the others are; call the column 'categorical' in the metadata"
    instead = "categorical" if kind_of(column.type) == "text" else "numerical"
    return (
        f"{where} are no dates of the datetime_format {column.options.get('datetime_format')!r}; "
        f"correct the format in the metadata, or call the column {instead!r}"
    )


def instant_of(written: Any, layout: str) -> float:
    """A value that a user wrote, on the axis of its column: in the column's layout, else ISO text or a plain number.

    Raises:
        ValueError: It is neither.
    """
    found = layout_from(layout)
    if found.what == "number" and not isinstance(written, str):
        return float(written)
    return found.instant(str(written))


def to_arrow(values: Array, type_: pa.DataType) -> pa.Array:
    """Inverse of ``native`` for values [n] that are all present: a plain Arrow array of ``type_``."""
    if pa.types.is_boolean(type_):
        return pa.array(values.astype(np.bool_))
    if pa.types.is_decimal(type_):
        if values.dtype != np.int64:
            return decimals_of(values.astype(np.float64), type_)
        return pa.array([Decimal(int(v)).scaleb(-type_.scale) for v in values], type_)
    if kind_of(type_) == "temporal":
        dtype = np.int32 if type_.bit_width == 32 else np.int64
        return pa.array(values.astype(dtype)).view(type_)
    return pa.array(values.astype(type_.to_pandas_dtype()), type_)


def decimals_of(values: Floats, type_: pa.DataType) -> pa.Array:
    """Floats as the shortest decimals that mean the same floats: 0.1, not 0.1000000000000000055.

    Args:
        values: float64[n], finite. A value beyond the type's range becomes its largest or smallest value.
        type_: A decimal type.
    """
    context, unit = Context(prec=80), Decimal(1).scaleb(-type_.scale)
    largest = Decimal("9" * type_.precision).scaleb(-type_.scale, context)

    def shortest(value: float, layout: str) -> Decimal:
        return max(largest.copy_negate(), min(largest, Decimal(format(value, layout)).quantize(unit, context=context)))

    # Arrow's own float64 of a decimal can differ in the last bit. So each decimal is read back, and one that does not
    # give the same float is written with 17 digits.
    short = pa.array([shortest(value, ".15g") for value in values.tolist()], type_)
    same = (np.asarray(short.cast(pa.float64()).to_numpy(zero_copy_only=False)) == values).tolist()
    if all(same):
        return short
    rounded = zip(short.to_pylist(), values.tolist(), same)
    return pa.array([decimal if exact else shortest(value, ".17g") for decimal, value, exact in rounded], type_)
