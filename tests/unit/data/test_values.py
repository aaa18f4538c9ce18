from __future__ import annotations

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardsynth.data.columns import Column
from shardsynth.data.grid import Grid, grid_for, precision_of
from shardsynth.data.values import Precision, axis, kind_of, native, to_arrow
from shardsynth.errors import MetadataError


def number(type_: pa.DataType) -> Column:
    return Column("x", type_, "numerical", "number")


def moment(type_: pa.DataType, layout: str | None = None) -> Column:
    return Column("x", type_, "datetime", "datetime", {"datetime_format": layout} if layout else {})


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([1, None, -3], pa.int8()), [1, None, -3]),
        (pa.array([1.5, None, float("nan")], pa.float32()), [1.5, None, None]),
        (pa.array([0.1], pa.float32()), [float(np.float32(0.1))]),
        (pa.array(np.array([0.5, 2], np.float16)), [0.5, 2]),
        (pa.array([True, None, False]), [1, None, 0]),
        (pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("-0.05")]), [1.1, None, -0.05]),
        (pa.array([decimal.Decimal("1.10")], pa.decimal256(40, 2)), [1.1]),
        (pa.array([decimal.Decimal("1200")], pa.decimal128(4, -2)), [1200.0]),
        (pa.array([2**53 - 1, None], pa.uint64()), [2.0**53 - 1, None]),
        (pa.array([5, None], pa.timestamp("ms", "UTC")), [5, None]),
        (pa.array([5], pa.date32()), [5]),
        (pa.array([86_400_000], pa.date64()), [86_400_000]),
        (pa.array([7], pa.time32("s")), [7]),
        (pa.array([7], pa.duration("ns")), [7]),
        (pa.array([3, None, 3], pa.int64()).dictionary_encode(), [3, None, 3]),
        (pa.array([], pa.int64()), []),
    ],
)
def test_axis_is_the_value_or_the_count_of_its_unit(array: pa.Array, expected: list) -> None:
    make = moment if kind_of(array.type) == "temporal" else number
    values, missing = axis(make(array.type), array)
    assert values.dtype == np.float64
    assert [None if gone else v for v, gone in zip(values.tolist(), missing)] == expected
    assert np.array_equal(np.isnan(values), missing)
    # A slice reads its own rows.
    if len(array) > 1:
        assert np.array_equal(axis(make(array.type), array.slice(1))[1], missing[1:])
    chunked = pa.chunked_array([array, array])
    assert axis(make(array.type), chunked)[0].tolist()[: len(array)] == pytest.approx(values.tolist(), nan_ok=True)


def test_text_dates_are_read_by_their_format() -> None:
    array = pa.array(["03.02.2021", None, "01.01.1970", "03.02.2021"])
    day = int(datetime.datetime(2021, 2, 3, tzinfo=datetime.timezone.utc).timestamp() * 10**9)
    for form in (array, array.dictionary_encode(), pa.chunked_array([array])):
        values, missing = axis(moment(form.type, "%d.%m.%Y"), form)
        assert values[~missing].tolist() == [day, 0, day] and missing.tolist() == [False, True, False, False]
    assert axis(moment(pa.string(), "%-d.%-m.%Y"), pa.array(["3.2.2021"]))[0].tolist() == [day]
    assert axis(moment(pa.int32(), "%Y%m%d"), pa.array([20210203], pa.int32()))[0].tolist() == [day]
    zone = axis(moment(pa.string(), "%Y-%m-%dT%H:%M%z"), pa.array(["2021-02-03T02:00+0200"]))
    assert zone[0].tolist() == [day]
    assert axis(moment(pa.string(), "%Y"), pa.array([None], pa.string()))[1].tolist() == [True]


def test_what_has_no_axis_names_the_column_and_never_a_value() -> None:
    with pytest.raises(
        MetadataError, match="column 'x': 1 of 1 values .* are no dates of the datetime_format '%Y'"
    ) as raised:
        axis(moment(pa.string(), "%Y"), pa.array(["secret"]))
    assert "secret" not in str(raised.value)
    with pytest.raises(MetadataError, match="Arrow type string cannot be of sdtype 'numerical'"):
        axis(number(pa.string()), pa.array(["a"]))


@pytest.mark.parametrize(
    "array",
    [
        pa.array([True, False]),
        pa.array([1, 250], pa.uint8()),
        pa.array([2**64 - 1], pa.uint64()),
        pa.array([0.5], pa.float32()),
        pa.array([decimal.Decimal("-1.25")]),
        pa.array([5], pa.timestamp("us", "Asia/Tokyo")),
        pa.array([5], pa.date32()),
        pa.array([5], pa.time32("ms")),
        pa.array([5], pa.duration("ms")),
    ],
)
def test_native_values_go_back(array: pa.Array) -> None:
    assert to_arrow(native(array)[0], array.type).equals(array)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 2**40), st.lists(st.integers(0, 1000), min_size=2, max_size=9))
