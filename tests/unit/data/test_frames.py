"""Arrow to SDV's frames and back: the same values, in exactly the same schema."""

from __future__ import annotations

import datetime
import decimal
import string
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardsynth.data import frames
from shardsynth.data.columns import Column, role_of_sdtype
from shardsynth.data.grid import shortest
from shardsynth.errors import MetadataError, ModelError

INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
TEXTS = [pa.string(), pa.large_string(), pa.string_view()]
STAMPS = [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Europe/Berlin")]
TIMES = [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]
DURATIONS = [pa.duration(unit) for unit in ("s", "ms", "us", "ns")]
DECIMALS = [pa.decimal128(9, 2), pa.decimal128(30, 0), pa.decimal256(12, 4), pa.decimal128(38, 10)]


def sdtype_of(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind) or kind in TEXTS or pa.types.is_boolean(kind):
        return "categorical"
    return "datetime" if pa.types.is_timestamp(kind) or pa.types.is_date(kind) else "numerical"


def column_of(name: str, kind: pa.DataType, sdtype: str | None = None, **options: Any) -> Column:
    sdtype = sdtype or sdtype_of(kind)
    return Column(name, kind, sdtype, role_of_sdtype(sdtype), options)


def values_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Arrow-ready values that a float64 holds exactly."""
    if pa.types.is_boolean(kind):
        return st.booleans()
    if pa.types.is_integer(kind):
        info = np.iinfo(kind.to_pandas_dtype())
        return st.integers(max(info.min, -(2**53)), min(info.max, 2**53))
    if pa.types.is_floating(kind):
        return st.floats(allow_nan=False, allow_infinity=False, width=kind.bit_width)
    if pa.types.is_decimal(kind):
        whole = st.integers(-(10 ** min(kind.precision, 15)) + 1, 10 ** min(kind.precision, 15) - 1)
        return whole.map(lambda k: decimal.Decimal(k).scaleb(-kind.scale))
    if pa.types.is_time(kind):
        return st.integers(0, frames._DAY[kind.unit] - 1)
    if pa.types.is_date(kind):
        days = st.integers(-100_000, 100_000)
        return days if pa.types.is_date32(kind) else days.map(lambda d: d * 86_400_000)
    if pa.types.is_duration(kind):
        return st.integers(-(2**52), 2**52)
    if pa.types.is_timestamp(kind):
        return st.integers(-9_000_000_000, 9_000_000_000)
    return st.text(string.printable, max_size=5)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(0, 6))
    arrays, fields = [], []
    plain = [pa.bool_(), *INTEGERS, pa.float16(), pa.float32(), pa.float64(), *DECIMALS, *TEXTS, *STAMPS, *TIMES]
    plain += [*DURATIONS, pa.date32(), pa.date64()]
    for position, kind in enumerate(draw(st.lists(st.sampled_from(plain), min_size=1, max_size=4))):
        nullable = draw(st.booleans())
        value = values_of(kind) | st.none() if nullable else values_of(kind)
        values = draw(st.lists(value, min_size=rows, max_size=rows))
        if pa.types.is_temporal(kind):
            array = pa.array(values, pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)
        elif pa.types.is_float16(kind):
            array = pa.array([None if v is None else np.float16(v) for v in values], kind)
        else:
            array = pa.array(values, kind)
        if pa.types.is_string(kind) and draw(st.booleans()):
            encoded = array.dictionary_encode()
            order = pa.compute.sort_indices(encoded.dictionary)
            sorted_values = encoded.dictionary.take(order)
            indices = pa.compute.index_in(array, value_set=sorted_values).cast(pa.int8())
            array = pa.DictionaryArray.from_arrays(indices, sorted_values, ordered=draw(st.booleans()))
        metadata = draw(st.sampled_from([None, {b"unit": b"mm"}]))
        arrays.append(array)
        fields.append(pa.field(f"c{position}", array.type, nullable, metadata))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=draw(st.sampled_from([None, {b"k": b"v"}]))))


@settings(max_examples=300, deadline=None)
@given(tables())
def test_round_trip_keeps_every_value_and_the_schema(table: pa.Table) -> None:
    columns = [column_of(field.name, field.type) for field in table.schema]
    batch = frames.to_arrow(frames.to_pandas(table, columns), table.schema, columns)
    assert batch.schema.equals(table.schema, check_metadata=True)
    assert batch.num_rows == table.num_rows
    for mine, theirs in zip(batch.columns, table.columns):
        assert plain(mine).equals(plain(theirs.combine_chunks()))
        mine.validate(full=True)


def plain(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def test_no_frame_column_is_a_pandas_category_or_extension_type() -> None:
    table = pa.table({"a": pa.array(["x", None]).dictionary_encode(), "b": pa.array([1, None], pa.int8())})
    frame = frames.to_pandas(table)
    assert [str(dtype) for dtype in frame.dtypes] == ["object", "float64"]


def test_float32_comes_as_its_shortest_decimal() -> None:
    table = pa.table({"x": pa.array([0.2, 13.1, None, 1e30], pa.float32())})
    values = frames.to_pandas(table.slice(0, 3))["x"]
    assert values.tolist()[:2] == [0.2, 13.1]
    assert np.float32(frames.to_pandas(table)["x"][3]) == np.float32(1e30)


def test_a_float32_is_the_same_number_whatever_stands_beside_it() -> None:
    """A total that equals its part was below it where only one of the two columns had a value without short decimals."""
    for other in (0.5, 10.674369812011719, 1e30, 16777215.0):
        table = pa.table({"x": pa.array([1.1, other, None, float("nan"), float("inf")], pa.float32())})
        assert frames.to_pandas(table)["x"][0] == 1.1
    values = np.exp(3 * np.random.default_rng(0).normal(size=2000)).astype(np.float32)
    assert (np.diff(shortest(pa.float32(), np.sort(values).astype(np.float64))) > 0).all()
    halves = shortest(pa.float16(), np.array([0.1, 65504.0], np.float16).astype(np.float64))
    assert halves.tolist() == [0.1, 65504.0]


def test_dates_beyond_pandas_nanoseconds_survive_as_counts() -> None:
    table = pa.table({"d": pa.array([datetime.date(9999, 12, 31), datetime.date(2020, 1, 1), None])})
    columns = [column_of("d", pa.date32())]
    frame = frames.to_pandas(table, columns)
    assert frame["d"].dtype == np.float64
    assert frames.to_arrow(frame, table.schema, columns).column(0).to_pylist() == table["d"].to_pylist()


def test_text_dates_are_parsed_and_written_in_their_format() -> None:
    table = pa.table({"d": pa.array(["03.01.2020", None, "29.02.2024"])})
    columns = [column_of("d", pa.string(), "datetime", datetime_format="%d.%m.%Y")]
    frame = frames.to_pandas(table, columns)
    assert str(frame["d"].dtype) == "datetime64[ns]"
    assert frames.to_arrow(frame, table.schema, columns).column(0).to_pylist() == table["d"].to_pylist()


def test_whole_numbers_that_are_dates() -> None:
    table = pa.table({"d": pa.array([20240131, None], pa.int32())})
    columns = [column_of("d", pa.int32(), "datetime", datetime_format="%Y%m%d")]
    frame = frames.to_pandas(table, columns)
    assert str(frame["d"].dtype) == "datetime64[ns]"
    assert frames.to_arrow(frame, table.schema, columns).column(0).to_pylist() == [20240131, None]


def test_text_that_is_no_date_names_the_column_and_row_but_not_the_value() -> None:
    table = pa.table({"d": pa.array(["2020-01-01", "secret"])})
    columns = [column_of("d", pa.string(), "datetime", datetime_format="%Y-%m-%d")]
    with pytest.raises(MetadataError, match="'d'.*row 1") as error:
        frames.to_pandas(table, columns)
    assert "secret" not in str(error.value)


def drawn() -> Iterator[Any]:
    yield pa.int8(), [-999.6, 3.5, 400.0], {"range_min": 0, "range_max": 99}, [0, 4, 99]
    yield pa.int8(), [-999.6, 3.4, 400.0], {}, [-128, 3, 127]
    yield pa.uint64(), [-5.0, 2.0**70], {}, [0, 2**64 - 1]
    yield pa.float32(), [-1.0, 0.25, 9.0], {"range_min": 0.0, "range_max": 1.0}, [0.0, 0.25, 1.0]
    yield pa.decimal128(5, 2), [1.234, 5000.0], {}, [decimal.Decimal("1.23"), decimal.Decimal("999.99")]
    yield pa.time32("s"), [-5.0, 1e9], {}, [datetime.time(0), datetime.time(23, 59, 59)]
    stamps = pd.to_datetime(["1999-01-01", "2020-01-01 12:00:00.9", "2031-01-01"], format="ISO8601")
    inside = {"range_min": "2000-01-01 00:00:00", "range_max": "2030-01-01 00:00:00"}
    days = [datetime.date(2000, 1, 1), datetime.date(2020, 1, 1), datetime.date(2030, 1, 1)]
    yield pa.date32(), stamps, inside, days
    yield pa.timestamp("s"), stamps[1:2], inside, [datetime.datetime(2020, 1, 1, 12)]
    iso = {**inside, "datetime_format": "%Y-%m-%d %H:%M:%S"}
    yield pa.string(), stamps[:1], iso, ["2000-01-01 00:00:00"]


@pytest.mark.parametrize(("kind", "values", "options", "wanted"), drawn())
def test_drawn_values_are_rounded_and_clipped(kind: Any, values: Any, options: Any, wanted: Any) -> None:
    sdtype = "datetime" if "datetime_format" in options else None
    column = column_of("x", kind, sdtype, **options)
    batch = frames.to_arrow(pd.DataFrame({"x": values}), pa.schema([("x", kind)]), [column])
    assert batch.column(0).to_pylist() == wanted


def test_clip_can_be_switched_off() -> None:
    column = column_of("x", pa.int16(), range_min=0, range_max=5)
    frame = pd.DataFrame({"x": [7.0]})
    assert frames.to_arrow(frame, pa.schema([("x", pa.int16())]), [column], clip=False).column(0).to_pylist() == [7]


def test_dictionary_is_the_categories_whatever_was_drawn() -> None:
    kind = pa.dictionary(pa.int8(), pa.string())
    column = column_of("x", kind, range_values=["a", "b", "c"])
    schema = pa.schema([("x", kind)])
    for values in (["c"], ["a", None], []):
        batch = frames.to_arrow(pd.DataFrame({"x": pd.Series(values, dtype=object)}), schema, [column])
        assert batch.column(0).dictionary.to_pylist() == ["a", "b", "c"]
        assert batch.column(0).to_pylist() == values


def test_more_categories_than_the_index_holds() -> None:
    kind = pa.dictionary(pa.int8(), pa.string())
    many = [f"v{i:03d}" for i in range(200)]
    column, schema = column_of("x", kind, range_values=many), pa.schema([("x", kind)])
    few = frames.to_arrow(pd.DataFrame({"x": many[150:]}), schema, [column])
    assert few.column(0).to_pylist() == many[150:]
    with pytest.raises(ModelError, match=r"'x'.*200 distinct values"):
        frames.to_arrow(pd.DataFrame({"x": many}), schema, [column])


def test_missing_as_nan_or_null() -> None:
    schema = pa.schema([("x", pa.float64()), pa.field("y", pa.float64(), nullable=False), ("z", pa.float64())])
    columns = [column_of(name, pa.float64()) for name in "xyz"]
    frame = pd.DataFrame({name: [1.0, np.nan] for name in "xyz"})
    batch = frames.to_arrow(frame, schema, columns, nan={"x"})
    assert [column.null_count for column in batch.columns] == [0, 0, 1]


def test_missing_value_in_a_field_that_is_not_nullable() -> None:
    schema = pa.schema([pa.field("x", pa.int8(), nullable=False)])
    with pytest.raises(ModelError, match="'x' of type int8 is not nullable"):
        frames.to_arrow(pd.DataFrame({"x": [1.0, np.nan]}), schema, [column_of("x", pa.int8())])


def test_values_that_cannot_be_the_type_name_the_column() -> None:
    with pytest.raises(ModelError, match="'x' of type int8") as error:
        frames.to_arrow(pd.DataFrame({"x": ["secret"]}), pa.schema([("x", pa.int8())]), [column_of("x", pa.int8())])
    assert "secret" not in str(error.value)


def test_empty_columns_come_back_as_nulls() -> None:
    schema = pa.schema([("n", pa.null()), ("x", pa.dictionary(pa.int8(), pa.string())), ("y", pa.int8())])
    columns = [Column(f.name, f.type, "categorical", "empty") for f in list(schema)[:2]] + [column_of("y", pa.int8())]
    batch = frames.to_arrow(pd.DataFrame({"y": [1, 2]}), schema, columns)
    assert batch.schema.equals(schema)
    assert batch.column(1).to_pylist() == [None, None]


@pytest.mark.parametrize("name", ["adult_dir", "mds_dir"])
def test_real_tables(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    table = pq.read_table(folder / "part-00000.parquet")
    columns = [column_of(field.name, field.type) for field in table.schema]
    batch = frames.to_arrow(frames.to_pandas(table, columns), table.schema, columns)
    assert batch.schema.equals(table.schema, check_metadata=True)
    for mine, theirs in zip(batch.columns, table.columns):
        assert mine.to_pylist() == theirs.to_pylist()
