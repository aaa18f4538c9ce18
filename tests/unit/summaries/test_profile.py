from __future__ import annotations

import decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.tables.every_kind import SCHEMA, batches_of, splits, table

from shardsynth.errors import MergeError, RunError, ShardError
from shardsynth.summaries.profile import Profile, ProfileOptions
from shardsynth.summaries.rows import hash_rows

quiet = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def saved(profile: Profile, path: Path) -> bytes:
    profile.save(path)
    return path.read_bytes()


def profiled(rows: pa.Table, options: ProfileOptions, keep: np.ndarray | None = None) -> Profile:
    profile = Profile.empty(rows.schema, options)
    if rows.num_rows:
        profile.update(rows.unify_dictionaries().combine_chunks().to_batches()[0], 0, keep)
    return profile


@quiet
@given(data=st.data(), rows=st.integers(0, 60), seed=st.integers(0, 99), limit=st.sampled_from([5, 12, 10_000]))
def test_any_split_and_any_order_of_merging_give_the_same_bytes(tmp_path, data, rows, seed, limit) -> None:
    whole = table(rows, seed)
    options = ProfileOptions(seed=seed, total_rows=rows, sample_rows=20, distinct=limit, extremes=3)
    keep = np.random.default_rng(seed).random(rows) < 0.8
    expected = saved(profiled(whole, options, keep).cut(), tmp_path / "a")
    parts = []
    for part in data.draw(splits(rows)):
        profile = Profile.empty(SCHEMA, options)
        for first, batch in batches_of(whole, part, seed):
            profile.update(batch, first, keep[first : first + batch.num_rows])
        parts.append(profile)
    parts = data.draw(st.permutations(parts))
    if data.draw(st.booleans()):  # some parts travel through a file
        parts[0].save(tmp_path / "part")
        parts[0] = Profile.load(tmp_path / "part")
    merged = Profile.empty(SCHEMA, options)
    for profile in parts:
        merged.merge(profile)
    assert saved(merged.cut(), tmp_path / "b") == expected
    assert saved(Profile.load(tmp_path / "b"), tmp_path / "c") == expected


def numbers(values: pa.Array, limit: int = 10_000, extremes: int = 5):
    rows = pa.table({"x": values})
    return profiled(rows, ProfileOptions(distinct=limit, extremes=extremes)).columns[0]


def test_counts_missing_values_by_kind() -> None:
    tally = numbers(pa.array([1.0, None, float("nan"), float("nan"), 2.5, -0.0, 0.0]))
    assert (tally.rows, tally.nulls, tally.nans, tally.present) == (7, 1, 2, 4)
    values, counts = tally.value_counts()
    assert values.tolist() == [0.0, 1.0, 2.5] and counts.tolist() == [2, 1, 1]
    assert not np.signbit(values[0])


def test_integers_beyond_two_to_the_53_are_exact() -> None:
    values = [2**64 - 1, 2**64 - 4, 2**63 + 2]
    tally = numbers(pa.array(values, pa.uint64()))
    assert (tally.low, tally.high) == (2**63 + 2, 2**64 - 1)
    assert (tally.grid.unit, tally.grid.residue) == (np.gcd.reduce([3, 2**63 - 6]), 0)
    wide = [3 - 2**63, 2**63 - 2]
    assert numbers(pa.array(wide, pa.int64())).grid.unit == 2**64 - 5
    assert numbers(pa.array([*wide, -(2**63), 2**63 - 1], pa.int64())).grid.unit == 2**64 - 5, "infinite dates"


def test_after_too_many_values_the_ends_and_the_grid_go_on() -> None:
    rng = np.random.default_rng(0)
    values = (rng.integers(-1000, 1000, 5000) * 60).tolist() + [-99_000, -99_000, 99_000]
    for limit in (10, 10_000):
        tally = numbers(pa.array(values), limit=limit, extremes=2)
        assert tally.distinct == (None if limit == 10 else len(set(values)))
        assert tally.lowest[0].tolist() == sorted(set(values))[:2] and tally.lowest[1][0] == 2
        assert tally.highest[0].tolist() == sorted(set(values))[-2:] and tally.highest[1][-1] == 1
        assert tally.grid.unit == 60


