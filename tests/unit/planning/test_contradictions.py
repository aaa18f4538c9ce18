"""Metadata against types and rows, while planning."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardsynth.data.metadata import columns
from shardsynth.data.shards import open_shards
from shardsynth.errors import MetadataError
from shardsynth.job import Job
from shardsynth.planning.contradictions import check_types, contradictions


def table_metadata(described: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"tables": {"table": {"columns": described, **keys}}, "METADATA_SPEC_VERSION": "V2"}


def told(folder: Path, table: pa.Table, described: dict[str, Any], **keys: Any) -> list[str]:
    half = table.num_rows // 2
    for number, part in enumerate((table[:half], table[half:])):
        pq.write_table(part, folder / f"{number}.parquet")
    job = Job.parse({"input": str(folder), "output": str(folder / "run"), "models": "gaussian_copula"})
    metadata = table_metadata(described, **keys)
    known = columns(metadata, table.schema)
    check_types(known)
    return contradictions(job, open_shards(str(folder)), metadata, known)


NUMBER, CATEGORY = {"sdtype": "numerical"}, {"sdtype": "categorical"}


def test_ranges_categories_and_keys_that_the_rows_contradict(tmp_path: Path) -> None:
    n = 60
    table = pa.table(
        {
            "age": pa.array([None, *range(1, n)], pa.int8()),
            "sex": pa.array(["F", "M", "X"] * 20),
            "id": [f"P{i // 2}" for i in range(n)],
            "visit": pa.array([0, 1] * 30, pa.int8()),
            "day": [f"{1 + i % 28}.{1 + i % 12}.2020" for i in range(n)],
        }
    )
    described = {
        "age": {**NUMBER, "range_min": 10, "range_max": 50},
        "sex": {**CATEGORY, "range_values": ["F", "M"]},
        "id": {"sdtype": "id"},
        "visit": {"sdtype": "id"},
        "day": {"sdtype": "datetime", "datetime_format": "%d.%m.%Y", "range_min": "02.01.2020"},
    }
    assert told(tmp_path, table, described, primary_key="id") == [
        "column 'age': 18 of 59 rows lie outside range_min and range_max",
        "column 'sex': 20 of 60 rows have 1 values that are not among range_values",
        *told(tmp_path, table.select(["day"]), {"day": described["day"]}),
        "key 'id': 30 of 60 rows repeat a value; made values never repeat",
    ]
    (tmp_path / "day").mkdir()
    assert told(tmp_path / "day", table.select(["day"]), {"day": described["day"]}) == [
        "column 'day': 1 of 60 rows lie outside range_min and range_max"
    ]


def test_a_key_of_two_columns(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 1, 2, 2, None], "b": [1, 2, 1, 1, 1]})
    described = {"a": {"sdtype": "id"}, "b": {"sdtype": "id"}}
    assert told(tmp_path, table, described, primary_key=["a", "b"]) == [
        "key ['a', 'b']: 1 values are missing",
        "key ['a', 'b']: 1 of 5 rows repeat a value; made values never repeat",
    ]


def test_metadata_that_fit_say_nothing_whatever_the_type(tmp_path: Path) -> None:
    days = [dt.date(1899, 12, 31), dt.date(2024, 2, 29), None, dt.date(9999, 12, 31)]
    table = pa.table(
        {
            "i8": pa.array([-128, 127, None, 0], pa.int8()),
            "u64": pa.array([0, 2**64 - 1, 5, None], pa.uint64()),
            "f16": pa.array(np.array([1.5, -65504, 3, 2], np.float16)),
            "f64": pa.array([1e300, -1e-300, float("nan"), None]),
            "d": pa.array([Decimal("123.45"), None, Decimal("-999.99"), Decimal("0.01")], pa.decimal128(5, 2)),
            "wide": pa.array([Decimal(10) ** 30, Decimal(1), None, Decimal(7)], pa.decimal128(38, 4)),
            "d32": pa.array(days, pa.date32()),
            "ms": pa.array(days, pa.date32()).cast(pa.timestamp("ms")).cast(pa.timestamp("ms", "Europe/Berlin")),
            "ns": pa.array([0, 2**62, None, -(2**62)], pa.timestamp("ns")),
            "clock": pa.array([0, 86_399_999, None, 5], pa.time32("ms")),
            "text": ["20240131", "20240229", None, "19000101"],
            "number": pa.array([20240131, 20240229, None, 19000101], pa.int32()),
            "sex": pa.array(["F", "M", None, "F"]).dictionary_encode(),
        }
    )
    stamp = {"sdtype": "datetime"}
    described: dict[str, Any] = dict.fromkeys(("i8", "u64", "f16", "f64", "d", "wide", "clock"), NUMBER)
    described |= dict.fromkeys(("d32", "ms", "ns"), stamp)
    described |= {name: {**stamp, "datetime_format": "%Y%m%d"} for name in ("text", "number")}
    described |= {"sex": {**CATEGORY, "range_values": ["F", "M"]}}
    assert told(tmp_path, table, {name: described[name] for name in table.schema.names}) == []


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (pa.int8(), {**NUMBER, "range_max": 300}, "range_min or range_max is no value of the Arrow type int8"),
        (pa.uint16(), {**NUMBER, "range_min": -1}, "no value of the Arrow type uint16"),
        (pa.decimal128(5, 2), {**NUMBER, "range_max": 1000.0}, "no value of the Arrow type decimal128"),
        (pa.float16(), {**NUMBER, "range_max": 1e6}, "no value of the Arrow type halffloat"),
        (pa.timestamp("s"), {"sdtype": "datetime", "range_max": "no date"}, "no value of the Arrow type timestamp"),
        (pa.int8(), {**CATEGORY, "range_values": [1, 2, 500]}, "1 of its 3 range_values are no values.*int8"),
        (pa.string(), {**CATEGORY, "range_values": ["a", 7]}, "1 of its 2 range_values are no values.*string"),
        (
            pa.dictionary(pa.int8(), pa.string()),
            {**CATEGORY, "range_values": [f"v{i}" for i in range(129)]},
            "the metadata list 129 range_values, but the index of its type int8 holds 128",
        ),
    ],
)
def test_what_a_type_cannot_hold_is_refused(kind: pa.DataType, options: dict[str, Any], message: str) -> None:
    schema = pa.schema([("c", kind)])
    with pytest.raises(MetadataError, match=f"column 'c'.*{message}"):
        check_types(columns(table_metadata({"c": options}), schema))
