"""The default job keeps orders, copies and durations of dates together, whatever else is computed from them."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.whole_job import run_default_job

from shardsynth.api import export_model
from shardsynth.run.constraint_card import read_card

DAY = np.timedelta64(1, "D")


def trial(rows: int = 500) -> pa.Table:
    """Screening, start and end of a treatment as dates and as times, a duration, a study day, the last contact."""
    rng = np.random.default_rng(5)
    screened = np.datetime64("2012-07-01", "D") + rng.integers(0, 700, rows) * DAY
    start = screened + rng.integers(2, 30, rows) * DAY
    end = start + np.where(rng.random(rows) < 0.4, 182 * DAY, rng.integers(0, 190, rows) * DAY)
    last = end + rng.integers(0, 3, rows) ** 3 * rng.integers(0, 9, rows) * DAY
    failed = rng.random(rows) < 0.2
    return pa.table(
        {
            "screened": screened,
            "failed_on": pa.array(screened, mask=~failed),
            "start": pa.array(start, mask=failed),
            "start_time": pa.array(start.astype("datetime64[ms]"), pa.timestamp("ms", "UTC"), mask=failed),
            "end": pa.array(end, mask=failed),
            "end_time": pa.array(
                end.astype("datetime64[ms]") + np.timedelta64(86_399, "s"), pa.timestamp("ms", "UTC"), mask=failed
            ),
            "days": pa.array((end - start).astype(np.int64) + 1, mask=failed),
            "study_day": pa.array((screened - start).astype(np.int64), mask=failed),
            "last": pa.array(last, mask=failed),
            "age": rng.integers(18, 90, rows),
        }
    )


def days_of(table: pa.Table, name: str) -> np.ndarray:
    """Days since 1970, float64[n], NaN where missing."""
    column = table[name].cast(pa.timestamp("s"))
    return np.array([np.nan if v is None else v for v in column.cast(pa.int64()).to_pylist()]) / 86_400


@pytest.mark.parametrize("model", ["gaussian_copula", "tvae"])
def test_no_order_is_broken_and_durations_fit_their_dates(tmp_path: Path, model: str) -> None:
    real = trial()
    options = {"epochs": 2, "batch_size": 100} if model == "tvae" else {}
    run = run_default_job(real, tmp_path, models={model: options})
    made = run.samples(model).to_table()
    dates = [f.name for f in real.schema if pa.types.is_temporal(f.type)]
    held = 0
    for low, high in permutations(dates, 2):
        with np.errstate(invalid="ignore"):
            below = days_of(real, low) <= days_of(real, high)
            if below.sum() < 50 or (days_of(real, low) > days_of(real, high)).any():
                continue
            held += 1
            assert not (days_of(made, low) > days_of(made, high)).any(), (low, high)
    assert held >= 15
    start, end, screened = (days_of(made, name) for name in ("start", "end", "screened"))
    for name, wanted in (("days", end - start + 1), ("study_day", screened - start)):
        values = np.array([np.nan if v is None else v for v in made[name].to_pylist()])
        assert np.array_equal(values, wanted, equal_nan=True), name
    assert np.array_equal(np.isnan(days_of(made, "end_time")), np.isnan(end))
    if model == "gaussian_copula":  # the length of a treatment is learned, not only the lengths that many rows have
        quarters = [np.quantile(t["days"].drop_null().to_numpy(), [0.25, 0.5, 0.75]) for t in (real, made)]
        assert np.abs(quarters[0] - quarters[1]).max() < 40
        said = "\n".join(export_model(run.dir.model(model), tmp_path / "stock.pkl"))
        computed = [column.name for column in read_card(run.dir.model(model)).computed]
        assert {"days", "study_day"} <= set(computed)
        for name in computed:
            assert said.count(f"column {name!r}: not computed any more (") == 1, name
