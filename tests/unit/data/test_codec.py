"""Values -> Arrow -> values, for every type that a column may have."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardsynth.data.codec import code_dtype, decimal_exponent, from_codes, storage_dtype, to_array, to_storage
from shardsynth.errors import ModelError

INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
TIMES = [
    pa.date32(),
    pa.date64(),
    pa.time32("s"),
    pa.time32("ms"),
    pa.time64("us"),
    pa.time64("ns"),
    *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "Europe/Rome")),
    *(pa.duration(unit) for unit in ("s", "ms", "us", "ns")),
]
DECIMALS = [pa.decimal128(38, 0), pa.decimal128(20, 4), pa.decimal256(60, 10), pa.decimal128(5, -2)]
if hasattr(pa, "decimal32"):
    DECIMALS += [pa.decimal32(9, 2), pa.decimal64(18, 3)]
PRIMITIVES = [*INTEGERS, *FLOATS, *TIMES, *DECIMALS, pa.bool_()]
_DAY = 86_400_000


def storage_values(data_type: pa.DataType) -> st.SearchStrategy:
    dtype = storage_dtype(data_type)
    if dtype.kind == "b":
        return st.booleans()
    if dtype.kind == "f":
        return st.floats(allow_nan=False, width=8 * dtype.itemsize)
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if pa.types.is_time(data_type):
        low, high = 0, {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[data_type.unit] * 86_400 - 1
    if pa.types.is_date64(data_type):
        return st.integers(-40_000, 40_000).map(lambda days: days * _DAY)
    if pa.types.is_decimal(data_type):
        high = min(high, 10**data_type.precision - 1)
        low = -high
    return st.integers(low, high)


@pytest.mark.parametrize("data_type", PRIMITIVES, ids=str)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_primitive_type_holds_the_values_given(data_type, data):
    values = data.draw(st.lists(storage_values(data_type), max_size=40))
    missing = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))), bool)
    stored = np.array(values, storage_dtype(data_type))
    array = to_array(data_type, stored.copy(), missing)
    array.validate(full=True)
    assert array.type == data_type
    assert array.null_count == missing.sum()
    assert array.is_null().to_pylist() == missing.tolist()
    assert native(array) == [None if gone else plain(value) for value, gone in zip(stored, missing)]


def plain(value):
    return value.item() if isinstance(value, np.generic) else value


def native(array: pa.Array) -> list:
    """Values as counts of the type's own unit, read back by Arrow itself."""
    types = pa.types
    if types.is_date32(array.type) or types.is_time32(array.type):
        return array.cast(pa.int32()).to_pylist()
    if types.is_temporal(array.type):
        return array.cast(pa.int64()).to_pylist()
    if types.is_decimal(array.type):
        scale = Decimal(10) ** array.type.scale
        return [None if value is None else int(value * scale) for value in array.to_pylist()]
    return array.to_pylist()


def test_nothing_missing_means_no_bitmap():
    array = to_array(pa.int16(), np.arange(5, dtype=np.int16))
    assert array.null_count == 0 and array.buffers()[0] is None
    assert to_array(pa.int16(), np.arange(5, dtype=np.int16), np.zeros(5, bool)).buffers()[0] is None


def test_the_buffer_is_the_values_themselves():
    values = np.arange(1000, dtype=np.int32)
    assert to_array(pa.int32(), values).buffers()[1].address == values.ctypes.data
    codes = np.zeros(1000, np.int8)
    coded = from_codes(pa.dictionary(pa.int8(), pa.string()), pa.array(["a"]), codes)
    assert coded.indices.buffers()[1].address == codes.ctypes.data


def test_missing_floats_become_nan_when_the_input_had_nan():
    array = to_array(pa.float32(), np.ones(3, np.float32), np.array([False, True, False]), emit_nan=True)
    assert array.null_count == 0 and np.isnan(array.to_numpy()).tolist() == [False, True, False]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1), max_size=30),
    data_type=st.sampled_from([*INTEGERS, *FLOATS]),
)
def test_storage_saturates_instead_of_wrapping_around(values, data_type):
    dtype = storage_dtype(data_type)
    axis = np.array([float(v) for v in values])
    stored = to_storage(axis, dtype)
    assert stored.dtype == dtype
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            assert np.array_equal(stored, axis.astype(dtype))
        return
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    for value, given_axis in zip(stored.tolist(), axis.tolist()):
        exact = min(max(round(given_axis), low), high)
        assert value == exact or (abs(given_axis) >= 2**63 and value in (low, high))


def test_integer_axes_saturate_too():
    assert to_storage(np.array([-300, 5, 300]), np.dtype(np.int8)).tolist() == [-128, 5, 127]
    assert to_storage(np.array([-1, 5], np.int64), np.dtype(np.uint64)).tolist() == [0, 5]


