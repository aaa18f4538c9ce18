"""Codes of the event column are counted while planning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardsynth.data.shards import open_shards
from shardsynth.errors import JobError
from shardsynth.job import Job
from shardsynth.planning.survival import check_event_codes


def check(folder: Path, events: pa.Array, **survival: Any) -> None:
    half = len(events) // 2
    for number, part in enumerate((events[:half], events[half:])):
        pq.write_table(pa.table({"t": [1.0] * len(part), "event": part}), folder / f"{number}.parquet")
    options = {"survival": {"time": "t", "event": "event", **survival}}
    job = Job.parse(
        {"input": str(folder), "output": str(folder / "run"), "models": "gaussian_copula", "evaluate": options}
    )
    check_event_codes(job, open_shards(str(folder)))


@pytest.mark.parametrize(
    "events",
    [
        pa.array([0, 1, 1, None] * 5, pa.int8()),
        pa.array([0.0, 1.0, float("nan"), 1.0] * 5),
        pa.array([1, 1, 1, 1] * 5),
        pa.array([True, False, None, True] * 5),
        pa.array([0, 1] * 10, pa.int64()).cast(pa.decimal128(20, 0)),
    ],
)
def test_zero_and_one_need_no_value(tmp_path: Path, events: pa.Array) -> None:
    check(tmp_path, events)


@pytest.mark.parametrize("kind", [pa.int8(), pa.float32(), pa.float64(), pa.uint16()])
def test_other_codes_want_a_value_and_are_told_by_their_rows(tmp_path: Path, kind: pa.DataType) -> None:
    events = pa.array([7, 7, 7, 2, 2, 9] * 4, pa.int64()).cast(kind)
    with pytest.raises(
        JobError, match=r"survival.event: 'event' has 3 codes \(on 12, 8, 4 rows\).*`value: 2`"
    ) as error:
        check(tmp_path, events)
    assert "7" not in str(error.value) and "9" not in str(error.value)
    check(tmp_path, events, value=7)
    check(tmp_path, events, value="9")
    check(tmp_path, events, value=2.0)


def test_a_value_that_no_row_has_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        JobError, match=r"survival.value: no row of 'event' has it; the column has 2 codes \(on 12, 6 rows\)"
    ):
        check(tmp_path, pa.array(["dead", "lost", "lost"] * 6), value="DEAD")
    check(tmp_path, pa.array(["dead", "lost", "lost"] * 6).dictionary_encode(), value="dead")
    check(tmp_path, pa.array([True, False] * 6), value=True)


def test_so_many_codes_are_no_event(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"has 400 codes \(on 1, 1, 1, .*\.\.\. rows\)"):
        check(tmp_path, pa.array(range(400)))
