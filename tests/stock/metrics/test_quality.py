"""``quality`` and ``diagnostic`` against SDMetrics' own reports on the same tables."""

from __future__ import annotations

import datetime
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.tables.counted import columns_of, counts_of, profile_of, read

from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column
from shardsynth.data.values import kind_of
from shardsynth.metrics.diagnostic import diagnostic
from shardsynth.metrics.quality import quality

pytest.importorskip("sdmetrics")


def metadata_of(columns: list[Column]) -> dict[str, object]:
    return {"columns": {c.name: {"sdtype": c.sdtype, **c.options} for c in columns}}


def sdmetrics_quality(real: pa.Table, synthetic: pa.Table, columns: list[Column], thresholds: bool) -> tuple:
    from sdmetrics.reports.single_table import QualityReport

    report = QualityReport()
    report.num_rows_subsample = None
    if not thresholds:
        report.real_correlation_threshold = report.real_association_threshold = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report.generate(real.to_pandas(), synthetic.to_pandas(), metadata_of(columns), verbose=False)
        shapes, pairs = report.get_details("Column Shapes"), report.get_details("Column Pair Trends")
        return report.get_score(), report.get_properties().set_index("Property")["Score"], shapes, pairs


TOLERANCE = {
    "TVComplement": 1e-9,
    "KSComplement": 0.002,
    "ContingencySimilarity": 1e-9,
    "CorrelationSimilarity": 1e-6,
}


def agree(ours: float | None, theirs: float, tolerance: float) -> bool:
    return bool(np.isnan(theirs)) if ours is None else abs(ours - theirs) <= tolerance


def assert_same_report(real: pa.Table, synthetic: pa.Table, columns: list[Column]) -> None:
    coder = TableCoder.from_profile(profile_of(real), columns)
    mine, theirs = counts_of(coder, real), counts_of(coder, synthetic)
    ours = quality(mine, theirs, coder)
    by_pair = {tuple(p["columns"]): p for p in ours["pairs"]}
    for thresholds in (True, False):
        score, properties, shapes, pairs = sdmetrics_quality(real, synthetic, columns, thresholds)
        summary = ours if thresholds else ours["all_pairs"]
        for row in shapes.itertuples():
            found = ours["columns"][row.Column]
            assert found["metric"] == row.Metric
            assert agree(found["score"], row.Score, TOLERANCE[row.Metric]), (row.Column, found, row.Score)
        assert len(by_pair) == len(pairs)
        for row in pairs.itertuples(index=False):
            name, metric, expected, meets = (row[0], row[1]), row[2], row[3], row[7]
            found = by_pair[name]
            assert found["metric"] == metric
            if thresholds:
                contributes = bool(meets) if not pd.isna(meets) else False
                assert found["contributes"] == (contributes and not np.isnan(expected)), (name, found, expected)
            if not thresholds or not np.isnan(expected):
                assert agree(found["score"], expected, TOLERANCE[metric]), (name, found, expected)
        assert agree(summary["column_pair_trends"], properties["Column Pair Trends"], 1e-6)
        assert agree(summary["column_shapes"], properties["Column Shapes"], 0.001)
        assert agree(summary["score"], score, 0.001)


def shuffled(table: pa.Table, share: float, seed: int = 0) -> pa.Table:
    """A share of the rows of each column changes places: margins stay, dependence weakens."""
    rng = np.random.default_rng(seed)
    table = table.combine_chunks()
    arrays = []
    for column in table.columns:
        places = np.arange(len(table))
        moved = rng.choice(len(table), int(share * len(table)), replace=False)
        places[moved] = rng.permutation(moved)
        arrays.append(column.take(pa.array(places)))
    return pa.Table.from_arrays(arrays, schema=table.schema)


def bootstrapped(table: pa.Table, rows: int, seed: int = 1) -> pa.Table:
    return table.take(pa.array(np.random.default_rng(seed).integers(0, len(table), rows)))


