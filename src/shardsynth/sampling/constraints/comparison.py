"""A test of a condition on finished values, exactly: no number is rounded to that of another type."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Union

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.values import decoded, kind_of, without_view
from shardsynth.data.written import written_units
from shardsynth.sampling.conditions import Condition, Scalar

_COMPARE = {"<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal}
#: Decimal exponents beyond which a number is larger, or smaller, than whatever a column holds.
_MOST_DIGITS = 400
_SMALL = 10**_MOST_DIGITS
#: A count, or an infinity.
_Count = Union[Fraction, float]


def compared(test: Condition, array: pa.Array) -> pa.Array:
    """Which values pass a test of values: bool[n], arbitrary or null where one is missing.

    Args:
        test: Any test but ``null``.
        array: The values; NaN is missing.

    Raises:
        ValueError, TypeError, pyarrow.ArrowException: A value cannot be compared with the column.
    """
    array = without_view(decoded(array))
    nature = kind_of(array.type)
    if nature == "float":
        return _plainly(test, _widened(array), [_float(value) for value in test.values], array.type)
    if nature in ("integer", "boolean", "decimal", "temporal"):
        return _counted(test, array)
    if nature == "text" and test.operator in _COMPARE:
        raise TypeError("text has no order")
    return _plainly(test, array, test.values, array.type)


def _plainly(test: Condition, array: pa.Array, wanted: Sequence[Scalar], type_: pa.DataType) -> pa.Array:
    """The test by values that are cast to the column's type."""
    values = pa.array(wanted)
    if pa.types.is_float16(type_):  # Arrow casts text to no half
        with np.errstate(over="ignore"):
            values = pa.array(np.array(values.cast(pa.float64())).astype(np.float16))
    values = values.cast(array.type)
    if test.operator in _COMPARE:
        return _COMPARE[test.operator](array, values[0])
    return _inside(test, array, values)


def _inside(test: Condition, array: pa.Array, values: pa.Array) -> pa.Array:
    inside = pc.is_in(array, value_set=values)
    return pc.invert(inside) if test.operator == "not in" else inside


def _widened(array: pa.Array) -> pa.Array:
    """Arrow compares no halves."""
    return array.cast(pa.float32()) if pa.types.is_float16(array.type) else array


def _float(value: Scalar) -> Scalar:
    return value if isinstance(value, str) else float(value)  # type: ignore[arg-type]


def _counted(test: Condition, array: pa.Array) -> pa.Array:
    """The test of values that are whole counts of a unit, such as days, or hundredths of a decimal."""
    counts, limit, made = _counts(array)
    wanted = [_count(value, array.type) for value in test.values]
    if test.operator not in _COMPARE:
        held = [w for w in wanted if isinstance(w, Fraction) and w.denominator == 1 and limit[0] <= w <= limit[1]]
        return _inside(test, counts, pa.array([made(int(w)) for w in held], counts.type))
    bound = wanted[0]
    if isinstance(bound, Fraction):  # x < 6.5 if x < 7, x <= 6.5 if x <= 6
        bound = Fraction(math.ceil(bound) if test.operator in ("<", ">=") else math.floor(bound))
    if not limit[0] <= bound <= limit[1]:
        passes = (bound > 0) == (test.operator in ("<", "<="))
        return pa.array(np.full(len(counts), passes))
    return _COMPARE[test.operator](counts, pa.scalar(made(int(bound)), counts.type))


def _counts(array: pa.Array) -> tuple[pa.Array, tuple[int, int], Callable[[int], Any]]:
    """The counts in a type that Arrow compares, its limits, and how a value of it is made of a whole count."""
    type_ = array.type
    if pa.types.is_decimal(type_):
        if type_.bit_width < 128:
            array = array.cast(pa.decimal128(type_.precision, type_.scale))
        most = 10**type_.precision - 1
        return array, (-most, most), lambda count: _decimal(count, type_.scale)
    if type_ != pa.uint64():
        array = array.cast(pa.int32() if kind_of(type_) == "temporal" and type_.bit_width == 32 else pa.int64())
        array = array.cast(pa.int64())
    limits = np.iinfo(array.type.to_pandas_dtype())
    return array, (int(limits.min), int(limits.max)), int


def _decimal(count: int, scale: int) -> Decimal:
    """Exactly, whatever the precision of Python's context."""
    return Decimal((int(count < 0), tuple(map(int, str(abs(count)))), -scale))


def _count(value: Scalar, type_: pa.DataType) -> _Count:
    """A value as a user writes it, as a count of the column's unit."""
    if isinstance(value, float) and math.isinf(value):
        return value
    a_number = isinstance(value, (int, float, Decimal))
    if kind_of(type_) == "temporal" and not (a_number and pa.types.is_duration(type_)):
        return written_units(value, type_)
    if not isinstance(value, (str, int, float, Decimal)):
        raise TypeError("a date is no number")
    # 1.255 is meant as written against a decimal; a float that is whole is that integer.
    whole = isinstance(value, int) or (isinstance(value, float) and not pa.types.is_decimal(type_))
    number = Fraction(value) if whole else _exactly(str(value).strip())
    return number * Fraction(10) ** type_.scale if pa.types.is_decimal(type_) else number


def _exactly(text: str) -> _Count:
    """A number as it is written; one beyond all columns is an infinity."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError("no number") from None
    if number.is_finite() and abs(number.adjusted()) <= _MOST_DIGITS:
        return Fraction(number)
    if number.is_nan():
        raise ValueError("no number")
    large = number.is_infinite() or number.adjusted() > 0
    return math.copysign(math.inf, number) if large else Fraction(0 if not number else 1 if number > 0 else -1, _SMALL)
