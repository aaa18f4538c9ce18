from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column
from shardsynth.data.cuts import COARSE, coarse_codes, cuts_of, normal_scores
from shardsynth.summaries.profile import Profile, ProfileOptions


def coded(rows: pa.Table, cols: list[Column], distinct: int = 10_000, sample: int = 200_000) -> TableCoder:
    profile = Profile.empty(rows.schema, ProfileOptions(total_rows=len(rows), distinct=distinct, sample_rows=sample))
    first = 0
    for batch in rows.to_batches():
        profile.update(batch, first)
        first += batch.num_rows
    return TableCoder.from_profile(profile.cut(), cols)


def one(values: pa.Array, sdtype: str, role: str, distinct: int = 10_000, **options):
    column = Column("x", values.type, sdtype, role, options)
    return coded(pa.table({"x": values}), [column], distinct).columns[0]


def category(values: pa.Array, sdtype: str = "categorical", **options):
    return one(values, sdtype, "category", **options)


def number(values: pa.Array, **options):
    return one(values, "numerical", "number", **options)


def test_categories_are_in_order_of_value_and_missing_is_last() -> None:
    c = category(pa.array(["b", None, "a", "b"]))
    assert c.values.to_pylist() == ["a", "b"] and c.missing == 2 and c.n_codes == 3
    assert c.codes(pa.array(["a", "b", None, "new"])).tolist() == [0, 1, 2, c.unseen]
    assert c.mass.tolist() == [1, 2, 1]
    assert c.coarse.tolist() == [0, 1, 2] and c.n_coarse == 3


@pytest.mark.parametrize(
    ("values", "probe", "expected"),
    [
        (pa.array([3, 1, None], pa.int8()), pa.array([1, 3, 2, None], pa.int8()), [0, 1, 3, 2]),
        (pa.array([3, 1, None]), pa.array([1, 3, 2, None, 10**15, -(10**15)]), [0, 1, 3, 2, 3, 3]),
        (pa.array([0, 10**12]), pa.array([10**12, 5, 0]), [1, 3, 0]),
        (pa.array([2**64 - 1, 5], pa.uint64()), pa.array([5, 2**64 - 1, 6], pa.uint64()), [0, 1, 3]),
        (pa.array([0.5, float("nan"), None]), pa.array([0.5, None, float("nan"), 0.7]), [0, 1, 1, 2]),
        (pa.array([True, False, None]), pa.array([False, True, None]), [0, 1, 2]),
        (pa.array([b"\xff", b"a"]), pa.array([b"a", b"\xff", b"z"]), [0, 1, 3]),
        (pa.array([5, 9], pa.timestamp("s")), pa.array([9, 5, 6], pa.timestamp("s")), [1, 0, 3]),
        (pa.array(["x", "y"]).dictionary_encode(), pa.array(["y", "q", None, "x"]).dictionary_encode(), [1, 3, 2, 0]),
        (pa.array(["x", "y"]).dictionary_encode(), pa.array([None], pa.string()).dictionary_encode(), [2]),
        (pa.array([4, 2]).dictionary_encode(), pa.array([2, 4, None, 3]).dictionary_encode(), [0, 1, 2, 3]),
    ],
)
def test_categories_of_any_type(values: pa.Array, probe: pa.Array, expected: list[int]) -> None:
    assert category(values).codes(probe).tolist() == expected


def test_an_ordinal_column_keeps_the_order_of_its_range_values() -> None:
    words = pa.array(["low", "high", "mid", "odd"])
    c = category(words, "ordinal", range_values=["low", "mid", "high"])
    assert c.values.to_pylist() == ["low", "mid", "high", "odd"]
    flags = category(pa.array([0, 1, 1], pa.int8()), "ordinal", range_values=[1.0, 0.0])
    assert flags.values.to_pylist() == [1, 0] and flags.codes(pa.array([0, 1], pa.int8())).tolist() == [1, 0]
    nominal = category(words, "categorical", range_values=["low", "mid", "high"])
    assert nominal.values.to_pylist() == ["high", "low", "mid", "odd"]


def test_too_many_categories_leave_the_rare_ones_to_other() -> None:
    values = pa.array(["common"] * 50 + ["usual"] * 10 + [f"r{k}" for k in range(30)])
    c = category(values, distinct=20)
    assert c.other and c.values.to_pylist() == ["common", "usual"]
    assert c.codes(pa.array(["usual", "r3", "new", None])).tolist() == [1, 2, 2, 3]
    assert c.mass.tolist() == [50, 10, 30, 0]
    codes = c.codes(values.dictionary_encode())
    assert np.bincount(codes, minlength=4).tolist() == c.mass.tolist()


