"""Mosaics: areas are shares, nothing of few real rows is told."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
from tests.tables import report_examples as examples

from shardsynth.metrics.quality import quality
from shardsynth.report.mosaics import mosaics
from shardsynth.report.number_pairs import MOST_PAIRS


def figure(real: pa.Table, made: pa.Table, least: int = 5):
    coder = examples.coder_of(real)
    counts = [examples.counts_of(coder, table) for table in (real, made)]
    return mosaics(coder, *counts, quality(*counts, coder), least, 100.0)


def test_areas_are_shares_of_the_rows() -> None:
    real = pa.table({"a": ["x"] * 60 + ["y"] * 40, "b": ["p"] * 30 + ["q"] * 30 + ["p"] * 40})
    made = pa.table({"a": ["x"] * 50 + ["y"] * 50, "b": ["p"] * 50 + ["q"] * 50})
    (found,) = figure(real, made)
    assert {found.first, found.second} == {"a", "b"}
    areas = {tile.text: (tile.width + 1.5) * (tile.height + 1.5) / 1e4 for tile in found.real}
    shares = {text: float(re.search(r"([\d.]+)%", text).group(1)) / 100 for text in areas}
    assert sorted(shares.values()) == [0.3, 0.3, 0.4]
    assert all(abs(area - shares[text]) < 0.01 for text, area in areas.items())
    assert [round(t.height * t.width / 1e4, 1) for t in found.synthetic] == [0.5, 0.5]


def test_cells_and_categories_of_few_real_rows_are_not_told() -> None:
    a = ["x"] * 500 + ["y"] * 500 + ["secret"] * 3
    b = ["p"] * 498 + ["q"] * 2 + ["q"] * 500 + ["p"] * 3
    (found,) = figure(pa.table({"a": a, "b": b}), pa.table({"a": a[::-1], "b": b}))
    everything = repr(found)
    assert "secret" not in everything and "fewer than 5 rows" in everything
    told = [t for t in found.real if not t.few]
    counts = [float(re.search(r"([\d.]+)%", t.text).group(1)) * 1003 / 100 for t in told]
    assert all(count > 4 for count in counts)
    assert any(t.few for t in found.real) and not any(t.few for t in found.synthetic)


def test_numbers_are_tenths_and_two_numbers_without_a_table_have_no_mosaic() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    table = pa.table({"x": x, "y": x + rng.normal(size=400), "c": np.where(x > 0, "up", "down")})
    found = figure(table, pa.table({"x": x, "y": table["y"], "c": rng.permutation(table["c"].to_numpy())}))
    assert {(m.first, m.second) for m in found} == {("x", "c"), ("y", "c")}
    assert all("of the range" in t.text or "maximum" in t.text for m in found for t in m.real)
    assert all(t.x >= 0 and t.x + t.width <= 100.1 and t.y + t.height <= 100.1 for m in found for t in m.real)


def test_the_worst_come_first(adult_dir) -> None:
    table = examples.read(adult_dir).slice(0, 4000)
    found = figure(table, examples.spoiled(table, 0.5, 4000, 1))
    assert len(found) == MOST_PAIRS
    assert [m.score for m in found] == sorted(m.score for m in found)
