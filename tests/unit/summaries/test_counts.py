from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.tables.every_kind import SCHEMA, batches_of, splits, table

from shardsynth.data.coding import TableCoder
from shardsynth.data.column_codes import SCORE_STEP
from shardsynth.data.columns import Column
from shardsynth.errors import MergeError
from shardsynth.summaries import counts as counts_module
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile, ProfileOptions
from shardsynth.summaries.ranges import ScoreRanges

quiet = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

CATEGORIES = {"flag", "text", "large", "bytes", "view", "word", "number word", "half", "decimal"}
MOMENTS_OF_TIME = {"stamp", "date", "time", "lapse"}


def columns(schema: pa.Schema = SCHEMA) -> list[Column]:
    found = []
    for f in schema:
        if f.name in ("gone word", "nothing", "gone"):
            sdtype, role = ("numerical" if f.name == "gone" else "categorical"), "empty"
        elif f.name in CATEGORIES:
            sdtype, role = "categorical", "category"
        elif f.name in MOMENTS_OF_TIME:
            sdtype, role = "datetime", "datetime"
        else:
            sdtype, role = "numerical", "number"
        found.append(Column(f.name, f.type, sdtype, role))
    return found


def profile_of(rows: pa.Table) -> Profile:
    profile = Profile.empty(rows.schema, ProfileOptions(total_rows=rows.num_rows))
    for batch in rows.unify_dictionaries().combine_chunks().to_batches():
        profile.update(batch, 0)
    return profile


class Odd:
    """A relation that the rows with a true flag break."""

    def violations(self, batch: pa.RecordBatch) -> int:
        return sum(1 for v in batch.column("flag").to_pylist() if v)


def saved(counts: Counts, path: Path) -> bytes:
    counts.save(path)
    return path.read_bytes()


@quiet
@given(data=st.data(), rows=st.integers(0, 60), seed=st.integers(0, 99))
def test_any_split_and_any_order_of_merging_give_the_same_bytes(tmp_path, data, rows, seed) -> None:
    whole = table(rows, seed)
    profile = profile_of(whole)
    coder = TableCoder.from_profile(profile, columns())
    ranges = ScoreRanges.from_profile(profile, coder.columns)

    def empty() -> Counts:
        # Two thirds of the rows enter the fit tables.
        return Counts.empty(coder, fit=True, score=ranges, seed=1, total_rows=3_000_000, relations=[Odd()])

    expected = empty()
    for batch in whole.combine_chunks().to_batches():
        expected.update(batch, 0)
    parts = []
    for part in data.draw(splits(rows)):
        counts = empty()
        for first, batch in batches_of(whole, part, seed):
            counts.update(batch, first)
        parts.append(counts)
    parts = data.draw(st.permutations(parts))
    if data.draw(st.booleans()):
        parts[0].save(tmp_path / "part")
        parts[0] = Counts.load(tmp_path / "part", coder)
    merged = empty()
    for counts in parts:
        merged.merge(counts)
    assert saved(merged, tmp_path / "a") == saved(expected, tmp_path / "b")
    loaded = Counts.load(tmp_path / "a", coder)
    assert saved(loaded, tmp_path / "c") == saved(merged, tmp_path / "a")
    assert merged.rows == rows
    assert merged.violations == [sum(1 for v in whole["flag"].to_pylist() if v)]


@quiet
@given(data=st.data(), rows=st.integers(0, 60), seed=st.integers(0, 99))
def test_ranges_of_parts_are_those_of_the_profile(data, rows, seed) -> None:
    whole = table(rows, seed)
    expected = ScoreRanges.from_profile(profile_of(whole), columns())
    merged = ScoreRanges.empty(columns())
    for part in data.draw(splits(rows)):
        ranges = ScoreRanges.empty(columns())
        for _, batch in batches_of(whole, part, seed):
            ranges.update(batch)
        merged.merge(ScoreRanges.from_json(ranges.to_json()))
    assert merged.to_json() == expected.to_json()


def counted(rows: pa.Table, cols: list[Column], **options) -> tuple[TableCoder, Counts]:
    profile = profile_of(rows)
    coder = TableCoder.from_profile(profile, cols)
    counts = Counts.empty(coder, fit=True, score=ScoreRanges.from_profile(profile, cols), **options)
    first = 0
    for batch in rows.to_batches(max_chunksize=700):
        counts.update(batch, first)
        first += batch.num_rows
    return coder, counts