def test_few_values_are_atoms_and_everything_else_falls_between() -> None:
    c = number(pa.array([1.0, 2.5, None, 2.5]))
    assert c.cuts.tolist() == [1.0, np.nextafter(1.0, 2), 2.5, np.nextafter(2.5, 3)]
    probe = pa.array([0.9, 1.0, 2.0, 2.5, 3.0, None, float("nan")])
    assert c.codes(probe).tolist() == [0, 1, 2, 3, 4, 5, 5]
    assert c.atoms.tolist() == [False, True, False, True, False, False]
    assert c.mass.tolist() == [0, 1, 0, 2, 0, 1]
    assert (c.low, c.high, c.bounds) == (1.0, 2.5, (1.0, 2.5))
    assert c.precision.digits == 1 and not c.emit_nan
    assert number(pa.array([1.0, float("nan")])).emit_nan


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64, np.float32])
def test_codes_are_the_bisection_of_the_axis_whatever_the_look_up(dtype) -> None:
    rng = np.random.default_rng(0)
    low = 0 if np.dtype(dtype).kind == "u" else -100
    values = rng.integers(low, 100, 3000).astype(dtype)
    c = number(pa.array(values[::2]))
    probe = np.concatenate([values, np.array([low, 126], dtype)])
    expected = np.searchsorted(c.cuts, probe.astype(np.float64), side="right")
    assert np.array_equal(c.codes(pa.array(probe)), expected)


def test_many_values_are_cut_into_even_bins_with_atoms_where_values_repeat() -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.random(50_000) < 0.3, 0.0, rng.lognormal(size=50_000))
    for distinct in (10, 10**6):  # quantiles of the sample, or of all values
        c = number(pa.array(values), distinct=distinct)
        assert c.n_codes < 1200
        counts = np.bincount(c.codes(pa.array(values)), minlength=c.n_codes)
        atoms = c.atoms
        assert counts[:-1][~atoms[:-1]].max() <= 50_000 * (1 / 1024 + 1 / 2048)
        zero = int(c.codes(pa.array([0.0]))[0])
        assert atoms[zero] and counts[zero] == (values == 0).sum()
        assert counts[0] == counts[c.missing - 1] == 0
        top = c.codes(pa.array([values.max()]))[0]
        assert atoms[top] and top == c.missing - 2


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 3000), st.booleans())
def test_cuts_increase_and_hold_the_ends(seed: int, n: int, exact: bool) -> None:
    rng = np.random.default_rng(seed)
    values = np.unique(np.round(rng.standard_cauchy(n), rng.integers(0, 6)))
    counts = rng.integers(1, 50, len(values))
    cuts = cuts_of(values, counts, values[0] - 1, values[-1], bounds=[values[-1] + 5], exact=exact)
    assert (np.diff(cuts) > 0).all()
    for end in (values[0] - 1, values[-1], values[-1] + 5):
        assert end in cuts and np.nextafter(end, np.inf) in cuts


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.integers(1, 400), st.booleans())
def test_coarse_codes_are_few_full_and_in_order(seed: int, n: int, ordered: bool) -> None:
    rng = np.random.default_rng(seed)
    mass = np.rint(rng.pareto(0.7, n) * (rng.random(n) < 0.8)).astype(np.int64)
    codes = coarse_codes(mass, ordered=ordered)
    assert codes.min() >= 0 and codes.max() < COARSE
    if ordered:
        assert (np.diff(codes) >= 0).all()
    if mass.sum():
        totals = np.bincount(codes, weights=mass)
        assert (totals > 0).all()
        seen = np.count_nonzero(mass)
        if seen <= COARSE:
            assert len(totals) == seen
        elif ordered:
            # No code holds much more than its share, unless it is one single value.
            heaviest = totals.argmax()
            alone = np.count_nonzero(mass[codes == heaviest]) == 1
            assert alone or totals[heaviest] <= mass.sum() * 0.35


