"""How far the tails of a column may reach at most, as is known without the values beyond its ends."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa

from shardsynth.data.column_codes import ColumnCoder
from shardsynth.data.columns import Column
from shardsynth.data.layouts import PIVOT, DateLayout, layout_from, layout_of
from shardsynth.data.values import datetime_unit, kind_of, needs_parsing
from shardsynth.models.columns.marginals import grid_unit

#: The years that a date may have: those that Arrow, pandas and any format of text can write.
_YEARS = ("0001-01-01", "9999-12-31")
_NANOSECOND_YEARS = ("1678-01-01", "2261-12-31")
_TWO_DIGIT_YEARS = ("1969-01-01", "2068-12-31")
_PIVOT_YEARS = (f"{PIVOT}-01-01", f"{PIVOT + 99}-12-31")
#: Largest number that is written as text: all its digits are those of the number.
_LARGEST_TEXT = 1e15


def tail_bounds(coder: ColumnCoder) -> tuple[float, float]:
    """Least and largest value that a tail of the column may have, on its axis.

    The bounds are those of the type, of the range that the metadata declare and, for numbers, zero, where all values
    but the four most extreme ones lie on one side of it.

    Args:
        coder: The column's coder, with ends.
    """
    assert coder.ends is not None
    low, high = type_bounds(coder.column)
    declared = coder.ends.declared
    low = low if np.isnan(declared[0]) else max(low, declared[0])
    high = high if np.isnan(declared[1]) else min(high, declared[1])
    if coder.column.role == "number":
        least = grid_unit(coder.precision)
        if coder.ends.low >= 0:
            low = max(low, 0.0 if coder.ends.low == 0 else _smallest(coder, least))
        if coder.ends.high <= 0:
            high = min(high, 0.0 if coder.ends.high == 0 else -_smallest(coder, least))
    return low, high


def _smallest(coder: ColumnCoder, unit: float) -> float:
    """Distance from zero that all values keep: the first point of the grid beyond zero, or almost nothing."""
    if not unit:
        return float(np.finfo(np.float32).tiny)
    origin = coder.precision.origin % coder.precision.unit if coder.precision.kind == "integer" else 0
    return float(origin or unit)


def type_bounds(column: Column) -> tuple[float, float]:
    """Least and largest value of a column's type on its axis; equal where a tail makes no sense."""
    type_ = column.value_type
    if needs_parsing(column):
        layout = layout_from(layout_of(column) or "%Y")
        if not isinstance(layout, DateLayout):
            return -_LARGEST_TEXT, _LARGEST_TEXT
        if not re.search("%-?[YyGcxDFs]|ISO", layout.form):
            return 0.0, 0.0  # times of a day: a tail would run into the next one
        if re.search("%-?[yxDc]", layout.form):
            return _stamps(_PIVOT_YEARS if layout.pivot else _TWO_DIGIT_YEARS, layout.unit)
        return _stamps(_NANOSECOND_YEARS if layout.unit == "ns" else _YEARS, layout.unit)
    if pa.types.is_time(type_):
        return 0.0, 86_400.0 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[type_.unit] - 1
    if pa.types.is_date(type_) or pa.types.is_timestamp(type_):
        unit = datetime_unit(type_)
        return _stamps(_NANOSECOND_YEARS if unit == "ns" else _YEARS, unit)
    if pa.types.is_integer(type_):
        limits = np.iinfo(type_.to_pandas_dtype())
        return float(limits.min), float(limits.max)
    if pa.types.is_decimal(type_):
        most = float(10**type_.precision - 1) / 10.0**type_.scale
        return -most, most
    if pa.types.is_floating(type_):
        most = float(np.finfo(type_.to_pandas_dtype()).max)
        return -most, most
    return (0.0, 1.0) if kind_of(type_) == "boolean" else (-(2.0**62), 2.0**62)


def _stamps(years: tuple[str, str], unit: str) -> tuple[float, float]:
    low, high = (float(np.datetime64(year, "D").astype(f"datetime64[{unit}]").astype(np.int64)) for year in years)
    return low, high
