"""One type for a column that the shards of a table write in different types.

Two types agree where one of them, or a third one, holds all values of both: that is the type of the table. Where a
value could be lost (64-bit integers beside floats), only ``widen`` of the job lets them agree.

| types | agreed type |
|---|---|
| ``null`` and any other | the other |
| text in any encoding | ``large_string`` if one is, else ``string``; of two dictionaries, a dictionary |
| integers | the narrowest that holds both; signed and unsigned: a wider signed one |
| floats | the wider |
| integers to 16 (32) bits and float32 (float64) | the float |
| decimals | as many digits before and after the point as either has |
| timestamps of one zone | the finer unit |
"""

from __future__ import annotations

import pyarrow as pa

from shardsynth.data.values import kind_of, plain_type

_UNITS = ("s", "ms", "us", "ns")
_SIGNED = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}


def agreed_type(one: pa.DataType, other: pa.DataType, *, widen: bool = False) -> pa.DataType | None:
    """The type of a column of two types; None where they do not agree.

    Args:
        one: Type of the column in some shards.
        other: Type in others.
        widen: Whether types agree that can lose the last digits of a value.
    """
    if one == other:
        return one
    if pa.types.is_null(one) or pa.types.is_null(other):
        return other if pa.types.is_null(one) else one
    if pa.types.is_dictionary(one) and pa.types.is_dictionary(other):
        return _agreed_dictionary(one, other)
    one, other = plain_type(one), plain_type(other)
    kinds = {kind_of(one), kind_of(other)}
    if kinds == {"text"}:
        return pa.large_string() if pa.large_string() in (one, other) else pa.string()
    if kinds == {"integer"}:
        return _agreed_integers(one, other, widen)
    if kinds == {"float"}:
        return one if one.bit_width >= other.bit_width else other
    if kinds == {"integer", "float"}:
        return _agreed_numbers(one, other, widen)
    if kinds == {"decimal"}:
        scale = max(one.scale, other.scale)
        precision = max(one.precision - one.scale, other.precision - other.scale) + scale
        if precision > 76:
            return None
        return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    if pa.types.is_timestamp(one) and pa.types.is_timestamp(other) and one.tz == other.tz:
        return one if _UNITS.index(one.unit) >= _UNITS.index(other.unit) else other
    if pa.types.is_date(one) and pa.types.is_date(other):
        return pa.date32()
    return one if one == other else None


def _agreed_dictionary(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    value_type = agreed_type(one.value_type, other.value_type)
    if value_type is None or one.ordered != other.ordered:
        return None
    index = one.index_type if one.index_type.bit_width >= other.index_type.bit_width else other.index_type
    return pa.dictionary(index, value_type, one.ordered)


def _agreed_integers(one: pa.DataType, other: pa.DataType, widen: bool) -> pa.DataType | None:
    wider = one if one.bit_width >= other.bit_width else other
    signed = [pa.types.is_signed_integer(type_) for type_ in (one, other)]
    if signed[0] == signed[1]:
        return wider
    unsigned = other if signed[0] else one
    bits = max((one if signed[0] else other).bit_width, 2 * unsigned.bit_width)
    return _SIGNED[bits] if bits <= 64 else pa.int64() if widen else None


def _agreed_numbers(one: pa.DataType, other: pa.DataType, widen: bool) -> pa.DataType | None:
    integer, number = (one, other) if pa.types.is_integer(one) else (other, one)
    exact = {16: 8, 32: 16, 64: 32}[number.bit_width]
    if integer.bit_width <= exact:
        return number
    return pa.float64() if widen or integer.bit_width <= 32 else None
