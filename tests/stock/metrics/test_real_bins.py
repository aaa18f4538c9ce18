"""Pairs on the bins of the real table against SDMetrics' ``ContingencySimilarity`` alone."""

from __future__ import annotations

import warnings

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.counted import columns_of, profile_of

from shardsynth.data.coding import TableCoder
from shardsynth.metrics.quality import quality
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.ranges import ScoreRanges

pytest.importorskip("sdmetrics")


def table(rows: int, seed: int, shift: float = 0.0) -> pa.Table:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    return pa.table(
        {
            "group": rng.choice(["a", "b", "c"], rows),
            "flag": np.where(x + rng.normal(size=rows) > 0, "yes", "no"),
            "number": np.where(rng.random(rows) < 0.1, np.nan, x + shift),
            "count": np.rint(20 * x).astype(np.int64),
        }
    )


def on_real_bins(real: pa.Table, synthetic: pa.Table) -> dict:
    columns = columns_of(real)
    coder = TableCoder.from_profile(profile_of(real), columns)
    ranges = ScoreRanges.empty(coder.columns)
    for batch in real.to_batches():
        ranges.update(batch)

    def counted(rows: pa.Table) -> Counts:
        own = ScoreRanges.empty(coder.columns)
        for batch in rows.to_batches():
            own.update(batch)
        halves = [Counts.empty(coder, fit=False, score=own, real=ranges, total_rows=len(rows)) for _ in range(2)]
        middle = len(rows) // 3
        for half, part, first in zip(halves, (rows.slice(0, middle), rows.slice(middle)), (0, middle)):
            for batch in part.combine_chunks().to_batches():
                half.update(batch, first)
        return halves[0].merge(halves[1])

    return quality(counted(real), counted(synthetic), coder)


def test_pairs_are_those_of_sdmetrics_alone() -> None:
    from sdmetrics.column_pairs import ContingencySimilarity

    real, synthetic = table(3000, 1), table(2000, 2, shift=0.4)
    found = {tuple(pair["columns"]): pair for pair in on_real_bins(real, synthetic)["pairs"]}
    for category in ("group", "flag"):
        for number in ("number", "count"):
            frames = [t.select([category, number]).to_pandas() for t in (real, synthetic)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wanted = ContingencySimilarity.compute(*frames, continuous_column_names=[number])
            assert found[category, number]["real_bins"] == pytest.approx(wanted, abs=1e-9)
    assert found["group", "flag"]["real_bins"] == found["group", "flag"]["score"]
    assert found["number", "count"]["real_bins"] == found["number", "count"]["score"]


def test_an_outlier_moves_no_other_row() -> None:
    real, synthetic = table(2000, 1), table(2000, 2)
    numbers = synthetic["count"].to_numpy().copy()
    numbers[3] = 10_000
    figures = on_real_bins(real, synthetic.set_column(3, "count", pa.array(numbers)))
    pair = next(p for p in figures["pairs"] if p["columns"] == ["flag", "count"])
    assert pair["score"] < 0.6
    assert pair["real_bins"] > 0.93
    assert figures["real_bins"]["score"] > figures["score"] - 1e-9
