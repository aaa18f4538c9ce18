"""Utility, detection and survival on planted models; Kaplan-Meier by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tests.metrics.planted import Planted, planted

from shardsynth.metrics.detection import detection
from shardsynth.metrics.survival import kaplan_meier, survival
from shardsynth.metrics.utility import utility

TARGETS = {"adult": "income", "mds": "risk"}


@pytest.fixture(scope="module", params=TARGETS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def tables(kind: str) -> Planted:
    return planted(kind, 1500, 600)


def test_independent_columns_are_useless(kind: str, tables: Planted) -> None:
    found = utility(tables.coder, TARGETS[kind], tables.train, tables.holdout, tables.independent, 0)
    assert found["train_real"] > 0.75
    assert abs(found["train_synthetic"] - found["guessing"]) < 0.12
    assert found["gap_low"] > 0.1


def test_real_rows_are_as_useful_and_agree_on_what_matters(kind: str, tables: Planted) -> None:
    found = utility(tables.coder, TARGETS[kind], tables.train, tables.holdout, tables.fresh, 0)
    assert abs(found["gap"]) < 0.03 and found["gap_low"] < 0.02
    assert found["importance"]["columns"][0]["synthetic"] > 0.02
    assert found["importance"]["spearman"] > 0.3


def test_numbers_are_predicted_too_and_ids_are_not(tables: Planted) -> None:
    found = utility(tables.coder, "age", tables.train, tables.holdout, tables.fresh, 0)
    assert found["metric"] == "R2" and found["guessing"] == 0.0
    assert utility(tables.coder, "no such column", tables.train, tables.holdout, tables.fresh, 0) == {}


def test_a_target_of_one_class_is_guessing() -> None:
    tables = planted("adult", 500, 200)
    one = tables.train.filter(pa.compute.equal(tables.train["income"].cast(pa.string()), "low"))
    found = utility(tables.coder, "income", tables.train, tables.holdout, one, 0)
    assert found["train_synthetic"] == 0.5 < found["train_real"]


def test_independent_columns_are_detected_and_real_rows_are_not(tables: Planted) -> None:
    found = detection(tables.coder, tables.train, tables.holdout, tables.independent, 0)
    assert found["low"] > 0.7 and found["giveaways"][0]["drop"] > 0.05
    assert found["holdout"]["low"] < 0.5 < found["holdout"]["high"]
    same = detection(tables.coder, tables.train, tables.holdout, tables.fresh, 0)
    assert same["low"] < 0.5
    assert same["at_holdout_rows"]["rows"] == same["holdout"]["rows"] == 600


def test_the_column_that_gives_them_away_is_named() -> None:
    tables = planted("adult", 2000, 800)
    at = tables.fresh.schema.get_field_index("weight")
    rounded = pa.array(np.asarray(tables.fresh["weight"]) // 100_000 * 100_000, pa.int32())
    found = detection(tables.coder, tables.train, tables.holdout, tables.fresh.set_column(at, "weight", rounded), 0)
    assert found["auc"] > 0.9 and found["giveaways"][0]["column"] == "weight"


def test_the_same_rows_give_the_same_figures(tables: Planted) -> None:
    first, second = (detection(tables.coder, tables.train, tables.holdout, tables.fresh, 3) for _ in range(2))
    assert first == second


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
