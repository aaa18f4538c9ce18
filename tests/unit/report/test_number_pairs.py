"""Pairs of two numbers as tables: round cuts, a bin for a frequent value, no real cell of few rows."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from tests.tables import report_examples as examples

from shardsynth.metrics.quality import quality
from shardsynth.report.mosaics import mosaics
from shardsynth.report.number_pairs import number_pairs


def tables(real: pa.Table, made: pa.Table, least: int = 5) -> list[dict[str, Any]]:
    coder = examples.coder_of(real)
    counts = [examples.counts_of(coder, table) for table in (real, made)]
    return number_pairs(coder, quality(*counts, coder), real, made, least)


def normal(rows: int, correlation: float, seed: int = 0) -> pa.Table:
    draws = np.random.default_rng(seed).normal(size=(2, rows))
    return pa.table({"x": draws[0], "y": correlation * draws[0] + np.sqrt(1 - correlation**2) * draws[1]})


def test_shares_are_those_of_the_rows_in_each_bin() -> None:
    real, made = normal(4000, 0.9), normal(4000, 0.0, 1)
    (found,) = tables(real, made)
    assert found["columns"] == ["x", "y"] and found["bins"][0][0] == "under -1.15"
    cuts = [float(text) for text in found["cuts"][0]]
    low = float((np.digitize(made["x"].to_numpy(), cuts) == 0).mean())
    assert abs(sum(found["synthetic"][0]) - low) < 1e-5
    assert abs(sum(sum(row) for row in found["synthetic"]) - 1) < 1e-4
    assert sum(share or 0 for row in found["real"] for share in row) > 0.999
    # A strong correlation fills the corners, none spreads evenly.
    assert found["real"][0][0] > 0.07 > 0.03 > found["synthetic"][0][0] > 0.005


def test_a_real_cell_of_few_rows_is_not_told() -> None:
    real = normal(1000, 0.95)
    (found,) = tables(real, normal(1000, 0.5, 1))
    cuts = [np.array([float(text) for text in texts]) for texts in found["cuts"]]
    counts = np.zeros((len(cuts[0]) + 1, len(cuts[1]) + 1), int)
    np.add.at(counts, tuple(np.digitize(real[name].to_numpy(), c) for name, c in zip("xy", cuts)), 1)
    hidden = np.array([[share is None for share in row] for row in found["real"]])
    assert hidden.any() and (hidden == ((counts > 0) & (counts < 5))).all()
    rounded = np.where(hidden, 0, 5 * np.rint(counts / 5))
    told = np.array([[share or 0.0 for share in row] for row in found["real"]])
    assert np.abs(told - rounded / rounded.sum()).max() < 1e-5


def test_a_frequent_value_and_missing_values_have_bins_of_their_own() -> None:
    rng = np.random.default_rng(0)
    x = np.where(rng.random(2000) < 0.6, 0.0, rng.gamma(2.0, 50.0, 2000)).round(1)
    y = x + rng.normal(size=2000)
    y[:100] = np.nan
    real = pa.table({"x": x, "y": pa.array(y, from_pandas=True)})
    (found,) = tables(real, real)
    assert found["bins"][0][0] == "0 or less" and found["bins"][0][1].startswith("over 0 to ")
    assert found["bins"][1][-1] == "missing" and len(found["real"][0]) == len(found["bins"][1])
    assert abs(sum(share or 0 for row in found["real"] for share in row[-1:]) - 0.05) < 0.01


def test_dates_are_cut_at_the_calendars_marks() -> None:
    days = np.random.default_rng(0).integers(0, 3000, 500)
    dates = [datetime.date(2010, 1, 1) + datetime.timedelta(int(day)) for day in days]
    real = pa.table({"seen": pa.array(dates), "left": pa.array([d + datetime.timedelta(30) for d in dates])})
    (found,) = tables(real, real)
    assert all(text.isdigit() and 2009 < int(text) < 2020 for text in found["cuts"][0])


def test_the_worst_pairs_of_numbers_are_there_whatever_the_pairs_of_categories_score() -> None:
    rng = np.random.default_rng(0)
    flags = {f"c{k}": rng.choice(["a", "b"], 600) for k in range(5)}
    real = pa.table({**flags, **{f"x{k}": rng.normal(size=600) for k in range(4)}})
    shuffled = {name: pa.array(np.where(rng.random(600) < 0.5, "a", v)) for name, v in flags.items()}
    made = pa.table({**shuffled, **{name: real[name] for name in real.column_names if name[0] == "x"}})
    assert len(tables(real, made)) == 3


def test_constants_few_rows_and_categories_have_none() -> None:
    c = pa.array(["a", "b"] * 20)
    assert tables(pa.table({"c": c, "x": range(40)}), pa.table({"c": c, "x": range(40)})) == []
    few = pa.table({"x": [1.5, 2.5, 3.5, 4.0], "y": [1.0, 2.0, 3.0, 4.5]})
    assert tables(few, few) == []


def test_they_are_drawn_among_the_worst_pairs() -> None:
    real, made = normal(3000, 0.9), normal(3000, 0.0, 1)
    coder = examples.coder_of(real)
    counts = [examples.counts_of(coder, table) for table in (real, made)]
    scores = quality(*counts, coder)
    (drawn,) = mosaics(coder, *counts, scores, 5, 100.0, number_pairs(coder, scores, real, made, 5))
    assert (drawn.first, drawn.second) == ("x", "y") and drawn.names == () and drawn.across and drawn.upward
    assert all(t.x >= 0 and t.x + t.width <= 100 and t.y >= 0 and t.y + t.height <= 100 for t in drawn.real)
    assert any(t.few and "fewer than 5 rows" in t.text for t in drawn.real)
    assert all((t.shade is None) == t.few for t in drawn.real) and max(t.shade for t in drawn.real if not t.few) == 1
    lowest = next(t for t in drawn.real if t.text.startswith("under") and ", under" in t.text)
    assert lowest.x == 0 and lowest.y + lowest.height > 90  # the origin is at the lower left