def clipped(table: pa.Table, seed: int = 2) -> pa.Table:
    """As stock SDV's: numbers from a normal distribution, clipped to the real range; rare categories lost."""
    rng = np.random.default_rng(seed)
    arrays = []
    for field, column in zip(table.schema, table.columns):
        kind = kind_of(field.type)
        if kind in ("integer", "float"):
            values = column.to_pandas().to_numpy(dtype=np.float64, na_value=np.nan)
            low, high = np.nanmin(values), np.nanmax(values)
            drawn = np.clip(rng.normal(np.nanmean(values), np.nanstd(values) * 1.2, len(values)), low, high)
            drawn = np.rint(drawn) if kind == "integer" else np.round(drawn, 2)
            arrays.append(pa.array(drawn, mask=np.isnan(values)).cast(field.type, safe=False))
        else:
            places = rng.integers(0, max(len(table) // 50, 1), len(table))
            arrays.append(column.take(pa.array(places)).combine_chunks())
    return pa.Table.from_arrays(arrays, schema=table.schema)


@pytest.mark.parametrize("make", [lambda t: shuffled(t, 0.3), lambda t: bootstrapped(t, 20_000), clipped])
def test_quality_of_adult_is_sdmetrics(adult_dir: Path, make) -> None:
    real = read(adult_dir)
    assert_same_report(real, make(real), columns_of(real))


def test_quality_of_mds_is_sdmetrics(mds_dir: Path) -> None:
    real = read(mds_dir)
    assert_same_report(real, shuffled(real, 0.5), columns_of(real, {"ID": "id"}))


def test_quality_of_some_mds_columns_against_a_poor_model_is_sdmetrics(mds_dir: Path) -> None:
    real = read(mds_dir)
    real = real.select([name for k, name in enumerate(real.column_names[1:]) if k < 24 or k % 5 == 0])
    assert_same_report(real, clipped(real), columns_of(real))


def odd_table(seed: int, rows: int = 400) -> pa.Table:
    rng = np.random.default_rng(seed)
    day = rng.integers(0, 3000, rows)
    nan = np.where(rng.random(rows) < 0.2, np.nan, np.round(rng.normal(size=rows), 2))
    stamps = pa.array(day * 86_400_000 + 5, pa.int64()).cast(pa.timestamp("ms"))
    return pa.table(
        {
            "when": stamps,
            "zoned": pa.array(day * 7_000_000, mask=rng.random(rows) < 0.1).cast(pa.timestamp("us", "Europe/Berlin")),
            "text day": [str(datetime.date(2000, 1, 1) + datetime.timedelta(days=int(d))) for d in day],
            "gone": pa.array([None] * rows, pa.string()),
            "gone number": pa.array([None] * rows, pa.float64()),
            "constant": pa.array(np.full(rows, 7), pa.int16()),
            "constant word": ["same"] * rows,
            "yes": pa.array(day % 3 == 0, mask=rng.random(rows) < 0.1),
            "sure": pa.array(day > 1500),
            "nan": pa.array(nan),
            "half": pa.array((day / 3000).astype(np.float32)),
            "big": pa.array(day.astype(np.uint64) * 2**50),
            "word": pa.array([f"w{d % 5}" if d % 7 else None for d in day]).dictionary_encode(),
            "many": [f"m{d % 300}" for d in day],
        }
    )


ODD = {"gone": "categorical", "gone number": "numerical", "yes": "boolean", "text day": "datetime"}


def test_quality_of_odd_columns_is_sdmetrics() -> None:
    real = odd_table(0)
    assert_same_report(real, odd_table(1, 300), columns_of(real, ODD))


def test_unseen_categories_and_values_beyond_the_range_are_compared_too() -> None:
    rng = np.random.default_rng(3)
    real = pa.table({"c": list("aabbc" * 200), "n": rng.normal(size=1000), "m": rng.normal(size=1000)})
    synthetic = pa.table({"c": list("aaxxb" * 200), "n": rng.normal(1, 3, 1000), "m": rng.normal(size=1000)})
    assert_same_report(real, synthetic, columns_of(real))


def test_a_constant_synthetic_column_gives_no_correlation() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=500)
    real = pa.table({"x": x, "y": x + 0.1 * rng.normal(size=500), "z": rng.normal(size=500)})
    synthetic = pa.table({"x": x, "y": np.zeros(500), "z": x})
    assert_same_report(real, synthetic, columns_of(real))


def sdmetrics_diagnostic(real: pa.Table, synthetic: pa.Table, columns: list[Column]) -> tuple:
    from sdmetrics.reports.single_table import DiagnosticReport

    report = DiagnosticReport()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report.generate(real.to_pandas(), synthetic.to_pandas(), metadata_of(columns), verbose=False)
        return report.get_score(), report.get_details("Data Validity")


def assert_same_diagnostic(real: pa.Table, synthetic: pa.Table, columns: list[Column]) -> None:
    profile = profile_of(real)
    coder = TableCoder.from_profile(profile, columns)
    ours = diagnostic(profile, counts_of(coder, synthetic), coder)
    score, details = sdmetrics_diagnostic(real, synthetic, columns)
    for row in details.itertuples():
        if row.Metric in ("BoundaryAdherence", "CategoryAdherence"):
            assert ours["columns"][row.Column]["metric"] == row.Metric
            assert agree(ours["columns"][row.Column]["score"], row.Score, 1e-9), (row.Column, row.Score)
    assert agree(ours["score"], score, 1e-9)


def test_diagnostic_of_adult_is_sdmetrics(adult_dir: Path) -> None:
    real = read(adult_dir)
    odd = shuffled(real, 0.5)
    far = pc.add(odd["capital-gain"], pa.scalar(50, pa.int32()))
    odd = odd.set_column(odd.schema.get_field_index("capital-gain"), "capital-gain", far)
    assert_same_diagnostic(real, odd, columns_of(real))
    some = bootstrapped(real, 3000)
    assert_same_diagnostic(some, real, columns_of(real))


def test_diagnostic_follows_the_ranges_of_the_metadata() -> None:
    rng = np.random.default_rng(5)
    rows = 1000
    real = pa.table(
        {
            "n": pa.array(np.round(rng.normal(size=rows), 1), mask=rng.random(rows) < 0.1),
            "f": pa.array(np.round(rng.random(rows), 1).astype(np.float32)),
            "d": pa.array(rng.integers(0, 100, rows) * 1000, pa.int64()).cast(pa.timestamp("ms")),
            "c": rng.choice(list("abc"), rows),
        }
    )
    columns = [
        Column("n", pa.float64(), "numerical", "number", {"range_min": -1.0, "range_max": 1.5}),
        Column("f", pa.float32(), "numerical", "number", {"range_min": 0.1, "range_is_nullable": True}),
        Column("d", pa.timestamp("ms"), "datetime", "datetime", {"range_max": "1970-01-01 00:01:00"}),
        Column("c", pa.string(), "categorical", "category", {"range_values": ["a", "b"], "range_is_nullable": False}),
    ]
    assert_same_diagnostic(real, shuffled(real, 0.5), columns)


def test_diagnostic_of_odd_columns_is_sdmetrics() -> None:
    real = odd_table(0)
    columns = columns_of(real, ODD)
    profile = profile_of(real)
    coder = TableCoder.from_profile(profile, columns)
    synthetic = odd_table(1, 300)
    ours = diagnostic(profile, counts_of(coder, synthetic), coder)
    _, details = sdmetrics_diagnostic(real, synthetic, columns)
    for row in details.itertuples():
        if row.Metric in ("BoundaryAdherence", "CategoryAdherence"):
            assert agree(ours["columns"][row.Column]["score"], row.Score, 1e-9), (row.Column, row.Score)