CATEGORIES = {
    pa.string(): ["b", "a", "ü", ""],
    pa.large_string(): ["b", "a", "ü", ""],
    pa.string_view(): ["b", "a", "ü", ""],
    pa.binary(): [b"\x00", b"", b"z", b"y"],
    pa.int8(): [-1, 0, 1, 127],
    pa.int64(): [2**62 + 1, 2**62, -5, 0],
    pa.float32(): [0.5, -1.5, 2.0, 3.0],
    pa.decimal128(10, 2): [Decimal("1.25"), Decimal("-3.00"), Decimal(0), Decimal(7)],
    pa.date32(): [dt.date(2020, 1, day) for day in (1, 2, 3, 4)],
    pa.timestamp("us", "UTC"): [dt.datetime(2020, 1, day, tzinfo=dt.timezone.utc) for day in (1, 2, 3, 4)],
}


@pytest.mark.parametrize("value_type", CATEGORIES, ids=str)
@pytest.mark.parametrize("index", [None, pa.int8(), pa.uint8(), pa.int16(), pa.int32(), pa.int64()], ids=str)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_codes_become_their_categories(value_type, index, data):
    data_type = value_type if index is None else pa.dictionary(index, value_type, ordered=index == pa.int16())
    values = CATEGORIES[value_type]
    codes = data.draw(st.lists(st.integers(0, 3), max_size=30))
    missing = np.array(data.draw(st.lists(st.booleans(), min_size=len(codes), max_size=len(codes))), bool)
    categories = pa.array(values, value_type)
    array = from_codes(data_type, categories, np.array(codes, code_dtype(data_type, 4)), missing)
    array.validate(full=True)
    assert array.type == data_type
    assert array.to_pylist() == [None if gone else values[code] for code, gone in zip(codes, missing)]
    if index is not None:
        assert array.dictionary.equals(categories)


def test_too_many_categories_for_the_index():
    with pytest.raises(ModelError, match="int8"):
        from_codes(pa.dictionary(pa.int8(), pa.int64()), pa.array(range(129)), np.zeros(3, np.int8))
    with pytest.raises(ModelError, match="200 distinct values"):
        to_array(pa.dictionary(pa.int8(), pa.int64()), np.arange(200))


def test_numbers_in_a_dictionary_stay_in_one():
    data_type = pa.dictionary(pa.int16(), pa.float64())
    array = to_array(data_type, np.array([1.5, 2.5, 1.5]), np.array([False, False, True]))
    assert array.type == data_type and array.to_pylist() == [1.5, 2.5, None]


@pytest.mark.parametrize("data_type", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_datetimes_held_as_text(data_type):
    moments = np.array(["2020-02-29", "1999-12-31", "2020-02-29"], "datetime64[ns]").view(np.int64)
    array = to_array(data_type, moments, np.array([False, False, True]), datetime_format="%d.%m.%Y")
    assert array.type == data_type and array.to_pylist() == ["29.02.2020", "31.12.1999", None]
    with pytest.raises(ModelError, match="datetime_format"):
        to_array(data_type, moments)


def test_datetimes_held_as_integers():
    moments = np.array(["2020-02-29", "1999-12-31"], "datetime64[ns]").view(np.int64)
    assert storage_dtype(pa.int32(), "%Y%m%d") == np.int64
    array = to_array(pa.int32(), moments, datetime_format="%Y%m%d")
    assert array.type == pa.int32() and array.to_pylist() == [20200229, 19991231]


@pytest.mark.parametrize("data_type", [pa.binary(), pa.list_(pa.int8()), pa.null()], ids=str)
def test_types_without_an_axis_are_named(data_type):
    with pytest.raises(ModelError, match="no axis"):
        storage_dtype(data_type)


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=5), st.integers(0, 3))
def test_decimals_whose_own_unit_is_too_fine_for_64_bits(cents, digits):
    data_type = pa.decimal128(38, 18)  # Spark's own
    largest = max(abs(n) for n in cents) / 10.0**digits
    exponent = decimal_exponent(data_type, largest)
    assert largest == 0 or 10**16 <= largest * 10.0**exponent <= 10**18 or exponent == 18
    stored = to_storage(np.array(cents) / 10.0**digits * float(f"1e{exponent}"), storage_dtype(data_type))
    array = to_array(data_type, stored, np.zeros(len(cents), bool), exponent=exponent)
    wanted = [Decimal(n).scaleb(-digits) for n in cents]
    assert array.type == data_type and all(
        abs(a - b) <= Decimal(largest) * Decimal("1e-15") for a, b in zip(array.to_pylist(), wanted)
    )


def test_decimals_beyond_64_bits_keep_their_size():
    data_type = pa.decimal128(38, 0)
    exponent = decimal_exponent(data_type, 9e37)
    assert exponent < 0
    array = to_array(
        data_type, to_storage(np.array([9e37, -2.5e36]) * float(f"1e{exponent}"), np.dtype("int64")), exponent=exponent
    )
    assert [float(v) for v in array.to_pylist()] == pytest.approx([9e37, -2.5e36], rel=1e-15)