def adult(folder: Path) -> tuple[pa.Table, list[Column]]:
    rows = pa.concat_tables([pq.read_table(f) for f in sorted(folder.glob("*.parquet"))])
    cols = [
        Column(f.name, f.type, "categorical", "category")
        if pa.types.is_dictionary(f.type)
        else Column(f.name, f.type, "numerical", "number")
        for f in rows.schema
    ]
    return rows, cols


def test_tables_of_adult_are_pandas_own(adult_dir: Path) -> None:
    rows, cols = adult(adult_dir)
    coder, counts = counted(rows, cols)
    encoded = coder.encode(rows)
    frame = rows.to_pandas()
    assert counts.rows == counts.fit_rows == len(frame)
    for i, coded in enumerate(coder.columns):
        assert counts.hist[i].tolist() == np.bincount(encoded.codes[i], minlength=coded.n_codes).tolist()
        assert np.array_equal(counts.hist[i], coded.mass)
    for i, j in itertools.combinations(range(len(cols)), 2):
        a, b = coder.columns[i], coder.columns[j]
        coarse = np.zeros((a.n_coarse, b.n_coarse), np.int64)
        np.add.at(coarse, (a.coarse[encoded.codes[i]], b.coarse[encoded.codes[j]]), 1)
        assert np.array_equal(counts.pair(i, j), coarse) and np.array_equal(counts.pair(j, i), coarse.T)
    digitized = {
        c: np.digitize(frame[c], np.histogram_bin_edges(frame[c].dropna())) for c in frame.select_dtypes("number")
    }
    for i, j in itertools.combinations(range(len(cols)), 2):
        names = [cols[i].name, cols[j].name]
        if all(name in digitized for name in names):
            continue
        series = [pd.Series(digitized.get(n, frame[n].astype(object).fillna("~~missing"))) for n in names]
        expected = pd.crosstab(*series).to_numpy()
        found = counts.score_pair(i, j)
        assert sorted(found[found > 0].tolist()) == sorted(expected[expected > 0].tolist()), names


def test_correlations_are_numpys_over_the_rows_where_both_are_present() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    base = rng.normal(size=n)
    heavy = np.exp(4 * rng.normal(size=n))
    rows = pa.table(
        {
            "x": pa.array(base, mask=rng.random(n) < 0.3),
            "y": np.where(rng.random(n) < 0.2, np.nan, base + 3 * rng.normal(size=n)),
            "heavy": heavy,
            "shifted": 1e9 + heavy / 1e3,
            "int": pa.array((1000 * base).astype(np.int32)),
            "big": pa.array(rng.integers(0, 2**62, n)),
            "constant": np.ones(n),
            "empty half": pa.array(np.where(base > 0, base, np.nan)),
            "other half": pa.array(np.where(base > 0, np.nan, base)),
        }
    )
    cols = [Column(f.name, f.type, "numerical", "number") for f in rows.schema]
    _, counts = counted(rows, cols)
    r, both = counts.moments.correlations()
    frame = rows.to_pandas()
    for (i, a), (j, b) in itertools.combinations(enumerate(frame), 2):
        pair = frame[[a, b]].dropna()
        assert both[i, j] == len(pair)
        if "constant" in (a, b) or len(pair) < 2:
            assert np.isnan(r[i, j])
        else:
            assert r[i, j] == pytest.approx(np.corrcoef(pair[a], pair[b])[0, 1], abs=1e-8)


def test_sums_beyond_64_bits_are_carried() -> None:
    rows = pa.table({"x": pa.array([0, 2**40 - 1] * 10), "y": pa.array([0, 2**40 - 1] * 10)})
    _, counts = counted(rows, [Column(f.name, f.type, "numerical", "number") for f in rows.schema])
    for _ in range(20):  # 10^7 rows
        counts.moments.merge(counts.moments)
    r, both = counts.moments.correlations()
    assert both[0, 1] == 20 * 2**20 and r[0, 1] == 1.0


def test_missing_values_are_counted_together() -> None:
    rows = pa.table(
        {
            "a": [None, 1.0, None, 2.0],
            "b": ["x", None, None, "y"],
            "c": [1.0, 2.0, 3.0, 4.0],
            "d": [None, 5.0, float("nan"), 6.0],
        }
    )
    cols = [
        Column(n, rows.schema.field(n).type, *(("categorical", "category") if n == "b" else ("numerical", "number")))
        for n in rows.column_names
    ]
    coder, counts = counted(rows, cols)
    assert coder.missing_columns == [0, 1, 3]
    assert counts.missing_gram.tolist() == [[2, 1, 2], [1, 2, 1], [2, 1, 2]]


