"""Tests of finished values: each value as users write it, against each type of column, without rounding."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest

from shardsynth.errors import ConditionError
from shardsynth.sampling.conditions import parse_conditions
from shardsynth.sampling.constraints.conditions import meets

BIG = pa.array([2**60 + 1, 2**60, 5, None], pa.int64())
BERLIN = pa.timestamp("us", "Europe/Berlin")
#: Around 02:30 of the last Sunday in October, which comes twice: 00:30 and 01:30 UTC.
TWICE = pa.array([dt.datetime(2023, 10, 29, hour, 30) for hour in (0, 1)], pa.timestamp("us")).cast(BERLIN)
CLOCK = [dt.time(3, 4), dt.time(12, 30), None]


def decimals(type_: pa.DataType) -> pa.Array:
    return pa.array([Decimal("1.25"), Decimal("7"), Decimal("-3"), None], type_)


@pytest.mark.parametrize(
    ("array", "where", "passed"),
    [
        (BIG, "x < 6.5", [0, 0, 1, 0]),
        (BIG, f"x <= {2**60}.5", [0, 1, 1, 0]),
        (BIG, f"x == {2**60 + 1}", [1, 0, 0, 0]),
        (BIG, f"x in [5, {10**20}]", [0, 0, 1, 0]),
        (BIG, f"x not in [5.5, 5, {10**20}]", [1, 1, 0, 0]),
        (BIG, f"x < {10**20}", [1, 1, 1, 0]),
        (BIG, "x > -1e299", [1, 1, 1, 0]),
        (pa.array([2**63 + 1, 5], pa.uint64()), "x > -1", [1, 1]),
        (pa.array([2**63 + 1, 5], pa.uint64()), f"x >= {2**63 + 1}", [1, 0]),
        (pa.array([5, -128], pa.int8()), "x > 300", [0, 0]),
        (pa.array([True, False, None]), "x > 0.5", [1, 0, 0]),
        (pa.array([True, False, None]), "x == True", [1, 0, 0]),
        *(
            (decimals(type_), where, passed)
            for type_ in (pa.decimal128(10, 2), pa.decimal256(50, 4))
            for where, passed in [
                ("x in [1.25, 7]", [1, 1, 0, 0]),
                ("x not in [1.25, 8.123456]", [0, 1, 1, 0]),
                ("x < 1.255", [1, 0, 1, 0]),
                ("x > -3", [1, 1, 0, 0]),
                ("x < 1000000000000", [1, 1, 1, 0]),
                (f"x > {10**60}", [0, 0, 0, 0]),
            ]
        ),
        (pa.array([1.5, float("nan")], pa.float16()), "x > 1", [1, 0]),
        (pa.array([1.1, None], pa.float32()), "x == 1.1", [1, 0]),
        (pa.array(["a", "b", None]).cast(pa.string_view()), 'x == "a"', [1, 0, 0]),
        (pa.array(["a", "b", None]).cast(pa.string_view()), 'x not in ["a"]', [0, 1, 0]),
        (pa.array(["a", "b", None]).dictionary_encode(), 'x in ["a"]', [1, 0, 0]),
        (pa.array(CLOCK, pa.time64("us")), 'x >= "12:30:00"', [0, 1, 0]),
        (pa.array(CLOCK, pa.time32("s")), 'x < "12:30"', [1, 0, 0]),
        (pa.array(CLOCK, pa.time32("s")), 'x <= "12:29:59.999999999"', [1, 0, 0]),
        (pa.array(CLOCK, pa.time64("ns")), 'x == "03:04"', [1, 0, 0]),
        (TWICE, 'x >= "2023-10-29 02:30"', [1, 1]),
        (TWICE, 'x > "2023-10-29 02:30"', [0, 1]),
        (TWICE, 'x >= "2023-03-26 02:30"', [1, 1]),
        (TWICE, 'x < "2023-03-26 02:30"', [0, 0]),
        (TWICE, 'x == "2023-10-29 02:30+01:00"', [0, 1]),
        (pa.array([0, 1], pa.timestamp("s")), 'x > "1970-01-01 00:00:00.5"', [0, 1]),
        (pa.array([0, 1], pa.timestamp("ns")), 'x < "3000-01-01"', [1, 1]),
        (pa.array([dt.date(2023, 3, 26), dt.date(2023, 3, 27)]), 'x > "2023-03-26 12:00"', [0, 1]),
        (pa.array([dt.date(2023, 3, 26), None], pa.date64()), 'x == "2023-03-26"', [1, 0]),
        (pa.array([5, 6], pa.duration("s")), "x > 5.5", [0, 1]),
    ],
)
def test_what_passes(array, where, passed):
    batch = pa.RecordBatch.from_arrays([array], ["x"])
    assert meets(parse_conditions(where).tests, batch).tolist() == [bool(flag) for flag in passed]


@pytest.mark.parametrize(
    ("type_", "where"),
    [
        (pa.int64(), 'x > "a"'),
        (pa.int64(), 'x == "1/0"'),
        (pa.string(), 'x > "a"'),
        (pa.time64("us"), 'x > "25:00"'),
        (pa.time64("us"), 'x > "2020-01-01"'),
        (pa.timestamp("us"), 'x > "now"'),
        (pa.timestamp("us"), 'x > "a"'),
        (pa.duration("s"), 'x > "5"'),
        (pa.date32(), "x > 2015"),
        (pa.string(), f'x in [{10**30}, "a"]'),
    ],
)
def test_what_cannot_be_compared_is_one_error(type_, where):
    batch = pa.RecordBatch.from_arrays([pa.nulls(1, type_)], ["x"])
    with pytest.raises(ConditionError, match=r"cannot be compared|is a number"):
        meets(parse_conditions(where).tests, batch)


def test_values_of_python():
    batch = pa.RecordBatch.from_arrays([pa.array([1, 10**18], pa.int64()), pa.array(CLOCK[:2])], ["x", "t"])
    for value in (Decimal("1e999999999"), Decimal("Infinity"), float("inf")):
        assert meets(parse_conditions({"x": {"<": value}}).tests, batch).tolist() == [True, True]
    assert meets(parse_conditions({"x": {">": Decimal("1e-999999")}}).tests, batch).tolist() == [True, True]
    assert meets(parse_conditions({"t": {">=": dt.time(12, 30)}}).tests, batch).tolist() == [False, True]
    longer = pa.RecordBatch.from_arrays([pa.array([1, 3], pa.duration("s"))], ["x"])
    assert meets(parse_conditions({"x": {">": dt.timedelta(seconds=2)}}).tests, longer).tolist() == [False, True]