def test_decimals_of_floats() -> None:
    assert numbers(pa.array([0.1, 0.25, 3.0])).grid.digits == 2
    assert numbers(pa.array([0.1, 0.25], pa.float32())).grid.digits == 2
    assert numbers(pa.array(np.random.default_rng(0).random(50))).grid.kind == "float"
    assert numbers(pa.array([1e300, 2.0])).grid.digits == 0
    cents = numbers(pa.array([decimal.Decimal("1.50"), decimal.Decimal("-2.00")]))
    assert (cents.low, cents.high, cents.axis_range) == (-200, 150, (-2.0, 1.5))


def test_infinite_values_are_reported_with_their_first_row(tmp_path) -> None:
    rows = pa.table({"ok": [1.0, 2, 3, 4], "bad": [1.0, float("inf"), float("-inf"), 4.0]})
    left, right = (Profile.empty(rows.schema) for _ in range(2))
    right.update(rows.slice(2).combine_chunks().to_batches()[0], 102)
    left.update(rows.slice(0, 2).combine_chunks().to_batches()[0], 100)
    right.save(tmp_path / "part")
    merged = Profile.load(tmp_path / "part").merge(left)
    assert merged["bad"].infinite == 2 and merged["bad"].high == 4.0
    merged.check_finite(["ok"])
    with pytest.raises(ShardError, match=r"column 'bad': 2 infinite value\(s\), the first in row 101"):
        merged.check_finite()


def test_the_sample_is_the_rows_of_smallest_hash(tmp_path) -> None:
    n, k = 20_000, 1000
    rows = pa.table({"row": pa.array(np.arange(n)), "word": pa.array(["a", "b"] * (n // 2)).dictionary_encode()})
    options = ProfileOptions(seed=3, total_rows=n, sample_rows=k)
    profile = Profile.empty(rows.schema, options)
    for batch in rows.to_batches(max_chunksize=777):
        profile.update(batch, batch["row"][0].as_py())
    held = profile.sample.num_rows
    assert k < held < 1.45 * k
    profile.cut()
    chosen = np.sort(np.argsort(hash_rows(3, "sample", 0, n))[:k])
    assert profile.sample["row"].to_numpy().tolist() == chosen.tolist() == profile.sample_row_numbers.tolist()
    assert profile.sample.schema.field("word").type == pa.string()


def test_a_table_smaller_than_the_sample_is_kept_whole() -> None:
    rows = table(50, 0)
    profile = profiled(rows, ProfileOptions(total_rows=50)).cut()
    assert profile.sample.num_rows == 50
    assert profile.sample["word"].to_pylist() == rows["word"].to_pylist()


def test_parts_of_other_options_or_columns_do_not_merge() -> None:
    one, other = Profile.empty(SCHEMA), Profile.empty(SCHEMA, ProfileOptions(seed=1))
    with pytest.raises(MergeError, match="different options"):
        one.merge(other)
    with pytest.raises(MergeError):
        one.merge(Profile.empty(pa.schema([("x", pa.int8())])))


def test_a_truncated_file_is_named(tmp_path) -> None:
    path = tmp_path / "p"
    profiled(table(5, 0), ProfileOptions()).save(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match="not a readable summary"):
        Profile.load(path)


def test_a_dictionary_with_repeated_or_null_entries_counts_values() -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3, None], pa.int8()), pa.array(["a", "b", "a", None]))
    profile = profiled(pa.table({"w": array}), ProfileOptions())
    values, counts = profile["w"].value_counts()
    assert values.to_pylist() == ["a", "b"] and counts.tolist() == [2, 1] and profile["w"].nulls == 2


def test_adult_is_profiled_exactly(adult_dir) -> None:
    rows = pa.concat_tables([pq.read_table(f) for f in sorted(adult_dir.glob("*.parquet"))])
    profile = Profile.empty(rows.schema, ProfileOptions(total_rows=len(rows)))
    first = 0
    for batch in rows.to_batches(max_chunksize=5000):
        profile.update(batch, first)
        first += batch.num_rows
    frame = rows.to_pandas()
    for name in rows.column_names:
        tally = profile[name]
        assert tally.nulls == frame[name].isna().sum()
        if tally.distinct is None:
            assert name == "fnlwgt" and (tally.low, tally.high) == (frame[name].min(), frame[name].max())
        else:
            expected = frame[name].value_counts()
            values, counts = tally.values_as_arrow().to_pylist(), tally.value_counts()[1].tolist()
            assert dict(zip(values, counts)) == {k: v for k, v in expected.items() if v}
