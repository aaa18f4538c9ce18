"""Batches of plain numbers and dates, recognised by their bytes, are what the patterns say they are."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardsynth.data.importer import import_table
from shardsynth.data.plain_texts import plain_texts
from shardsynth.data.text_types import NULL_TEXTS, TargetType, convert, guess

NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,20}|[0-9]{0,3})(\.[0-9]{0,4})?", fullmatch=True)
DAYS = st.dates(min_value=dt.date(1, 1, 1)).map(dt.date.isoformat)
TIMES = st.datetimes().map(lambda moment: moment.replace(microsecond=0).isoformat(" "))
ODD = st.sampled_from(["", ".", "-", "--1", "1-2", "1.2.3", " 5", "007", "-01", "0000-01-01", "2023-02-30", "1e5", "x"])
TEXTS = st.one_of(
    *(st.lists(st.none() | kind, max_size=80) for kind in (NUMBERS, DAYS, TIMES)),
    st.lists(st.none() | NUMBERS | DAYS | ODD, max_size=6),
)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(0, 3))
def test_what_is_plain_is_what_the_patterns_say(texts: list[str | None], start: int) -> None:
    array = pa.array(texts, pa.string()).slice(start)
    found = plain_texts(array, NULL_TEXTS)
    if found is not None:
        expected = guess(array, NULL_TEXTS)
        assert found[0] == expected
        assert found[1].equals(convert(array, TargetType(expected.type), NULL_TEXTS))


@pytest.mark.parametrize(
    ("texts", "family"),
    [
        (["1", "-20", None, "0"], "int"),
        (["1.5", "-.5", "7.", "0.25", "3"], "float"),
        (["2024-02-29", None], "date"),
        (["2024-02-29 23:59:59", "0001-01-01T00:00:00"], "timestamp"),
        (["9223372036854775808"], None),
        (["007"], None),
        (["0000-01-01", "2024-01-01"], None),
        (["north", "1"], None),
    ],
)
def test_plain_batches_are_recognised(texts: list[str | None], family: str | None) -> None:
    found = plain_texts(pa.array(texts, pa.string()), NULL_TEXTS)
    assert (found and found[0].family) == family


def test_a_number_that_means_missing_is_missing() -> None:
    found = plain_texts(pa.array(["1", "-9", "2"]), [*NULL_TEXTS, "-9"])
    assert found is not None and found[1].to_pylist() == [1, None, 2]


def test_later_rows_can_need_other_types(tmp_path: Path) -> None:
    rows = 1_500_000
    text = "".join(f"{k % 7},2024-01-01,a\n" for k in range(rows))  # more than is looked at before the first is written
    (tmp_path / "a.csv").write_text(f"n,day,t\n{text}0.5,2024-01-02 10:00:00,007\n")
    (shard,) = import_table(tmp_path / "a.csv", tmp_path / "data", rows_per_shard=2 * rows)
    table = pq.read_table(shard)
    assert table.schema.types == [pa.float64(), pa.timestamp("ms"), pa.string()]
    assert len(table) == rows + 1 and table["n"][-1].as_py() == 0.5 and table["t"][-1].as_py() == "007"
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["part-00000.parquet"]