def test_a_grid_of_integers_is_found_and_snapped_to(origin: int, unit: int, steps: list[int]) -> None:
    values = [v for v in (origin + unit * k for k in steps) if v < 2**63]
    array = np.array(values, np.int64)
    if not len(array):
        return
    precision = precision_of(Grid("integer").extended(array), pa.int64())
    assert all((v - precision.origin) % precision.unit == 0 for v in values)
    assert 0 <= precision.origin < precision.unit
    if all(abs(v) < 2**52 for v in values):
        assert precision.snap(array + 0.2 * precision.unit).tolist() == values or precision.unit == 1
        assert precision.integers(array.astype(np.float64)).tolist() == values
    assert Precision.from_json(precision.to_json()) == precision


def test_coarse_steps_of_large_integers_are_exact() -> None:
    # Nanoseconds of whole seconds: float64 is off by up to 128, the grid repairs it.
    values = np.array([1_700_000_000_123_456_789 + k * 10**9 for k in range(5)])
    precision = precision_of(Grid("integer").extended(values), pa.timestamp("ns"))
    assert precision.unit == 10**9
    assert precision.integers(values.astype(np.float64)).tolist() == values.tolist()
    big = np.array([2**64 - 1 - 10**6 * k for k in range(3)], np.uint64)
    precision = precision_of(Grid("integer").extended(big), pa.uint64())
    assert precision.integers(big.astype(np.float64), np.uint64).tolist() == big.tolist()


def test_decimals_snap_in_the_columns_own_type() -> None:
    values = np.array([0.1, 0.25, 3.5], np.float32).astype(np.float64)
    precision = precision_of(Grid("decimal", bits=32).extended(values), pa.float32())
    assert (precision.kind, precision.digits) == ("decimal", 2)
    noisy = values + 0.003
    assert precision.snap(noisy).astype(np.float32).tolist() == values.astype(np.float32).tolist()
    cents = precision_of(Grid("integer").extended(np.array([150, 200, 1000])), pa.decimal128(9, 2))
    assert (cents.kind, cents.digits) == ("decimal", 1)
    assert precision_of(Grid("float"), pa.float64()).snap(np.array([0.123, np.nan]))[0] == 0.123


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=20), st.integers(0, 4), st.data())
def test_a_grid_does_not_depend_on_the_order_of_reading(ticks: list[int], digits: int, data) -> None:
    values = np.array(ticks) / 10.0**digits
    whole = Grid("decimal").extended(values)
    assert whole.digits <= digits
    cut = data.draw(st.integers(0, len(values)))
    order = data.draw(st.permutations(range(len(values))))
    mixed = values[list(order)]
    left, right = Grid("decimal").extended(mixed[:cut]), Grid("decimal").extended(mixed[cut:])
    assert left.joined(right) == right.joined(left) == left.extended(mixed[cut:]) == whole
    ints = np.array(ticks, np.int64)
    a, b = Grid("integer").extended(ints[list(order)][:cut]), Grid("integer").extended(ints[list(order)][cut:])
    assert a.joined(b) == b.joined(a) == Grid("integer").extended(ints)


@given(
    st.sampled_from([pa.decimal128(38, 18), pa.decimal128(38, 0), pa.decimal256(76, 30), pa.decimal128(20, 2)]),
    st.lists(st.integers(-(10**14), 10**14), min_size=1, max_size=5),
    st.integers(0, 12),
)
def test_floats_become_the_decimals_they_came_from(data_type: pa.DataType, whole: list[int], digits: int) -> None:
    digits = min(digits, data_type.scale)
    wanted = pa.array([decimal.Decimal(n).scaleb(-digits) for n in whole], data_type)
    values, nulls = native(wanted)
    assert nulls is None and values.dtype == np.float64
    assert to_arrow(values, data_type).equals(wanted)


def test_decimals_as_wide_as_their_type_do_not_overflow() -> None:
    for data_type in (pa.decimal128(38, 0), pa.decimal256(76, 76)):
        most = decimal.Decimal("9" * data_type.precision).scaleb(-data_type.scale, decimal.Context(prec=80))
        ends = pa.array([most, most.copy_negate()], data_type)
        assert to_arrow(native(ends)[0], data_type).equals(ends)


def test_an_infinite_date_is_on_no_grid_and_stays_what_it_is() -> None:
    day = 86_400_000_000
    values = np.array([18_262 * day, 18_300 * day, 2**63 - 1, 1 - 2**63])
    grid = grid_for(pa.timestamp("us")).extended(values)
    assert grid.unit % day == 0
    precision = precision_of(grid, pa.timestamp("us"))
    axis_values = values.astype(np.float64)
    assert precision.integers(axis_values).tolist() == values.tolist()
    assert precision.snap(axis_values).tolist() == axis_values.tolist()
