"""What of the real rows is on the page: nothing that fewer than five of them have."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tables import report_examples as examples

from shardsynth.data.columns import Column
from shardsynth.report.figures import ColumnFigure, column_figures


def figure(values: pa.Array, role: str, made: pa.Array | None = None, sdtype: str | None = None) -> ColumnFigure:
    sdtype = sdtype or {"category": "categorical", "number": "numerical", "datetime": "datetime"}.get(role, role)
    table = pa.table({"x": values})
    coder = examples.coder_of(table, [Column("x", values.type, sdtype, role)])
    synthetic = table if made is None else pa.table({"x": made.cast(values.type)})
    return column_figures(coder, examples.counts_of(coder, table), {"m": examples.counts_of(coder, synthetic)})[0]


def labels(found: ColumnFigure) -> list[str]:
    return [cell.label for cell in (*found.rows, *found.bins)]


def test_a_rare_category_is_counted_without_its_name() -> None:
    real = pa.array(["common"] * 90 + ["rare"] * 4 + ["rarer"] * 3)
    made = pa.array(["common"] * 50 + ["rare"] * 50)
    found = figure(real, "category", made)
    assert labels(found) == ["common", "other (fewer than 5 rows)"]
    assert found.rows[1].real is not None and found.rows[1].synthetic == (0.5,)


def test_a_rest_of_few_rows_is_not_counted_either() -> None:
    found = figure(pa.array(["common"] * 96 + ["rare"] * 4), "category")
    assert [cell.real for cell in found.rows] == [0.95, None]
    assert found.rows[0].synthetic == (0.96,)


def test_few_missing_rows_are_not_counted() -> None:
    found = figure(pa.array(["a"] * 97 + [None] * 3), "category")
    assert found.rows[-1].kind == "missing" and found.rows[-1].real is None
    found = figure(pa.array([1.5] * 50 + [2.5] * 47 + [None] * 3), "number")
    assert [cell.real for cell in found.rows if cell.kind == "missing"] == [None]


def test_real_counts_are_rounded_so_that_a_hidden_one_cannot_be_subtracted() -> None:
    found = figure(pa.array(["a"] * 53 + ["b"] * 44 + [None] * 3), "category")
    assert [cell.real for cell in found.rows] == [0.55, 0.45, None]


def test_thirty_categories_then_all_others() -> None:
    found = figure(pa.array([f"c{k:02d}" for k in range(40) for _ in range(k + 6)]), "category")
    assert len(found.rows) == 31
    assert found.rows[0].label == "c39"
    assert found.rows[-1].label == "all other values (10 of them with 5 rows or more)"


def test_ordinal_categories_keep_their_order() -> None:
    found = figure(pa.array([3] * 10 + [1] * 30 + [2] * 20), "category", sdtype="ordinal")
    assert labels(found) == ["1", "2", "3"]


def test_synthetic_categories_that_are_not_real_are_told_apart_without_their_names() -> None:
    found = figure(pa.array(["a"] * 10), "category", pa.array(["a"] * 5 + ["invented"] * 5))
    assert labels(found) == ["a", "values that are not in the real rows"]
    assert found.rows[-1].synthetic == (0.5,)


def test_the_largest_values_of_few_rows_are_in_an_open_bin() -> None:
    real = pa.array([*np.random.default_rng(0).normal(50, 10, 2000).round(2), 98_765.25])
    found = figure(real, "number")
    assert found.bins[-1].open and found.bins[0].open
    assert not any("98,765" in text or "98765" in text for text in labels(found))
    assert sum(cell.real or 0 for cell in found.bins) > 0.98


def test_a_frequent_value_stands_alone_and_does_not_flatten_the_rest() -> None:
    rng = np.random.default_rng(0)
    found = figure(pa.array([*np.zeros(9000), *rng.lognormal(8, 1, 1000).round()]), "number")
    assert found.rows[0].kind == "value" and found.rows[0].label == "0"
    assert found.rows[0].real == 0.9
    assert max(cell.real or 0 for cell in found.bins) < 0.1


def test_skewed_positive_values_get_a_logarithmic_axis() -> None:
    found = figure(pa.array(np.random.default_rng(0).lognormal(0, 2, 5000)), "number")
    assert found.scale == "log"
    assert 10 <= len(found.bins) <= 60


def test_mostly_whole_decimals_are_no_comb() -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 20, 3000).astype(float)
    whole[:200] += rng.random(200).round(1)
    found = figure(pa.array(whole), "number")
    inner = [cell.real or 0 for cell in found.bins[1:-1]]
    assert min(inner) > 0.5 * max(inner)


def test_dates_get_calendar_bins() -> None:
    days = [dt.date(2001, 1, 1) + dt.timedelta(days=int(d)) for d in np.random.default_rng(0).integers(0, 6000, 3000)]
    for kind in (pa.date32(), pa.timestamp("us"), pa.timestamp("ms", "UTC")):
        found = figure(pa.array(days).cast(pa.timestamp("ms")).cast(kind), "datetime")
        assert found.scale == "calendar"
        assert found.bins[0].label.startswith("less than 2001-")
        assert all(text.isdigit() for _, text in found.ticks)


def test_other_types_of_numbers() -> None:
    rng = np.random.default_rng(0)
    for kind in (pa.int64(), pa.uint8(), pa.float32(), pa.decimal128(9, 2)):
        values = pa.array(rng.integers(0, 100, 500).astype(float)).cast(kind)
        assert sum(cell.real or 0 for cell in figure(values, "number").bins) > 0.9


def test_columns_without_a_figure_say_why() -> None:
    table = pa.table({"id": ["a", "b"], "name": ["x", "y"], "none": pa.nulls(2), "few": [1.0, None]})
    columns = [Column("id", pa.string(), "id", "id"), Column("name", pa.string(), "name", "pii")]
    columns += [Column("none", pa.null(), "categorical", "empty"), Column("few", pa.float64(), "numerical", "number")]
    coder = examples.coder_of(table, columns)
    counts = examples.counts_of(coder, table)
    found = column_figures(coder, counts, {"m": counts})
    assert all(figure.note and not figure.bins for figure in found)
    assert [figure.name for figure in found] == ["id", "name", "none", "few"]


def test_constant_columns() -> None:
    found = figure(pa.array([7] * 100), "number")
    assert labels(found) == ["7"]
    assert labels(figure(pa.array([7.25] * 100), "number")) == ["7.25"]


numbers = st.lists(
    st.one_of(st.none(), st.integers(-5, 5).map(float), st.floats(-1e6, 1e6, width=32), st.floats(-1e-3, 1e-3)),
    min_size=1,
    max_size=120,
)


@settings(max_examples=60, deadline=None)
@given(numbers, numbers)
def test_every_real_cell_is_zero_or_at_least_five_rows(real: list[float | None], made: list[float | None]) -> None:
    if all(value is None for value in real):
        real = [*real, 1.0]
    found = figure(pa.array(real, pa.float64()), "number", pa.array(made, pa.float64()))
    for cell in (*found.rows, *found.bins):
        assert cell.real is None or cell.real == 0 or cell.real * len(real) >= 4.99
    if found.bins:
        assert sum(cell.synthetic[0] for cell in (*found.rows, *found.bins)) > 0.99
        assert found.ticks


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("aaaaaabbbbcdefghij"), min_size=1, max_size=80))
def test_every_named_category_has_five_rows(values: list[str]) -> None:
    for cell in figure(pa.array(values), "category").rows:
        if cell.kind == "category":
            assert values.count(cell.label) >= 5