def test_values_of_another_table_that_were_never_seen_are_told() -> None:
    rows = pa.table({"c": ["a", "b", "a"], "n": [1.0, 2.0, 3.0], "w": pa.array(["u", "v", "u"]).dictionary_encode()})
    cols = [
        Column("c", pa.string(), "categorical", "category"),
        Column("n", pa.float64(), "numerical", "number"),
        Column("w", rows.schema.field("w").type, "categorical", "category"),
    ]
    coder, _ = counted(rows, cols)
    other = pa.table(
        {
            "c": ["a", "z", "y", "z"],
            "n": [0.5, 3.0, 3.5, None],
            "w": pa.array(["u", "q", None, "v"]).dictionary_encode(),
        }
    )
    counts = Counts.empty(coder, fit=False, score=ScoreRanges.empty(cols).update(other.to_batches()[0]))
    counts.update(other.to_batches()[0], 0)
    assert counts.unseen == [3, 2, 1]
    assert [u.distinct for u in counts.outside] == [2, 0, 1]
    assert counts.hist[0].tolist() == [1, 0, 0] and counts.hist[1][-1] == 1
    assert counts.score_pair(0, 2).sum() == 4


def test_many_categories_share_a_score_code() -> None:
    words = [f"w{k:03d}" for k in range(400) for _ in range(1 + k % 3)]
    rows = pa.table({"c": words, "d": pa.array([k % 2 for k in range(len(words))]).cast(pa.string())})
    cols = [Column(n, pa.string(), "categorical", "category") for n in rows.column_names]
    _, counts = counted(rows, cols)
    table_ = counts.score_pair(0, 1)
    assert table_.shape == (258, 4) and table_.sum() == len(words)
    assert counts.pair(0, 1).shape == (32, 3)


def test_parts_of_other_ranges_do_not_merge() -> None:
    rows = pa.table({"n": [1.0, 2.0]})
    cols = [Column("n", pa.float64(), "numerical", "number")]
    coder, counts = counted(rows, cols)
    with pytest.raises(MergeError, match="different codes or ranges"):
        counts.merge(Counts.empty(coder, fit=True, score=ScoreRanges.empty(cols)))
    with pytest.raises(MergeError):
        counts.merge(Counts.empty(coder, fit=True, score=None))


def test_a_wide_table_has_the_gram_matrix_of_normal_scores_instead(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("shardsynth.data.coding.WIDE", 3)
    monkeypatch.setattr(counts_module, "FIT_ROWS", 700)
    rng = np.random.default_rng(0)
    base = rng.normal(size=(3000, 4)) @ rng.normal(size=(4, 4))
    base[:, 0] = np.where(rng.random(3000) < 0.2, np.nan, base[:, 0])
    rows = pa.table({f"c{k}": base[:, k] for k in range(4)})
    cols = [Column(f.name, f.type, "numerical", "number") for f in rows.schema]
    coder, counts = counted(rows, cols)
    assert 600 < counts.fit_rows < 800
    with pytest.raises(KeyError):
        counts.pair(0, 1)
    with pytest.raises(KeyError):
        counts.score_pair(0, 1)
    whole = Counts.empty(coder, fit=True, score=None, total_rows=1)
    whole.update(rows.to_batches()[0], 0)
    encoded = coder.encode(rows)
    scores = np.array([s[c] for s, c in zip(coder.normal_scores, encoded.codes)])
    assert np.array_equal(whole.scores * SCORE_STEP**2, scores @ scores.T)
    assert np.array_equal(whole.score_sums * SCORE_STEP, scores.sum(axis=1))
    assert abs(scores[1].mean()) < 1e-3 and abs(scores[1].var() - 1) < 0.01
    assert (scores[0][np.isnan(base[:, 0])] == 0).all()
    coder.save(tmp_path / "coder")
    carried = TableCoder.load(tmp_path / "coder")
    assert all("scores" in c.__dict__ for c in carried.columns)
    assert all(np.array_equal(a, b) for a, b in zip(carried.normal_scores, coder.normal_scores))
    whole.save(tmp_path / "w")
    assert np.array_equal(Counts.load(tmp_path / "w", coder).scores, whole.scores)
    r, _ = counts.moments.correlations()
    assert np.allclose(r, rows.to_pandas().corr(), atol=1e-6)


def test_counts_of_no_rows_are_empty() -> None:
    whole = table(0, 0)
    coder, counts = counted(whole, columns())
    assert counts.rows == 0 and all(h.sum() == 0 for h in counts.hist)
