"""How a fitted column's values are held until they become an Arrow array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.codec import (
    code_dtype,
    decimal_exponent,
    from_codes,
    is_formatted,
    storage_dtype,
    to_array,
    to_storage,
)
from shardsynth.data.layouts import layout_from
from shardsynth.data.values import INT64_DIGITS, Precision
from shardsynth.data.values import native as native_values
from shardsynth.data.writings import Levels, LocalMidnights, Writing, writing_from
from shardsynth.errors import ModelError
from shardsynth.models.columns.fitted import FittedColumn, Marginal

Array = NDArray[Any]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class StorageForm:
    """How a column's values are held until they become an Arrow array.

    Attributes:
        column: The fitted column.
        type: Its Arrow type.
        dtype: dtype of the values: of codes into ``categories``, or storage values (see ``data.codec``).
        categories: The categories if the values are codes.
        stored: For a category column whose values are held as storage values: the value of each code.
        datetime_format: Layout of what is held as text or integers.
        exponent: Storage values of decimals are counts of 10^-exponent; 0 for other types.
        finer: Whether the column has integers that float64 cannot tell apart.
        writing: What its values get when they are written: local midnights, or all levels of a dictionary.
    """

    column: FittedColumn
    type: pa.DataType
    dtype: np.dtype[Any]
    categories: pa.Array | None = None
    stored: Array | None = None
    datetime_format: str | None = None
    exponent: int = 0
    finer: bool = False
    writing: Writing | None = None

    @classmethod
    def of(cls, column: FittedColumn, data_type: pa.DataType, datetime_format: str | None = None) -> StorageForm:
        """The cheapest form for a column of a type."""
        writing = writing_from(datetime_format)
        if writing is not None:
            return replace(cls.of(column, data_type), writing=writing)
        if column.categories is None:
            dtype = storage_dtype(data_type, datetime_format)
            ends = (column.marginal.lo, column.marginal.hi) if column.marginal is not None else ()
            largest = max((float(np.abs(end).max(initial=0.0)) for end in ends), default=0.0)
            exponent = decimal_exponent(data_type, largest)
            finer = (
                largest > 2.0**53
                and column.role == "number"
                and pa.types.is_integer(data_type)
                and (column.precision or Precision()).unit == 1
            )
            return cls(column, data_type, dtype, datetime_format=datetime_format, exponent=exponent, finer=finer)
        # An imported model may draw "missing" as one of the categories, code -1: that needs codes.
        coded = column.marginal is not None and bool((column.marginal.lo < 0).any())
        stored = None if coded or pa.types.is_dictionary(data_type) else _stored(column.categories)
        if stored is not None:
            return cls(column, data_type, stored.dtype, stored=stored)
        dtype = np.dtype(np.int32) if coded else code_dtype(data_type, len(column.categories))
        return cls(column, data_type, dtype, column.categories)

    def of_raw(self, values: Array) -> Array:
        """Codes (role ``category``) or axis values [n] in this form."""
        if self.column.categories is not None:
            return values.astype(self.dtype) if self.stored is None else self.stored[values.astype(np.int64)]
        precision = self.column.precision or Precision()
        if precision.kind == "integer" and self.dtype.kind in "iu" and self._scale == 1:
            dtype = np.uint64 if self.dtype == np.uint64 else np.int64
            return self._held(to_storage(precision.integers(np.asarray(values, np.float64), dtype), self.dtype))
        if precision.kind == "decimal" and self.dtype.kind in "iu" and self.exponent > precision.digits:
            # Scaled as integers once on the grid: 552.73 * 1e15 is no whole number of hundredths in float64.
            unit = 10 ** (self.exponent - precision.digits)
            most = np.iinfo(self.dtype).max // unit
            steps = np.rint(np.asarray(values, np.float64) * 10.0**precision.digits)
            return self._held(to_storage(np.clip(steps, -most, most).astype(np.int64) * unit, self.dtype))
        return self._held(to_storage(precision.snap(np.asarray(values, np.float64)) * self._scale, self.dtype))

    def axis(self, values: Array) -> Array:
        """Axis values float64[n] of storage values (not for categories)."""
        return values.astype(np.float64) / self._scale if self._scale != 1 else values.astype(np.float64)

    def array(self, values: Array, missing: Mask | None) -> pa.Array:
        """Arrow array [n] of codes or storage values, with nulls (or NaN) where ``missing``."""
        if self.categories is not None:
            coded = from_codes(self.type, self.categories, values, missing)
            return self.writing.write(coded) if isinstance(self.writing, Levels) else coded
        if isinstance(self.writing, LocalMidnights):
            values = self.writing.write(values)
        emit_nan = self.column.emit_nan
        layout = self.datetime_format
        if self.finer:
            values = below_floats(values)
        return to_array(self.type, values, missing, emit_nan=emit_nan, datetime_format=layout, exponent=self.exponent)

    def spread(self, marginal: Marginal) -> Spread:
        """How the values lie in the segments of an axis marginal."""
        precision = self.column.precision or Precision()
        lo, hi = marginal.lo * self._scale, marginal.hi * self._scale
        multiplier, offset, divisor = 1, 0, 1.0
        if precision.kind == "integer":
            multiplier, offset = round(precision.unit * self._scale), round(precision.origin * self._scale)
            lo, hi = (lo - float(offset)) / float(multiplier), (hi - float(offset)) / float(multiplier)
        elif precision.kind == "decimal" and self.dtype.kind == "f":
            divisor = 10.0**precision.digits
            lo, hi = lo * divisor, hi * divisor
        elif precision.kind == "decimal":
            multiplier = round(self._scale / 10.0**precision.digits) or 1
            lo, hi = lo / multiplier, hi / multiplier
        rounded = precision.kind != "float" or self.dtype.kind != "f"
        lo, hi = self._inside(lo, hi, multiplier, offset, divisor)
        return Spread(lo, hi - lo, self.dtype, rounded, multiplier, offset, divisor)

    def _inside(self, lo: Array, hi: Array, multiplier: int, offset: int, divisor: float) -> tuple[Array, Array]:
        """The segments, in steps, clipped to the numbers that the type can hold."""
        if self.dtype.kind == "f":
            largest = min(float(np.finfo(self.dtype).max) * divisor, float(np.finfo(np.float64).max))
            return np.clip(lo, -largest, largest), np.clip(hi, -largest, largest)
        if self.dtype.kind not in "iu":
            return lo, hi
        limits = self._limits or (int(np.iinfo(self.dtype).min), int(np.iinfo(self.dtype).max))
        least = float(-((offset - limits[0]) // multiplier))
        most = (limits[1] - offset) // multiplier
        highest = float(most) if float(most) <= most else float(np.nextafter(float(most), 0.0))
        return np.clip(lo, least, highest), np.clip(hi, least, highest)

    def _held(self, values: Array) -> Array:
        """Storage values within what the type can hold, where that is less than what the dtype can."""
        if self.dtype.kind == "f" and self.column.treatment == "relation":
            largest = np.finfo(self.dtype).max
            return np.clip(values, -largest, largest)
        return values if self._limits is None else np.clip(values, *self._limits).astype(self.dtype)

    @cached_property
    def _limits(self) -> tuple[int, int] | None:
        """Least and largest storage value of the type; None where these are those of the dtype."""
        type_ = self.type.value_type if pa.types.is_dictionary(self.type) else self.type
        if pa.types.is_time(type_):
            return 0, 86_400 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[type_.unit] - 1
        if pa.types.is_decimal(type_) and self.exponent == type_.scale and type_.precision <= INT64_DIGITS:
            return -(10**type_.precision - 1), 10**type_.precision - 1
        if is_formatted(type_, self.datetime_format):
            return -(2**63) + 1, 2**63 - 1  # the least integer would be "no time"
        return None

    @cached_property
    def coarser(self) -> float:
        """By how much the text of a value can lie beside it: its layout rounds more than the grid. 0: not at all."""
        if self.writing is not None:
            return self.writing.rounded_by
        return 0.0 if self.datetime_format is None else layout_from(self.datetime_format).rounded_by

    @property
    def _scale(self) -> float:
        return float(f"1e{self.exponent}")  # from text, this is the nearest float64 on any machine


def forms_of(columns: Sequence[FittedColumn], schema: pa.Schema, formats: Mapping[str, str]) -> dict[str, StorageForm]:
    """How the values of each learned, computed or constant column are held, by name.

    Args:
        columns: One per field of the schema.
        schema: Of the table.
        formats: Layouts of what it holds as text or integers.
    """
    return {
        column.name: StorageForm.of(column, field.type, formats.get(column.name))
        for column, field in zip(columns, schema)
        if column.treatment in ("latent", "relation", "constant")
    }


def below_floats(values: Array) -> Array:
    """Integers of 64 bits with digits below the distance of neighbouring floats, which their float64 had no room for.

    The digits follow from the value. Without them, all numbers of 17 digits and more would be even.
    """
    size = np.abs(values.astype(np.float64))
    room = np.where(size > 2.0**53, np.spacing(np.minimum(size, 2.0**62)), 1.0).astype(np.uint64)
    mixed = values.astype(np.int64).view(np.uint64) // room * np.uint64(0x9E3779B97F4A7C15)
    digits = ((mixed >> np.uint64(40)) % room).astype(values.dtype)
    return np.where(values > np.iinfo(values.dtype).max - digits, values, values + digits)


def _stored(categories: pa.Array) -> Array | None:
    """Storage values of categories that are primitive; None for text, bytes and what NumPy cannot hold."""
    try:
        dtype = storage_dtype(categories.type)
    except ModelError:
        return None
    if is_formatted(categories.type, None) or pa.types.is_decimal(categories.type):
        return None
    values, _ = native_values(categories)
    if dtype.kind == "b":
        return values.astype(np.bool_)
    return np.ascontiguousarray(values) if values.dtype == dtype else None


@dataclass(frozen=True)
class Spread:
    """Values spread evenly over the segments of a quantile function.

    ``value = (round(lo[k] + width[k] * u) * multiplier + offset) / divisor`` with u uniform.

    Attributes:
        lo: float64[m], start of each segment, in steps of the grid (without a grid, in values).
        width: float64[m], width of each segment, in the same unit.
        dtype: Storage dtype of the values.
        rounded: Whether there is a grid.
        multiplier: Values per step.
        offset: Value of step 0.
        divisor: 10^digits for grids of decimal fractions.
    """

    lo: Floats
    width: Floats
    dtype: np.dtype[Any]
    rounded: bool
    multiplier: int = 1
    offset: int = 0
    divisor: float = 1.0
