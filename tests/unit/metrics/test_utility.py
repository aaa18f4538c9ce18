"""Utility, detection and survival on planted models; Kaplan-Meier by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.planted import planted

from shardsynth.metrics.survival import kaplan_meier, survival


def test_kaplan_meier_by_hand() -> None:
    times = np.array([1.0, 2.0, 2.0, 3.0, 4.0])
    happened = np.array([True, True, False, False, True])
    alive, error, at_risk = kaplan_meier(times, happened, np.array([0.0, 1.0, 2.0, 3.5, 4.0]))
    assert alive == pytest.approx([1.0, 0.8, 0.6, 0.6, 0.0])
    assert at_risk.tolist() == [5, 5, 4, 1, 1]
    assert error[1] == pytest.approx(0.8 * np.sqrt(1 / 20))


def test_survival_of_real_rows_agrees_and_of_shifted_rows_does_not() -> None:
    tables = planted("mds", 1500, 500)
    shorter = pa.array(np.asarray(tables.fresh["years"]) / 2)
    at = tables.fresh.schema.get_field_index("years")
    for made, agrees in ((tables.fresh, True), (tables.fresh.set_column(at, "years", shorter), False)):
        found = survival("years", "dead", None, {"real": tables.train, "synthetic": made, "holdout": tables.holdout}, 5)
        assert (found["logrank_p"] > 0.01) is agrees
        assert (found["largest_gap"] < 0.1) is agrees
        assert found["holdout"]["logrank_p"] > 0.01


def test_a_curve_of_real_rows_tells_no_single_death() -> None:
    tables = planted("mds", 400, 100)
    found = survival("years", "dead", None, {"real": tables.train, "synthetic": tables.train}, 5)
    step = 5 / 400
    told = [value for value in found["curves"]["real"]["survival"] if value is not None]
    assert all(abs(value / step - round(value / step)) < 1e-3 for value in told)
    assert not set(found["grid"][1:]) <= set(np.asarray(tables.train["years"]).tolist())


def test_an_event_by_its_text_and_gaps() -> None:
    n = 60
    table = pa.table({"t": pa.array([None, *np.arange(1.0, n)]), "e": pa.array(["1:DEAD", "0:ALIVE", None] * (n // 3))})
    found = survival("t", "e", "1:DEAD", {"real": table, "synthetic": table}, 5)
    assert found["rows"]["real"] == 39 and found["largest_gap"] <= 0.13
