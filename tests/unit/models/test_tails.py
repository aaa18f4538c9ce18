"""Tails of numeric columns: what a model has beyond the fifth most extreme value, and what it does not know of it."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from tests.tables.copula import native

from shardsynth.data.ends import EndRule, Ends
from shardsynth.data.values import Precision
from shardsynth.models.columns.marginals import Cells, Protection
from shardsynth.models.columns.tails import with_tails

N = 3_000
NO_BOUNDS = (-np.inf, np.inf)


def marginal_of(values: np.ndarray, precision: Precision | None = None, bounds: tuple[float, float] = NO_BOUNDS):
    """The quantile function of a column of floats without missing values."""
    precision = precision or Precision()
    ends = EndRule().of_rows("x", values, None)
    assert ends is not None
    distinct, counts = np.unique(ends.clipped(values), return_counts=True)
    cells = Cells(counts.astype(np.int64), distinct, distinct)
    return with_tails(cells, ends, (ends.low, ends.high), bounds, precision, Protection(), 0.0)


#: A distribution, and how the median of synthetic maxima may lie to that of maxima of new samples of as many values.
#: Where the variance is infinite or nearly so, 50 values tell little of the tail, and it is made too short.
HEAVY_AND_LIGHT = {
    "normal": (stats.norm(), 0.9, 1.15),
    "exponential": (stats.expon(), 0.85, 1.15),
    "uniform": (stats.uniform(), 0.98, 1.02),
    "bounded": (stats.beta(2, 5), 0.9, 1.1),
    "gamma": (stats.gamma(2), 0.85, 1.15),
    "lognormal": (stats.lognorm(1.0), 0.75, 1.25),
    "pareto 4": (stats.pareto(4.0), 0.6, 1.2),
    "pareto 2": (stats.pareto(2.0), 0.4, 1.2),
    "student": (stats.t(3), 0.5, 1.2),
}


@pytest.mark.parametrize("name", HEAVY_AND_LIGHT)
def test_synthetic_extremes_spread_as_those_of_a_new_sample(name: str) -> None:
    rng, (distribution, least, most) = np.random.default_rng(7), HEAVY_AND_LIGHT[name]
    synthetic, new = [], []
    for _ in range(30):
        marginal = marginal_of(distribution.rvs(N, random_state=rng))
        synthetic += [marginal.quantile(rng.random(N)).max() for _ in range(3)]
        new += [distribution.rvs(N, random_state=rng).max() for _ in range(3)]
    synthetic, new = (np.array(maxima) - distribution.median() for maxima in (synthetic, new))
    assert least < np.median(synthetic) / np.median(new) < most
    # They stray more, since the tail was fitted to one sample, but not much more.
    assert np.quantile(synthetic, 0.95) < 1.3 * np.quantile(new, 0.95)
    assert np.quantile(synthetic, 0.05) > 0.5 * np.quantile(new, 0.05)


def test_an_end_where_many_values_lie_has_no_tail() -> None:
    rng = np.random.default_rng(3)
    ages = np.minimum(np.rint(rng.normal(60, 18, N)), 90)  # as the ages of Adult are cut
    assert (ages == 90).sum() > 100
    marginal = marginal_of(ages, Precision("integer"))
    assert marginal.tails[1] == 0
    assert marginal.hi[-1] == 90


@pytest.mark.parametrize("seed", range(4))
def test_a_window_of_days_has_no_tails(seed) -> None:
    """Days of a study of 300, 10 rows each: none lies before its begin or after its end."""
    marginal = marginal_of(np.random.default_rng(seed).integers(0, 300, 3000).astype(float), Precision("integer"))
    assert marginal.tails == (0, 0)
    assert (marginal.lo[0], marginal.hi[-1]) == (pytest.approx(0, abs=0.5), pytest.approx(299, abs=0.5))


def test_counts_get_whole_numbers_beyond_the_end() -> None:
    values = np.random.default_rng(1).poisson(2.0, N).astype(np.float64)
    marginal = marginal_of(values, Precision("integer"), (0.0, 255.0))
    drawn = Precision("integer").snap(marginal.quantile(np.random.default_rng(2).random(200_000)))
    assert set(drawn) <= set(range(15))
    assert np.sort(values)[-5] < drawn.max()
    assert drawn.min() == 0


def test_no_value_lies_beyond_the_bounds() -> None:
    values = np.random.default_rng(4).exponential(1.0, N)
    marginal = marginal_of(values, bounds=(0.0, 9.0))
    assert 0.0 <= marginal.lo[0] <= np.sort(values)[4]
    assert np.sort(values)[-5] < marginal.hi[-1] <= 9.0


def test_few_rows_and_few_values_have_no_tails() -> None:
    assert marginal_of(np.random.default_rng(0).normal(size=39)).tails == (0, 0)
    flags = (np.arange(N) % 3 == 0).astype(np.float64)
    assert marginal_of(flags, Precision("integer")).tails == (0, 0)
    scale = np.random.default_rng(0).integers(0, 11, N).astype(np.float64)
    assert marginal_of(scale, Precision("integer")).tails == (0, 0)


@pytest.mark.parametrize(("visits", "own"), [(1, 300), (6, 12), (6, 300)])
def test_a_person_with_many_rows_does_not_stretch_a_tail(visits: int, own: int) -> None:
    """However many rows of hers lie beyond the end: they count as often as another person's near the end."""
    rng = np.random.default_rng(5)
    values, persons = rng.normal(size=N), (np.arange(N) // visits).astype(np.uint64)
    found = []
    for rows in (1, own):
        values_, persons_ = np.append(values, np.full(rows, 50.0)), np.append(persons, np.full(rows, 10**6, np.uint64))
        ends = EndRule().of_rows("x", values_, persons_)
        assert ends is not None
        assert ends.high == np.sort(values)[-4]
        assert ends.at_high == 5
        assert ends.each_high == pytest.approx(1, abs=0.1)
        distinct, counts = np.unique(ends.clipped(values_), return_counts=True)
        cells = Cells(counts.astype(np.int64), distinct, distinct)
        found.append(with_tails(cells, ends, (ends.low, ends.high), NO_BOUNDS, Precision(), Protection(), 0.0))
        assert found[-1].tails[1]
    assert found[1].hi[-1] == pytest.approx(found[0].hi[-1], rel=0.1)
    assert found[1].hi[-1] < 8


def table_with(ends: tuple[list[float], list[float]]) -> pa.Table:
    """Floats, integers, dates, stamps and texts of dates, whose four most extreme values on both sides are ``ends``."""
    rng = np.random.default_rng(11)
    z = rng.normal(size=N)

    def column(noise: float) -> np.ndarray:
        x = (z + noise * rng.normal(size=N)) / np.hypot(1.0, noise)
        order = np.argsort(x)
        x[order[:4]], x[order[-4:]] = ends
        return x

    def days(noise: float) -> list[datetime.date]:
        start = datetime.date(2010, 1, 1)
        return [start + datetime.timedelta(int(v)) for v in np.rint(column(noise) * 400)]

    return pa.table(
        {
            "float": np.round(column(0.5), 3),
            "free": np.where(np.arange(N) % 17 == 0, np.nan, column(0.6) * np.pi),
            "integer": np.rint(column(0.7) * 30).astype(np.int32),
            "date": pa.array(days(0.8), pa.date32()),
            "stamp": pa.array([datetime.datetime(d.year, d.month, d.day, 7) for d in days(0.9)], pa.timestamp("us")),
            "text": [d.isoformat() for d in days(1.0)],
            "group": np.where(z > 0.3, "a", "b"),
        }
    )


SDTYPES = {
    **dict.fromkeys(("float", "free", "integer"), "numerical"),
    **dict.fromkeys(("date", "stamp"), "datetime"),
    "text": {"sdtype": "datetime", "datetime_format": "%Y-%m-%d"},
    "group": "categorical",
}
OTHERS = [
    ([-4.0, -4.5, -5.0, -7.25], [3.9, 4.0, 5.5, 9.0]),
    ([-7.0, -7.0, -7.0, -7.0], [4.2, 4.2, 4.2, 4.2]),
]


@pytest.mark.parametrize("others", OTHERS)
def test_a_model_does_not_know_the_values_beyond_the_ends(tmp_path: Path, others) -> None:
    written = []
    for number, ends in enumerate((([-3.6, -3.7, -3.8, -3.9], [3.6, 3.7, 3.8, 3.9]), others)):
        model = native(table_with(ends), sdtypes=SDTYPES)
        model.save(tmp_path / str(number))
        written.append([(tmp_path / str(number) / name).read_bytes() for name in ("model.json", "model.safetensors")])
    assert written[0] == written[1]


def test_synthetic_values_lie_beyond_the_fifth_and_within_types(tmp_path: Path) -> None:
    real = table_with(([-3.6, -3.7, -3.8, -3.9], [3.6, 3.7, 3.8, 3.9]))
    model = native(real, sdtypes=SDTYPES)
    model.save(tmp_path)
    drawn = type(model).load(tmp_path).draw(0, 0, 50_000)
    again = model.draw(0, 0, 50_000)
    assert drawn.drop_columns(["free"]).equals(again.drop_columns(["free"]))
    for name in ("float", "free", "integer", "date", "stamp", "text"):
        values, made = (sorted(v for v in t[name].to_pylist() if v is not None and v == v) for t in (real, drawn))
        assert made[0] < values[4], name
        assert made[-1] > values[-5], name
    assert all(stamp.hour == 7 for stamp in drawn["stamp"].to_pylist())
    assert all(round(x, 3) == x for x in drawn["float"].to_pylist())


def test_zero_is_a_bound_where_all_but_four_values_lie_on_one_side() -> None:
    rng = np.random.default_rng(8)
    income, debt = rng.gamma(1.5, 100.0, N), -rng.exponential(3.0, N)
    income[:4] = [-5.0, -4.0, -3.0, -2.0]
    table = pa.table({"income": np.round(income, 1), "debt": np.round(debt, 2), "age": rng.integers(18, 90, N)})
    drawn = native(table, sdtypes=dict.fromkeys(table.column_names, "numerical")).draw(1, 0, 100_000)
    assert min(drawn["income"].to_pylist()) >= 0
    assert max(drawn["debt"].to_pylist()) <= 0
    assert min(drawn["age"].to_pylist()) >= 0


def test_a_declared_range_bounds_the_tails() -> None:
    ends = EndRule(declared={"x": (-3.5, 3.5)}).of_rows("x", np.random.default_rng(0).normal(size=N), None)
    assert isinstance(ends, Ends)
    assert ends.declared == (-3.5, 3.5)