def test_normal_scores_are_the_means_of_their_slices() -> None:
    scores = normal_scores(np.array([5, 0, 5]))
    assert scores[2] == pytest.approx(np.sqrt(2 / np.pi)) and scores[0] == -scores[2] and scores[1] == 0
    many = normal_scores(np.full(1000, 3))
    assert many @ np.full(1000, 1e-3) == pytest.approx(0, abs=1e-12) and many.var() == pytest.approx(1, abs=2e-3)
    assert normal_scores(np.array([7])).tolist() == [0.0]
    assert normal_scores(np.array([0, 0])).tolist() == [0.0, 0.0]


def test_fourteen_decimals_join_what_sdmetrics_joins() -> None:
    c = number(pa.array([0.1 + 0.2, 0.7]))
    assert c.codes(pa.array([0.3]))[0] == c.codes(pa.array([0.1 + 0.2]))[0]
    tiny = number(pa.array([1e-15, 2e-15]))
    assert tiny.codes(pa.array([1e-15, 2e-15])).tolist() == [1, 3]


def test_datetimes_of_text_lie_on_nanoseconds() -> None:
    values = pa.array(["2020-01-05", "2020-01-03", None])
    for distinct in (10, 1):
        c = one(values, "datetime", "datetime", distinct=distinct, datetime_format="%Y-%m-%d")
        assert c.codes(values)[2] == c.missing
        assert c.high - c.low == 2 * 86_400 * 10**9
        assert c.precision.unit == 2 * 86_400 * 10**9
        assert c.values is None


def test_bounds_of_the_metadata_are_atoms() -> None:
    c = number(pa.array([1.0, 2.0]), range_min=0.5, range_max=9)
    assert c.bounds == (0.5, 9.0) and {0.5, 9.0} <= set(c.cuts)
    f = number(pa.array([0.1, 0.3], pa.float32()), range_max=0.3)
    assert f.bounds[1] == float(np.float32(0.3))
    d = one(pa.array([0, 10**9], pa.timestamp("ms", "UTC")), "datetime", "datetime", range_max="1970-01-01T00:00:01Z")
    assert d.bounds == (0.0, 1000.0)
    day = one(pa.array([1, 5], pa.date32()), "datetime", "datetime", range_max="1970-01-11")
    assert day.bounds == (1.0, 10.0)


def test_all_missing_and_constant_columns_have_codes() -> None:
    gone = number(pa.array([None, None], pa.float64()))
    assert gone.n_codes == 2 and gone.codes(pa.array([None, 1.0])).tolist() == [1, 0]
    constant = number(pa.array([7, 7], pa.int16()))
    assert constant.codes(pa.array([6, 7, 8], pa.int16())).tolist() == [0, 1, 2]
    nothing = category(pa.array([None], pa.string()))
    assert nothing.n_codes == 1 and nothing.codes(pa.array([None], pa.string())).tolist() == [0]


def test_a_coder_comes_back_from_its_file(tmp_path, adult_dir) -> None:
    rows = pa.concat_tables([pq.read_table(f) for f in sorted(adult_dir.glob("*.parquet"))])
    rows = rows.append_column("bytes", pa.array([b"\xff", b"a"] * (len(rows) // 2) + [None] * (len(rows) % 2)))
    rows = rows.append_column("when", pa.array(range(len(rows)), pa.timestamp("s")))
    rows = rows.append_column("big", pa.array([2**64 - 1 - k % 3 for k in range(len(rows))], pa.uint64()))
    cols = []
    for f in rows.schema:
        if pa.types.is_dictionary(f.type) or f.name in ("bytes", "big", "education-num"):
            cols.append(Column(f.name, f.type, "categorical", "category", {"note": 1}))
        elif f.name == "when":
            cols.append(Column(f.name, f.type, "datetime", "datetime"))
        else:
            cols.append(Column(f.name, f.type, "numerical", "number"))
    cols[2] = Column("fnlwgt", pa.int32(), "id", "id")
    coder = coded(rows, cols)
    coder.save(tmp_path / "a")
    loaded = TableCoder.load(tmp_path / "a")
    loaded.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert loaded.table == tuple(cols) and [c.name for c in loaded.columns] == [c.name for c in coder.columns]
    mine, theirs = coder.encode(rows), loaded.encode(rows)
    for i, c in enumerate(coder.columns):
        assert np.array_equal(mine.codes[i], theirs.codes[i])
        assert c.values is None or c.values.equals(loaded.columns[i].values)
        assert c.precision == loaded.columns[i].precision
    ages = mine.axis[coder.index["age"]]
    assert ages.tolist() == rows["age"].to_pylist()
    assert mine.axis[coder.index["sex"]] is None
